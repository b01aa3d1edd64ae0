//! Defaults of what keeps pods running, and of the pod templates in it.

use serde_json::Value;

use crate::{
    defaults::pod,
    json::{ensure_map, get, is_empty},
};

/// The pod template in a workload's spec.
pub(crate) fn fill_template(spec: &mut Value) {
    if let Some(template) = ensure_map(spec, "template")
        && let Some(pod_spec) = ensure_map(template, "spec")
    {
        pod::spec_of_pod_or_template(pod_spec);
    }
}

/// Gives an object without labels those of its template.
pub(crate) fn labels_from_template(value: &mut Value, labels: Value) {
    if let Some(metadata) = ensure_map(value, "metadata")
        && is_empty(get(metadata, "labels"))
    {
        metadata["labels"] = labels;
    }
}
