//! What exists in every cluster from its first start.

use serde_json::{Value, json};
use warren_access::defaults::{self, Mending};
use warren_objects::kinds::SYSTEM_CLASSES;
use warren_store::{Key, Transaction};
use warren_vocabulary::{ClusterConfig, resources};

use crate::writes::Writer;

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates the namespaces that clients take for granted; those that exist are left alone.
pub(crate) async fn namespaces(writer: &Writer) -> anyhow::Result<()> {
    for name in NAMESPACES {
        let value = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": metadata(name, json!({"kubernetes.io/metadata.name": name})),
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        create_once(writer, Key::new(resources::NAMESPACES, "", name), value).await?;
    }
    Ok(())
}

/// Creates an object, unless it is there.
async fn create_once(writer: &Writer, key: Key, value: Value) -> anyhow::Result<()> {
    let snapshot = writer.store.snapshot();
    if snapshot.get(&key).is_none() {
        writer.commit(&snapshot, Transaction::new().create(key, value)).await?;
    }
    Ok(())
}

/// Creates the class of the ingresses that the gateways serve, which is that of every Ingress that names none. One that is
/// there is left as it is: a user who wants another default takes the annotation from it.
pub(crate) async fn ingress_class(writer: &Writer) -> anyhow::Result<()> {
    let mut metadata = metadata(resources::INGRESS_CLASS, json!({}));
    metadata["annotations"] = json!({ resources::DEFAULT_CLASS: "true" });
    metadata["generation"] = json!(1);
    let value = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": metadata,
        "spec": {"controller": resources::INGRESS_CONTROLLER},
    });
    create_once(writer, Key::new(resources::INGRESSCLASSES, "", resources::INGRESS_CLASS), value).await
}

/// Creates the classes of what the cluster itself cannot do without. Nobody deletes them, and what they mean stays.
pub(crate) async fn priority_classes(writer: &Writer) -> anyhow::Result<()> {
    for class in &SYSTEM_CLASSES {
        let mut metadata = metadata(class.name, json!({}));
        metadata["generation"] = json!(1);
        let value = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": metadata,
            "value": class.value,
            "description": class.description,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        create_once(writer, Key::new(resources::PRIORITYCLASSES, "", class.name), value).await?;
    }
    Ok(())
}

/// Creates the object that says which network services have their addresses of.
pub(crate) async fn service_network(writer: &Writer, config: &ClusterConfig) -> anyhow::Result<()> {
    let name = "kubernetes";
    let now = warren_write::metadata::timestamp(jiff::Timestamp::now());
    let value = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": metadata(name, json!({})),
        "spec": {"cidrs": [config.service_cidr.to_string()]},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": now,
        }]},
    });
    create_once(writer, Key::new(resources::SERVICECIDRS, "", name), value).await
}

/// Brings the roles and bindings that every cluster has up to what they should be; what users added to them stays.
pub(crate) async fn roles(writer: &Writer) -> anyhow::Result<()> {
    for (resource, default) in defaults::all() {
        let key = Key::new(resource, "", default["metadata"]["name"].as_str().unwrap_or_default());
        let snapshot = writer.store.snapshot();
        let fresh = || {
            let mut object = default.clone();
            let given = metadata(&key.name, default["metadata"]["labels"].clone());
            for (field, value) in given.as_object().into_iter().flatten() {
                object["metadata"][field] = value.clone();
            }
            object
        };
        let transaction = match snapshot.get(&key) {
            None => Transaction::new().create(key.clone(), fresh()),
            Some(found) => match defaults::mended(&found.value, &default) {
                Mending::Nothing => continue,
                Mending::Update(object) => Transaction::new().replace(key.clone(), found.revision, object),
                Mending::Replace => {
                    writer.commit(&snapshot, Transaction::new().delete(key.clone(), found.revision)).await?;
                    Transaction::new().create(key.clone(), fresh())
                }
            },
        };
        writer.commit(&writer.store.snapshot(), transaction).await?;
    }
    Ok(())
}

