//! The rules of questions about who a user is, and what they may do.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, has, is_empty, text},
};

/// A SubjectAccessReview.
pub(crate) fn subject_access(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    attributes(spec, errors);
    if text(spec, "user").is_empty() && is_empty(get(spec, "groups")) {
        errors.invalid(
            &path.child("user"),
            text(spec, "user"),
            "at least one of user or group must be specified",
        );
    }
}

pub(crate) fn attributes(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    match (has(spec, "resourceAttributes"), has(spec, "nonResourceAttributes")) {
        (true, true) => {
            let shown = get(spec, "nonResourceAttributes").clone();
            let detail = "cannot be specified in combination with resourceAttributes";
            errors.invalid(&path.child("nonResourceAttributes"), shown, detail);
        }
        (false, false) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&path.child("resourceAttributes"), Value::Null, detail);
        }
        _ => {}
    }
}
