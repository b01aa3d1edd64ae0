//! Service accounts of pods, through the gate.

use warren_objects::kinds::of;
use warren_state::{Object, Transaction, Write};
use warren_vocabulary::ClusterConfig;

use super::*;
use crate::{Actor, Author, Effect, Gate, Intent, Operation, User};

fn state(accounts: Vec<Value>) -> Snapshot {
    let namespace = json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}});
    let namespace = Object::new(Key::new("namespaces", "", "d"), 2, namespace);
    let account = |account: Value| {
        let name = account["metadata"]["name"].as_str().unwrap().to_owned();
        Object::new(Key::new(SERVICEACCOUNTS, "d", &name), 3, account)
    };
    Snapshot::from_objects(9, accounts.into_iter().map(account).chain([namespace]))
}

fn plain(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "d", "uid": name}})
}

fn pod(spec: Value) -> Value {
    let mut base = json!({"containers": [{"name": "c", "image": "i"}]});
    base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": base})
}

fn admitted(accounts: Vec<Value>, object: Value) -> Result<Value, Refusal> {
    let (kind, user, key) = (of("pods").unwrap(), User::default(), Key::new("pods", "d", "p"));
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    let intent = Intent { author, kind, key: &key, operation: Operation::Create { object } };
    let admitted = Gate::new(&ClusterConfig::default()).admit(&state(accounts), intent)?;
    let Effect::Stored(stored) = admitted.effect else { panic!("{:?}", admitted.effect) };
    Ok(stored["spec"].clone())
}

fn made(account: Value, spec: Value) -> Value {
    admitted(vec![account], pod(spec)).unwrap()
}

/// Names of the volumes of tokens, and how many containers mount each.
fn tokens(spec: &Value) -> Vec<(String, usize)> {
    let containers: Vec<&Value> =
        list(spec.get("initContainers")).chain(list(spec.get("containers"))).collect();
    let mounts = |name: &Value| {
        let count = |container: &&&Value| {
            list(container.get("volumeMounts")).any(|mount| {
                mount["name"] == *name && mount["mountPath"] == MOUNT_PATH && mount["readOnly"] == true
            })
        };
        containers.iter().filter(count).count()
    };
    let volumes = list(spec.get("volumes"));
    let volumes = volumes.filter(|volume| {
        list(volume.pointer("/projected/sources")).any(|s| !s["serviceAccountToken"].is_null())
    });
    volumes.map(|volume| (text(&volume["name"]), mounts(&volume["name"]))).collect()
}

#[test]
fn every_container_gets_the_token_in_the_usual_place() {
    let spec = made(plain("default"), json!({"initContainers": [{"name": "i", "image": "i"}]}));
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    let volumes = tokens(&spec);
    assert_eq!((volumes.len(), volumes[0].1), (1, 2), "{spec}");
    assert!(volumes[0].0.starts_with("kube-api-access-") && volumes[0].0.len() == 21, "{volumes:?}");
    assert_eq!(
        spec["volumes"][0]["projected"],
        json!({"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]})
    );
    let copied = made(plain("default"), spec.clone());
    assert_eq!(tokens(&copied), volumes, "a pod that was copied brings its own");
}

#[test]
fn a_mount_of_the_pods_own_in_that_place_stays() {
    let own = json!({"name": "own", "mountPath": MOUNT_PATH});
    let spec = made(
        plain("default"),
        json!({"volumes": [{"name": "own", "emptyDir": {}}],
        "containers": [{"name": "c", "image": "i", "volumeMounts": [own]}, {"name": "d", "image": "i"}]}),
    );
    assert_eq!(tokens(&spec)[0].1, 1, "the other container has it");
    let alone = made(
        plain("default"),
        json!({"volumes": [{"name": "own", "emptyDir": {}}],
        "containers": [{"name": "c", "image": "i", "volumeMounts": [own]}]}),
    );
    assert!(tokens(&alone).is_empty() && alone["volumes"].as_array().unwrap().len() == 1, "{alone}");
}

#[test]
fn the_pod_decides_before_its_account_whether_there_is_a_token() {
    let account = |automount: Value| {
        let mut account = plain("default");
        account["automountServiceAccountToken"] = automount;
        account
    };
    for (of_account, of_pod, mounted) in [
        (json!(true), json!(null), true),
        (json!(false), json!(null), false),
        (json!(null), json!(false), false),
        (json!(true), json!(false), false),
        (json!(false), json!(true), true),
    ] {
        let spec = if of_pod.is_null() { json!({}) } else { json!({"automountServiceAccountToken": of_pod}) };
        let spec = made(account(of_account.clone()), spec);
        assert_eq!(!tokens(&spec).is_empty(), mounted, "{of_account} {of_pod}");
    }
}

#[test]
fn pull_secrets_of_the_account_are_those_of_a_pod_without_any() {
    let mut account = plain("default");
    account["imagePullSecrets"] = json!([{"name": "registry"}]);
    assert_eq!(made(account.clone(), json!({}))["imagePullSecrets"], json!([{"name": "registry"}]));
    let own = json!({"imagePullSecrets": [{"name": "own"}]});
    assert_eq!(made(account, own)["imagePullSecrets"], json!([{"name": "own"}]));
    assert!(made(plain("default"), json!({}))["imagePullSecrets"].is_null());
}

#[test]
fn an_account_that_is_not_there_is_told_to_clients_and_planners() {
    let why = "pods \"p\" is forbidden: error looking up service account d/builder: serviceaccount \"builder\" not found";
    for field in ["serviceAccountName", "serviceAccount"] {
        let refusal = admitted(vec![plain("default")], pod(json!({field: "builder"}))).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (403, why));
    }
    let refusal = admitted(vec![], pod(json!({}))).unwrap_err();
    assert!(refusal.message.ends_with("d/default: serviceaccount \"default\" not found"), "{refusal}");
    let gate = Gate::new(&ClusterConfig::default());
    let write = || {
        Transaction::new().create(Key::new("pods", "d", "p"), pod(json!({"serviceAccountName": "builder"})))
    };
    let by_planner = |accounts| gate.admit_all(&state(accounts), Author::controller("planner"), write());
    assert_eq!(by_planner(vec![plain("default")]).unwrap_err().refusal.message, why);
    let passed = by_planner(vec![plain("builder")]).unwrap();
    let Write::Put(_, pod) = &passed.transaction.writes[0] else { panic!("a pod") };
    assert_eq!(tokens(&pod["spec"]).len(), 1, "the same for whoever makes it");
}

#[test]
fn a_mirror_of_a_nodes_own_pod_is_nobody() {
    let mirror = |spec: Value| {
        let mut pod = pod(spec);
        pod["metadata"]["annotations"] = json!({MIRROR: "hash"});
        admitted(vec![], pod)
    };
    assert!(tokens(&mirror(json!({})).unwrap()).is_empty());
    let refused = mirror(json!({"serviceAccountName": "builder"})).unwrap_err().message;
    assert!(refused.ends_with("a mirror pod may not reference service accounts"), "{refused}");
    let volume = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
    let refused = mirror(json!({"volumes": volume})).unwrap_err().message;
    assert!(
        refused.ends_with("a mirror pod may not use ServiceAccountToken volume projections"),
        "{refused}"
    );
}

#[test]
fn what_is_no_list_is_left_to_the_rules() {
    for spec in [
        json!({"volumes": "none"}),
        json!({"volumes": null}),
        json!({"initContainers": 5}),
        json!({"containers": null}),
    ] {
        // Whatever is said of it, nothing breaks.
        let _ = admitted(vec![plain("default")], pod(spec));
    }
}
