//! The ConfigMap of every namespace by which pods know the API.

use serde_json::{Value, json};

/// What it is called.
pub const NAME: &str = "kube-root-ca.crt";
/// The key of the certificates in it.
pub const KEY: &str = "ca.crt";

/// What it holds.
pub fn data(certificates: &str) -> Value {
    json!({ KEY: certificates })
}

/// A new one; its metadata need not say what it is for.
pub fn config_map(mut metadata: Value, certificates: &str) -> Value {
    metadata["annotations"] = json!({
        "kubernetes.io/description":
            "The certificates by which pods know the Kubernetes API. Warren keeps them as they are.",
    });
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data(certificates)})
}
