//! The rules of Nodes and Events.

use serde_json::Value;

use super::{affinity, container};
use crate::{
    field::{Errors, Path},
    json::{entries, get, has, text},
};

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
