//! Limit ranges through the gate.

use warren_objects::kinds::of;
use warren_state::{Key, Object, Transaction, Write};
use warren_vocabulary::ClusterConfig;

use super::*;
use crate::{Actor, Author, Effect, Gate, Intent, Operation, Scope, User};

fn range(name: &str, limits: Value) -> Object {
    let mut range = json!({"apiVersion": "v1", "kind": "LimitRange",
        "metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {"limits": limits}});
    warren_objects::defaults::apply(of(LIMITRANGES).unwrap(), &mut range);
    Object::new(Key::new(LIMITRANGES, "d", name), 3, range)
}

/// That of Kubernetes' conformance test, in short.
fn usual() -> Object {
    let list = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    range(
        "usual",
        json!([{"type": "Container", "min": list("50m", "100Mi"), "max": list("500m", "500Mi"),
            "default": list("500m", "500Mi"), "defaultRequest": list("100m", "200Mi")}]),
    )
}

fn state(ranges: Vec<Object>) -> Snapshot {
    let namespace = json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}});
    let namespace = Object::new(Key::new("namespaces", "", "d"), 2, namespace);
    let account = json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
    let account = Object::new(Key::new("serviceaccounts", "d", "default"), 2, account);
    Snapshot::from_objects(9, ranges.into_iter().chain([namespace, account]))
}

