//! Defaults of Namespaces, Nodes, Secrets and of classes.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::pod::numbers_to_quantities;
use crate::json::{default_to, ensure_map, has, text};

/// The label by which selectors find a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A Namespace: its name as a label, and the finalizer that empties it before it goes.
pub(crate) fn namespace(value: &mut Value) {
    let deleting = has(&value["metadata"], "deletionTimestamp");
    let name = text(value, "metadata.name").to_owned();
    if !name.is_empty()
        && let Some(metadata) = ensure_map(value, "metadata")
        && let Some(labels) = ensure_map(metadata, "labels")
    {
        labels[NAME_LABEL] = name.into();
    }
    // A namespace on its way out has lost its finalizer for good.
    if !deleting && let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "finalizers", json!(["kubernetes"]));
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "phase", if deleting { "Terminating" } else { "Active" });
    }
}

/// A Node: all of its capacity is allocatable unless it says otherwise.
pub(crate) fn node(value: &mut Value) {
    let Some(status) = value.get_mut("status").filter(|status| status.is_object()) else { return };
    for list in ["capacity", "allocatable"] {
        if let Some(quantities) = status.get_mut(list) {
            numbers_to_quantities(quantities);
        }
    }
    if let Some(capacity) = status.get("capacity").cloned() {
        default_to(status, "allocatable", capacity);
    }
}

/// A Secret: its type, and the texts of `stringData` moved into `data`.
pub(crate) fn secret(value: &mut Value) {
    default_to(value, "type", "Opaque");
    let Some(Value::Object(texts)) = value.as_object_mut().and_then(|map| map.remove("stringData")) else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    if let Some(data) = ensure_map(value, "data") {
        for (key, text) in texts {
            data[key.as_str()] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }
}

/// A PriorityClass.
pub(crate) fn priority_class(value: &mut Value) {
    default_to(value, "preemptionPolicy", "PreemptLowerPriority");
}

/// An IngressClass.
pub(crate) fn ingress_class(value: &mut Value) {
    if let Some(parameters) = value.get_mut("spec").and_then(|spec| spec.get_mut("parameters")) {
        default_to(parameters, "scope", "Cluster");
    }
}

#[cfg(test)]
mod tests {
    use crate::defaults::apply;
    use serde_json::json;

    #[test]
    fn secrets_fold_their_texts() {
        let mut value = json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "hello", "c": "ü"}});
        apply("secrets", &mut value);
        assert_eq!(value, json!({"type": "Opaque", "data": {"a": "eA==", "b": "aGVsbG8=", "c": "w7w="}}));
    }

    #[test]
    fn namespaces() {
        let mut value = json!({"metadata": {"name": "shop"}});
        apply("namespaces", &mut value);
        assert_eq!(value["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
        assert_eq!(value["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(value["status"]["phase"], "Active");
        let mut value = json!({"metadata": {"name": "shop", "deletionTimestamp": "2026-11-22T12:00:00Z"}});
        apply("namespaces", &mut value);
        assert!(value["spec"].get("finalizers").is_none());
        assert_eq!(value["status"]["phase"], "Terminating");
    }

    #[test]
    fn nodes() {
        let mut value = json!({"status": {"capacity": {"cpu": 4, "memory": "8Gi"}}});
        apply("nodes", &mut value);
        assert_eq!(value["status"]["allocatable"], json!({"cpu": "4", "memory": "8Gi"}));
    }
}
