//! What a namespace is born with: its service account `default`, and the certificates by which its pods know the API. They
//! are there with the commit that makes it, so that the first pod does not come too early. What becomes of them later is
//! the planners' business.

use serde_json::{Value, json};
use warren_objects::{
    derived::uuid,
    root_certificates::{NAME, config_map},
};
use warren_state::{Key, Snapshot, Transaction};
use warren_vocabulary::{
    ClusterConfig,
    resources::{CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS},
};

use crate::{Refusal, Review, Verb, chain::Step};

/// The account of pods that name none.
pub(crate) const ACCOUNT: &str = "default";
/// The step that adds them.
pub(crate) struct Births {
    certificates: String,
}

impl Births {
    pub(crate) fn new(cluster: &ClusterConfig) -> Self {
        Self { certificates: cluster.ca_pem.clone() }
    }
}

impl Step for Births {
    fn name(&self) -> &'static str {
        "births"
    }

    fn review(&self, snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
        let Some(namespace) = review
            .new
            .as_ref()
            .filter(|_| review.verb == Verb::Create && &*review.key.resource == NAMESPACES)
        else {
            return Ok(());
        };
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": metadata(ACCOUNT, SERVICEACCOUNTS, review.name(), namespace)});
        let mut born = vec![(Key::new(SERVICEACCOUNTS, review.name(), ACCOUNT), account)];
        if !self.certificates.is_empty() {
            let metadata = metadata(NAME, CONFIGMAPS, review.name(), namespace);
            let map = config_map(metadata, &self.certificates);
            born.push((Key::new(CONFIGMAPS, review.name(), NAME), map));
        }
        let born = born.into_iter().filter(|(key, _)| snapshot.get(key).is_none());
        let also = std::mem::take(&mut review.also);
        review.also = born.fold(also, |also: Transaction, (key, value)| also.create(key, value));
        Ok(())
    }
}

fn metadata(name: &str, resource: &str, namespace: &str, of: &Value) -> Value {
    let uid = of["metadata"]["uid"].as_str().unwrap_or_default();
    json!({"name": name, "namespace": namespace, "uid": uuid(&[resource, name, namespace, uid]),
        "creationTimestamp": of["metadata"]["creationTimestamp"]})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use warren_objects::{derived::letters, kinds::of};
    use warren_state::{Object, Write};

    use super::*;
    use crate::{Actor, Author, Effect, Gate, Intent, Operation, User};

    fn created(pem: &str, there: Vec<Object>) -> Transaction {
        let (kind, user) = (of(NAMESPACES).unwrap(), User::default());
        let (key, snapshot) = (Key::new(NAMESPACES, "", "shop"), Snapshot::from_objects(9, there));
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "shop", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let cluster = ClusterConfig { ca_pem: pem.to_owned(), ..ClusterConfig::default() };
        let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
        let intent = Intent { author, kind, key: &key, operation: Operation::Create { object } };
        let admitted = Gate::new(&cluster).admit(&snapshot, intent).unwrap();
        assert!(matches!(admitted.effect, Effect::Stored(namespace) if namespace["kind"] == "Namespace"));
        admitted.transaction
    }

    fn written(transaction: &Transaction) -> Vec<(String, Value)> {
        let put = |write: &Write| match write {
            Write::Put(key, value) => (key.to_string(), value.clone()),
            Write::Delete(key) => panic!("{key}"),
        };
        transaction.writes.iter().map(put).collect()
    }

    #[test]
    fn a_namespace_comes_with_its_account_and_its_certificates() {
        let all = written(&created("pem", vec![]));
        assert_eq!(all.len(), 3);
        let find = |kind: &str| all.iter().find(|(_, value)| value["kind"] == kind).unwrap().1.clone();
        let (account, map) = (find("ServiceAccount"), find("ConfigMap"));
        assert_eq!(
            (&account["metadata"]["name"], &account["metadata"]["namespace"]),
            (&json!("default"), &json!("shop"))
        );
        assert_eq!(account["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(map["data"], json!({"ca.crt": "pem"}));
        let uid = account["metadata"]["uid"].as_str().unwrap();
        assert!(
            uid.len() == 36 && uid.as_bytes()[14] == b'4' && b"89ab".contains(&uid.as_bytes()[19]),
            "{uid}"
        );
        assert_ne!(account["metadata"]["uid"], map["metadata"]["uid"]);
        assert_eq!(written(&created("", vec![])).len(), 2, "a cluster without certificates has none to tell");
    }

    #[test]
    fn what_is_there_stays() {
        let account = Object::new(Key::new(SERVICEACCOUNTS, "shop", "default"), 3, json!({"metadata": {}}));
        assert_eq!(written(&created("", vec![account])).len(), 1);
    }

    #[test]
    fn names_differ() {
        let names: BTreeSet<String> = (0..1_000).map(|pod| letters(&["v", &pod.to_string()], 5)).collect();
        assert!(names.len() > 990, "{}", names.len());
        assert_ne!(letters(&["ab", "c"], 5), letters(&["a", "bc"], 5));
    }
}