/// Metadata of an object that the controller makes itself.
pub(crate) fn metadata(name: &str, labels: Value) -> Value {
    json!({
        "name": name,
        "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": warren_write::metadata::timestamp(jiff::Timestamp::now()),
        "labels": labels,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use warren_store::{EmbeddedStore, Store};
    use warren_vocabulary::ClusterConfig;
    use warren_write::Gate;

    use super::*;

    #[tokio::test]
    async fn the_classes_of_the_cluster_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let gate = Arc::new(Gate::new(&ClusterConfig::default()));
        let writer = Writer { store: Arc::clone(&store) as Arc<dyn Store>, gate, name: "bootstrap" };
        for _ in 0..2 {
            priority_classes(&writer).await.unwrap();
        }
        let snapshot = store.snapshot();
        let value = |name: &str| {
            snapshot.get(&Key::new(resources::PRIORITYCLASSES, "", name)).unwrap().value["value"].clone()
        };
        assert_eq!(value("system-cluster-critical"), 2_000_000_000);
        assert_eq!(value("system-node-critical"), 2_000_001_000);
    }

    #[tokio::test]
    async fn default_roles_are_mended_at_each_start() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let gate = Arc::new(Gate::new(&ClusterConfig::default()));
        let writer = Writer { store: Arc::clone(&store) as Arc<dyn Store>, gate, name: "bootstrap" };
        roles(&writer).await.unwrap();
        let revision = store.snapshot().revision;
        roles(&writer).await.unwrap();
        assert_eq!(store.snapshot().revision, revision, "nothing is to be mended");
        let key = Key::new(resources::CLUSTERROLEBINDINGS, "", "system:discovery");
        let found = store.snapshot().get(&key).unwrap().value.clone();
        let mut other = found.clone();
        other["roleRef"]["name"] = json!("cluster-admin");
        store.commit(Transaction::new().replace(key.clone(), revision, other)).await.unwrap_err();
        let at = store.snapshot().get(&key).unwrap().revision;
        let mut other = found.clone();
        other["roleRef"]["name"] = json!("cluster-admin");
        store.commit(Transaction::new().replace(key.clone(), at, other)).await.unwrap();
        let role = Key::new(resources::CLUSTERROLES, "", "system:basic-user");
        let at = store.snapshot().get(&role).unwrap().revision;
        store.commit(Transaction::new().delete(role.clone(), at)).await.unwrap();
        roles(&writer).await.unwrap();
        let state = store.snapshot();
        assert_eq!(state.get(&key).unwrap().value["roleRef"], found["roleRef"]);
        assert_eq!(state.get(&key).unwrap().value["subjects"], found["subjects"]);
        assert!(state.get(&role).is_some());
    }

    #[tokio::test]
    async fn what_users_made_of_the_class_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let gate = Arc::new(Gate::new(&ClusterConfig::default()));
        let writer = Writer { store: Arc::clone(&store) as Arc<dyn Store>, gate, name: "bootstrap" };
        ingress_class(&writer).await.unwrap();
        let key = Key::new(resources::INGRESSCLASSES, "", resources::INGRESS_CLASS);
        let class = store.snapshot().get(&key).unwrap().value.clone();
        assert_eq!(class["metadata"]["annotations"][resources::DEFAULT_CLASS], "true");
        assert_eq!(class["spec"]["controller"], resources::INGRESS_CONTROLLER);
        let mut edited = class.clone();
        edited["metadata"].as_object_mut().unwrap().remove("annotations");
        let revision = store.snapshot().revision;
        store.commit(Transaction::new().replace(key.clone(), revision, edited)).await.unwrap();
        ingress_class(&writer).await.unwrap();
        let kept = store.snapshot().get(&key).unwrap().value.clone();
        assert!(kept["metadata"].get("annotations").is_none(), "{kept}");
        // One that was deleted comes back with the next start.
        let mut removal = Transaction::new();
        removal.writes.push(warren_store::Write::Delete(key.clone()));
        store.commit(removal).await.unwrap();
        ingress_class(&writer).await.unwrap();
        assert!(store.snapshot().get(&key).is_some());
    }
}
