//! LocalSubjectAccessReview: its entry and its rules.

use serde_json::Value;

use super::AUTHORIZATION;
use crate::{
    field::{Errors, Path},
    json::{get, has, text},
    kinds::Entry,
    validate::review::subject_access,
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    namespaced: true,
    validate,
    ..AUTHORIZATION
};

/// A LocalSubjectAccessReview: about its own namespace only.
fn validate(value: &Value, errors: &mut Errors) {
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
