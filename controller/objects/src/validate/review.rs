//! The rules of questions about who somebody is, and what they may.

use serde_json::Value;

use super::required_text;
use crate::{
    field::{Errors, Path},
    json::{get, has, is_empty, text},
};

/// A TokenReview.
pub(crate) fn token(value: &Value, errors: &mut Errors) {
    required_text(get(value, "spec"), "token", &Path::new("spec"), errors);
}

/// A SelfSubjectRulesReview.
pub(crate) fn self_subject_rules(value: &Value, errors: &mut Errors) {
    if text(value, "spec.namespace").is_empty() {
        errors.required(&Path::new("spec").child("namespace"), "no namespace on request");
    }
}

/// A SelfSubjectAccessReview.
pub(crate) fn self_subject_access(value: &Value, errors: &mut Errors) {
    attributes(get(value, "spec"), errors);
}

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

/// A LocalSubjectAccessReview: about its own namespace only.
pub(crate) fn local_subject_access(value: &Value, errors: &mut Errors) {
    subject_access(value, errors);
    let path = Path::new("spec");
    let (own, asked) = (text(value, "metadata.namespace"), text(value, "spec.resourceAttributes.namespace"));
    if own != asked {
        let path = path.child("resourceAttributes").child("namespace");
        errors.invalid(&path, asked, "must match metadata.namespace");
    }
    if has(get(value, "spec"), "nonResourceAttributes") {
        let path = path.child("nonResourceAttributes");
        errors.invalid(&path, Value::Null, "disallowed on this kind of request");
    }
}

fn attributes(spec: &Value, errors: &mut Errors) {
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
