//! TokenReview: its entry and its rules.

use serde_json::Value;

use super::AUTHENTICATION;
use crate::{
    field::{Errors, Path},
    json::get,
    kinds::Entry,
    validate::required_text,
};

pub(crate) const ENTRY: Entry =
    Entry { kind: "TokenReview", plural: "tokenreviews", validate, ..AUTHENTICATION };

fn validate(value: &Value, errors: &mut Errors) {
    required_text(get(value, "spec"), "token", &Path::new("spec"), errors);
}
