//! The rules of Nodes, Events, Leases, PriorityClasses and RuntimeClasses.

use serde_json::Value;

use super::{affinity, container, formats, formed, immutable, not_negative, one_of, required_text};
use crate::{
    field::{Errors, Path},
    json::{entries, get, has, int, text},
};

/// The highest priority that users may give.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;
/// The classes of the cluster itself, with their priorities.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// A Node.
pub(crate) fn node(value: &Value, errors: &mut Errors) {
    affinity::taints(get(value, "spec"), &Path::new("spec"), errors);
    for list in ["capacity", "allocatable"] {
        for (name, quantity) in entries(get(value, "status"), list) {
            container::quantity(quantity, &Path::new("status").child(list).key(name), errors);
        }
    }
}

/// A change of a Node: its pod addresses stay once given.
pub(crate) fn node_update(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (get(old, "spec"), get(new, "spec"));
    for field in ["podCIDR", "providerID"] {
        if has(before, field) && !text(before, field).is_empty() && text(before, field) != text(after, field)
        {
            let detail = format!("node updates may not change {field} except from \"\" to valid");
            errors.forbidden(&Path::new("spec").child(field), detail);
        }
    }
    super::status::node_update(old, new, errors);
}

/// An Event: it lies in the namespace of what it is about.
pub(crate) fn event(value: &Value, errors: &mut Errors) {
    let (own, involved) = (text(value, "metadata.namespace"), text(value, "involvedObject.namespace"));
    // What has no namespace is reported in "default".
    let expected =
        if involved.is_empty() && ["default", "kube-system"].contains(&own) { own } else { involved };
    if !own.is_empty() && own != expected {
        let path = Path::new("involvedObject").child("namespace");
        errors.invalid(&path, involved, "does not match event.namespace");
    }
}

/// A Lease.
pub(crate) fn lease(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    not_negative(spec, "leaseTransitions", &path, errors);
}

/// A PriorityClass.
pub(crate) fn priority_class(value: &Value, errors: &mut Errors) {
    let (name, priority) = (text(value, "metadata.name"), int(value, "value").unwrap_or(0));
    if name.starts_with("system-") {
        if !SYSTEM_CLASSES.contains(&(name, priority)) {
            let detail = "priority class names with 'system-' prefix are reserved for system use only";
            errors.forbidden(&Path::new("metadata.name"), detail);
        }
    } else if priority > HIGHEST_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
        errors.forbidden(&Path::new("value"), detail);
    }
    one_of(value, "preemptionPolicy", &Path::default(), &["Never", "PreemptLowerPriority"], errors);
}

/// A change of a PriorityClass: what it means to pods stays.
pub(crate) fn priority_class_update(old: &Value, new: &Value, errors: &mut Errors) {
    if int(old, "value") != int(new, "value") {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let field = "preemptionPolicy";
    immutable(get(old, field), get(new, field), &Path::new(field), errors);
}

/// A RuntimeClass.
pub(crate) fn runtime_class(value: &Value, errors: &mut Errors) {
    let root = Path::default();
    if required_text(value, "handler", &root, errors) {
        formed(value, "handler", &root, formats::label, errors);
    }
    for (name, quantity) in entries(get(value, "overhead"), "podFixed") {
        container::quantity(quantity, &Path::new("overhead").child("podFixed").key(name), errors);
    }
}

/// A change of a RuntimeClass: its handler stays.
pub(crate) fn runtime_class_update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "handler"), get(new, "handler"), &Path::new("handler"), errors);
}
