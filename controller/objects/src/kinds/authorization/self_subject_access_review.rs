//! SelfSubjectAccessReview: its entry and its rules.

use serde_json::Value;

use super::AUTHORIZATION;
use crate::{field::Errors, json::get, kinds::Entry, validate::review::attributes};

pub(crate) const ENTRY: Entry =
    Entry { kind: "SelfSubjectAccessReview", plural: "selfsubjectaccessreviews", validate, ..AUTHORIZATION };

fn validate(value: &Value, errors: &mut Errors) {
    attributes(get(value, "spec"), errors);
}
