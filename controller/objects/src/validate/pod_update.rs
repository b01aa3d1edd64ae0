//! What may change in a pod once it exists.

use std::collections::BTreeSet;

use serde_json::Value;

use super::affinity::same_toleration;
use crate::{
    field::{Errors, Path},
    json::{get, is_empty, items, items_mut, text},
};

const RULE: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
    additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)";

/// A change of a pod: images, the deadline, more tolerations; nothing else of its spec.
pub(crate) fn pod(old: &Value, new: &Value, errors: &mut Errors) {
    super::status::pod_update(old, new, errors);
    let path = Path::new("spec");
    let (old, new) = (get(old, "spec"), get(new, "spec"));
    // Most changes of a pod are reports of its status.
    if old == new {
        return;
    }
    for list in ["initContainers", "containers"] {
        if items(old, list).len() != items(new, list).len() {
            errors.forbidden(&path.child(list), "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(old, new, &path, errors);
    let kept = items(old, "tolerations")
        .iter()
        .all(|toleration| items(new, "tolerations").iter().any(|other| same_toleration(toleration, other)));
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(&path.child("tolerations"), detail);
    }
    let mut mended = new.clone();
    put_back(old, &mut mended);
    let mut changed = BTreeSet::new();
    differences(old, &mended, &path, &mut changed);
    if !changed.is_empty() {
        let fields = changed.into_iter().collect::<Vec<_>>().join(", ");
        errors.forbidden(&path, format!("{RULE}; changed here: {fields}"));
    }
}

/// A pod that has no node gets one; nothing else of its spec changes.
pub(crate) fn binding(old: &Value, new: &Value, errors: &mut Errors) {
    super::status::pod_update(old, new, errors);
    let path = Path::new("spec").child("nodeName");
    let (old, new) = (get(old, "spec"), get(new, "spec"));
    if !is_empty(get(old, "nodeName")) {
        errors.forbidden(&path, "the pod has a node already");
    }
    for message in super::formats::subdomain(text(new, "nodeName")) {
        errors.invalid(&path, text(new, "nodeName"), message);
    }
    let kept = |spec: &Value, other: &Value| {
        spec.as_object()
            .into_iter()
            .flatten()
            .all(|(field, value)| field == "nodeName" || get(other, field) == value)
    };
    if !(kept(old, new) && kept(new, old)) {
        errors.forbidden(&Path::new("spec"), "a binding may change nothing but `spec.nodeName`");
    }
}

/// The deadline may be set or come nearer, not vanish or go further.
fn deadline(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("activeDeadlineSeconds");
    let (old, new) = (get(old, "activeDeadlineSeconds").as_i64(), get(new, "activeDeadlineSeconds").as_i64());
    match (old, new) {
        (Some(before), Some(after)) if after > before => {
            errors.invalid(&path, after, "must be less than or equal to previous value");
        }
        (Some(_), None) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

/// Undoes the changes that are allowed, so that what is left is not.
fn put_back(old: &Value, new: &mut Value) {
    let Some(map) = new.as_object_mut() else { return };
    for field in ["activeDeadlineSeconds", "tolerations"] {
        match get(old, field) {
            Value::Null => map.remove(field),
            value => map.insert(field.to_owned(), value.clone()),
        };
    }
    for list in ["initContainers", "containers"] {
        for (before, after) in items(old, list).iter().zip(items_mut(new, list)) {
            if let (Some(after), image) = (after.as_object_mut(), get(before, "image"))
                && !image.is_null()
            {
                after.insert("image".to_owned(), image.clone());
            }
        }
    }
}

/// The paths at which two values differ; what is empty equals what is absent.
fn differences(old: &Value, new: &Value, path: &Path, changed: &mut BTreeSet<String>) {
    match (old, new) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
                differences(get(old, key), get(new, key), &path.child(key), changed);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(left, right, &path.index(index), changed);
            }
        }
        _ if old == new || (is_empty(old) && is_empty(new)) => {}
        _ => {
            changed.insert(path.to_string());
        }
    }
}
