//! SelfSubjectRulesReview: its entry and its rules.

use serde_json::Value;

use super::AUTHORIZATION;
use crate::{
    field::{Errors, Path},
    json::text,
    kinds::Entry,
};

pub(crate) const ENTRY: Entry =
    Entry { kind: "SelfSubjectRulesReview", plural: "selfsubjectrulesreviews", validate, ..AUTHORIZATION };

fn validate(value: &Value, errors: &mut Errors) {
    if text(value, "spec.namespace").is_empty() {
        errors.required(&Path::new("spec").child("namespace"), "no namespace on request");
    }
}
