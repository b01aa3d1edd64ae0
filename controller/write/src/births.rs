//! What a namespace is born with: its service account `default`, and the certificates by which its pods know the API. They
//! are there with the commit that makes it, so that the first pod does not come too early. What becomes of them later is
//! the planners' business.

use serde_json::{Value, json};
use warren_state::{Key, Snapshot, Transaction};
use warren_vocabulary::{
    ClusterConfig,
    resources::{CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS},
};

use crate::{Refusal, Review, Verb, chain::Step};

/// The account of pods that name none.
pub(crate) const ACCOUNT: &str = "default";
/// The ConfigMap with the API's certificates.
pub(crate) const CERTIFICATES: &str = "kube-root-ca.crt";
/// Its key.
pub(crate) const CERTIFICATES_KEY: &str = "ca.crt";
/// As Kubernetes' random names have them: no vowels, no digits that look like letters.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

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
            let mut metadata = metadata(CERTIFICATES, CONFIGMAPS, review.name(), namespace);
            metadata["annotations"] = json!({"kubernetes.io/description":
                "The certificates by which pods know the Kubernetes API. Warren keeps them as they are."});
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
                "data": {CERTIFICATES_KEY: self.certificates}});
            born.push((Key::new(CONFIGMAPS, review.name(), CERTIFICATES), map));
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

/// A UUID in the shape of version 4 that is the same for the same parts.
fn uuid(parts: &[&str]) -> String {
    let bits = digest(parts) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Five letters that are the same for the same parts.
pub(crate) fn letters(parts: &[&str]) -> String {
    let bits = digest(parts);
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    bits.to_be_bytes().iter().take(5).map(letter).collect()
}

/// 128-bit FNV-1a, mixed once more: names must differ, nothing is hidden behind them.
fn digest(parts: &[&str]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let sum = bytes.fold(OFFSET, |sum, byte| (sum ^ u128::from(byte)).wrapping_mul(PRIME));
    (sum ^ (sum >> 67)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use warren_objects::kinds::of;
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
        let names: BTreeSet<String> = (0..1_000).map(|pod| letters(&["v", &pod.to_string()])).collect();
        assert!(names.len() > 990, "{}", names.len());
        assert_ne!(letters(&["ab", "c"]), letters(&["a", "bc"]));
    }
}
