//! What exists in every cluster from its first start.

use serde_json::{Value, json};
use warren_plan::resources;
use warren_store::{CommitError, Key, Store, Transaction};

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates the namespaces that clients take for granted; those that exist are left alone.
pub(crate) async fn namespaces(store: &dyn Store) -> anyhow::Result<()> {
    for name in NAMESPACES {
        let value = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": metadata(name, json!({"kubernetes.io/metadata.name": name})),
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        match store.commit(Transaction::new().create(Key::new(resources::NAMESPACES, "", name), value)).await
        {
            Ok(_) | Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Metadata of an object that the controller makes itself.
pub(crate) fn metadata(name: &str, labels: Value) -> Value {
    json!({
        "name": name,
        "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "labels": labels,
    })
}
