//! The rules of roles and bindings, with Kubernetes' messages.

use serde_json::Value;

use super::GROUP;
use crate::{
    field::{Errors, Path},
    json::{default_to, get, has, is_empty, items, items_mut, text},
    validate::{
        formats::{path_segment, subdomain},
        formed, required_text,
    },
};

const SUBJECTS: [&str; 3] = ["ServiceAccount", "User", "Group"];

/// The rules of a role; those of a namespace are about resources alone.
pub(super) fn rules(role: &Value, namespaced: bool, errors: &mut Errors) {
    for (index, rule) in items(role, "rules").iter().enumerate() {
        let path = Path::new("rules").index(index);
        let lacks = |field: &str| is_empty(get(rule, field));
        if lacks("verbs") {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        if !lacks("nonResourceURLs") {
            let (path, urls) = (path.child("nonResourceURLs"), get(rule, "nonResourceURLs"));
            if namespaced {
                errors.invalid(&path, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !lacks(field)) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&path, urls.clone(), detail);
            }
            continue;
        }
        if lacks("apiGroups") {
            errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if lacks("resources") {
            errors.required(&path.child("resources"), "resource rules must supply at least one resource");
        }
    }
}

/// A binding, which may give roles of some kinds.
pub(super) fn binding(value: &Value, namespaced: bool, errors: &mut Errors) {
    let (role, path) = (get(value, "roleRef"), Path::new("roleRef"));
    if text(role, "apiGroup") != GROUP {
        errors.not_supported(&path.child("apiGroup"), text(role, "apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        errors.not_supported(&path.child("kind"), text(role, "kind"), kinds);
    }
    if required_text(role, "name", &path, errors) {
        formed(role, "name", &path, path_segment, errors);
    }
    for (index, subject) in items(value, "subjects").iter().enumerate() {
        self::subject(subject, namespaced, &Path::new("subjects").index(index), errors);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path, errors: &mut Errors) {
    required_text(subject, "name", path, errors);
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            formed(subject, "name", path, subdomain, errors);
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &SUBJECTS),
    }
}

/// What is bound to stay: who shall have another role needs another binding.
pub(super) fn keep_role(old: &Value, new: &Value, errors: &mut Errors) {
    if get(old, "roleRef") != get(new, "roleRef") {
        errors.invalid(&Path::new("roleRef"), get(new, "roleRef").clone(), "cannot change roleRef");
    }
}

/// Groups that need not be said.
pub(super) fn complete(value: &mut Value) {
    if has(value, "roleRef") {
        default_to(&mut value["roleRef"], "apiGroup", GROUP);
    }
    for subject in items_mut(value, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_to(subject, "apiGroup", GROUP);
        }
    }
}