fn pod(resources: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

fn admit(snapshot: &Snapshot, resource: &str, operation: Operation<'_>) -> Result<Value, Refusal> {
    let (kind, user, key) = (of(resource).unwrap(), User::default(), Key::new(resource, "d", "p"));
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    let admitted = Gate::new(&ClusterConfig::default())
        .admit(snapshot, Intent { author, kind, key: &key, operation })?;
    let Effect::Stored(stored) = admitted.effect else { panic!("{:?}", admitted.effect) };
    Ok(stored)
}

fn made(ranges: Vec<Object>, object: Value) -> Result<Value, Refusal> {
    admit(&state(ranges), "pods", Operation::Create { object })
}

fn refused(ranges: Vec<Object>, object: Value) -> String {
    let refusal = made(ranges, object).unwrap_err();
    assert_eq!((refusal.code, refusal.reason), (403, "Forbidden"), "{refusal}");
    refusal.message.strip_prefix("pods \"p\" is forbidden: ").unwrap().to_owned()
}

#[test]
fn what_a_container_leaves_out_the_range_gives() {
    let made_of = |resources: Value| made(vec![usual()], pod(&resources)).unwrap();
    let nothing = made_of(json!({}));
    let given =
        json!({"requests": {"cpu": "100m", "memory": "200Mi"}, "limits": {"cpu": "500m", "memory": "500Mi"}});
    assert_eq!(nothing["spec"]["containers"][0]["resources"], given);
    assert_eq!(nothing["status"]["qosClass"], "Burstable", "it is what the pod has now");
    assert_eq!(
        nothing["metadata"]["annotations"][GIVEN],
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c"
    );
    let some = made_of(json!({"requests": {"memory": "150Mi"}, "limits": {"cpu": "300m"}}));
    let merged =
        json!({"requests": {"cpu": "300m", "memory": "150Mi"}, "limits": {"cpu": "300m", "memory": "500Mi"}});
    assert_eq!(some["spec"]["containers"][0]["resources"], merged, "a limit is a request before the range's");
    let all = made_of(given.clone());
    assert_eq!(all["spec"]["containers"][0]["resources"], given);
    assert!(all["metadata"]["annotations"].is_null());
}

#[test]
fn a_planners_pod_is_filled_and_judged_too() {
    let gate = Gate::new(&ClusterConfig::default());
    let key = Key::new("pods", "d", "p");
    let pass = |resources: Value| {
        let transaction = Transaction::new().create(key.clone(), pod(&resources));
        gate.admit_all(&state(vec![usual()]), Author::controller("replica sets"), transaction)
    };
    let passed = pass(json!({})).unwrap();
    let Write::Put(_, pod) = &passed.transaction.writes[0] else { panic!("it is made") };
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"], "100m");
    assert_eq!(pass(json!({"requests": {"cpu": "10m"}})).unwrap_err().refusal.code, 403);
}

#[test]
fn what_is_out_of_bounds_is_refused_in_kubernetes_words() {
    assert_eq!(
        refused(vec![usual()], pod(&json!({"requests": {"cpu": "10m"}}))),
        "minimum cpu usage per Container is 50m, but request is 10m"
    );
    assert_eq!(
        refused(vec![usual()], pod(&json!({"requests": {"cpu": "10m", "memory": "50Mi"}}))),
        "[minimum cpu usage per Container is 50m, but request is 10m, \
         minimum memory usage per Container is 100Mi, but request is 50Mi]"
    );
    assert_eq!(
        refused(vec![usual()], pod(&json!({"limits": {"cpu": "0.6"}}))),
        "maximum cpu usage per Container is 500m, but limit is 600m"
    );
    let bare = |of: &str, what: &str, list: Value| {
        let mut range = range("bare", json!([{"type": of, what: list}]));
        if let Some(item) = range.value["spec"]["limits"][0].as_object().cloned() {
            let kept = item.into_iter().filter(|(field, _)| field == "type" || field == what);
            let mut value = Value::clone(&range.value);
            value["spec"]["limits"][0] = Value::Object(kept.collect());
            range = Object::new(range.key.clone(), 3, value);
        }
        vec![range]
    };
    assert_eq!(
        refused(bare("Container", "min", json!({"cpu": "1"})), pod(&json!({}))),
        "minimum cpu usage per Container is 1.  No request is specified"
    );
    assert_eq!(
        refused(bare("Container", "max", json!({"cpu": "1"})), pod(&json!({"requests": {"cpu": "1"}}))),
        "maximum cpu usage per Container is 1.  No limit is specified"
    );
    let apart = |limit: &str| pod(&json!({"requests": {"cpu": "300m"}, "limits": {"cpu": limit}}));
    let ratio = || bare("Container", "maxLimitRequestRatio", json!({"cpu": "2"}));
    assert!(made(ratio(), apart("600m")).is_ok());
    assert_eq!(
        refused(ratio(), apart("700m")),
        "cpu max limit to request ratio per Container is 2, but provided ratio is 2.333333"
    );
    assert_eq!(
        refused(ratio(), pod(&json!({}))),
        "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"
    );
}

#[test]
fn a_pod_as_a_whole_has_bounds_and_an_update_is_not_judged() {
    let whole = || vec![range("whole", json!([{"type": "Pod", "max": {"cpu": "1"}}]))];
    let two = |cpu: &str| {
        let mut pod = pod(&json!({"limits": {"cpu": cpu}}));
        let mut other = pod["spec"]["containers"][0].clone();
        other["name"] = json!("other");
        pod["spec"]["containers"].as_array_mut().unwrap().push(other);
        pod
    };
    assert!(made(whole(), two("500m")).is_ok());
    assert_eq!(refused(whole(), two("600m")), "maximum cpu usage per Pod is 1, but limit is 1200m");
    let stored = made(vec![], two("600m")).unwrap();
    let old = std::sync::Arc::new(Object::new(Key::new("pods", "d", "p"), 4, stored));
    let mut object = Value::clone(&old.value);
    object["metadata"]["labels"] = json!({"a": "b"});
    let update = Operation::Update { old: &old, object, scope: Scope::Main };
    assert!(admit(&state(whole()), "pods", update).is_ok());
}

#[test]
fn claims_have_bounds() {
    let claim = |storage: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": storage}}}})
    };
    let bounds = || {
        let bounds =
            json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]);
        state(vec![range("disks", bounds)])
    };
    let made = |storage: &str| {
        admit(&bounds(), "persistentvolumeclaims", Operation::Create { object: claim(storage) })
    };
    assert!(made("2Gi").is_ok());
    assert_eq!(
        made("512Mi").unwrap_err().message,
        "persistentvolumeclaims \"p\" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request \
         is 512Mi"
    );
    assert!(made("3Gi").unwrap_err().message.ends_with("is 2Gi, but request is 3Gi"));
}
