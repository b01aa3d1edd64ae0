//! Quotas through the gate.

use serde_json::json;
use warren_objects::kinds::of;
use warren_state::Transaction;
use warren_vocabulary::ClusterConfig;

use super::*;
use crate::{Actor, Admitted, Author, Gate, Intent, Operation, Scope, User};

/// A quota that was counted.
fn quota(name: &str, hard: Value, used: Value) -> Object {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": "d", "uid": name},
        "spec": {"hard": hard}, "status": {"hard": hard, "used": used}});
    Object::new(Key::new(RESOURCEQUOTAS, "d", name), 5, quota)
}

fn state(objects: Vec<Object>) -> Snapshot {
    let namespace = json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}});
    let namespace = Object::new(Key::new("namespaces", "", "d"), 2, namespace);
    let account = json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
    let account = Object::new(Key::new("serviceaccounts", "d", "default"), 2, account);
    Snapshot::from_objects(9, objects.into_iter().chain([namespace, account]))
}

fn pod(name: &str, resources: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d", "uid": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

fn service(kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d", "uid": "s"},
        "spec": {"type": kind, "ports": [{"port": 80}]}})
}

fn admit(
    snapshot: &Snapshot,
    resource: &str,
    name: &str,
    operation: Operation<'_>,
) -> Result<Admitted, Refusal> {
    let (kind, user, key) = (of(resource).unwrap(), User::default(), Key::new(resource, "d", name));
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    Gate::new(&ClusterConfig::default()).admit(snapshot, Intent { author, kind, key: &key, operation })
}

fn create(snapshot: &Snapshot, resource: &str, name: &str, object: Value) -> Result<Admitted, Refusal> {
    admit(snapshot, resource, name, Operation::Create { object })
}

/// What the last write of a quota says is used.
fn used<'t>(transaction: &'t Transaction, name: &str) -> Option<&'t Value> {
    noted(&transaction.writes, &Key::new(RESOURCEQUOTAS, "d", name)).map(|quota| &quota["status"]["used"])
}

fn why(refused: Result<Admitted, Refusal>) -> String {
    let refusal = refused.unwrap_err();
    assert_eq!((refusal.code, refusal.reason), (403, "Forbidden"), "{refusal}");
    refusal.message
}

#[test]
fn what_is_made_is_noted_in_the_commit_that_makes_it() {
    let snapshot = state(vec![
        quota("all", json!({"pods": "2", "secrets": "9"}), json!({"pods": "1", "secrets": "3"})),
        quota("others", json!({"secrets": "9"}), json!({"secrets": "3"})),
    ]);
    let made = create(&snapshot, "pods", "p", pod("p", &json!({}))).unwrap().transaction;
    assert_eq!(used(&made, "all"), Some(&json!({"pods": "2", "secrets": "3"})));
    assert_eq!(used(&made, "others"), None, "it is not about pods");
    let key = |name: &str| Key::new(RESOURCEQUOTAS, "d", name);
    assert!(made.preconditions.contains(&Precondition::Revision(key("all"), 5)), "who comes second fails");
    let free = |precondition: &Precondition| *precondition != Precondition::Revision(key("others"), 5);
    assert!(made.preconditions.iter().all(free), "others do not hold it up");
}

#[test]
fn what_is_too_much_is_refused_in_kubernetes_words() {
    let full = state(vec![quota("few", json!({"pods": "1"}), json!({"pods": "1"}))]);
    assert_eq!(
        why(create(&full, "pods", "p", pod("p", &json!({})))),
        "pods \"p\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"
    );
    let hard = json!({"cpu": "1", "memory": "500Mi", "requests.example.com/dongle": "3"});
    let sizes = state(vec![quota(
        "sizes",
        hard,
        json!({"cpu": "500m", "memory": "252Mi", "requests.example.com/dongle": "2"}),
    )]);
    let asking = |cpu: &str, dongles: &str| {
        let dongle = "example.com/dongle";
        let resources = json!({"requests": {"cpu": cpu, "memory": "100Mi", dongle: dongles}, "limits": {dongle: dongles}});
        create(&sizes, "pods", "p", pod("p", &resources))
    };
    assert!(asking("500m", "1").is_ok());
    assert_eq!(
        why(asking("0.6", "1")),
        "pods \"p\" is forbidden: exceeded quota: sizes, requested: cpu=600m, used: cpu=500m, limited: cpu=1"
    );
    assert_eq!(
        why(asking("600m", "2")),
        "pods \"p\" is forbidden: exceeded quota: sizes, requested: cpu=600m,requests.example.com/dongle=2, \
         used: cpu=500m,requests.example.com/dongle=2, limited: cpu=1,requests.example.com/dongle=3"
    );
    assert_eq!(
        why(create(&sizes, "pods", "p", pod("p", &json!({})))),
        "pods \"p\" is forbidden: failed quota: sizes: must specify cpu for: c; memory for: c"
    );
    let mut uncounted = quota("new", json!({"pods": "1"}), json!({}));
    uncounted.value["status"]["used"] = json!({});
    assert_eq!(
        why(create(&state(vec![uncounted]), "pods", "p", pod("p", &json!({})))),
        "pods \"p\" is forbidden: status unknown for quota: new, resources: pods"
    );
}

#[test]
fn a_quota_that_was_never_counted_or_is_about_others_refuses_nothing() {
    let mut quota = quota("new", json!({"pods": "0"}), json!({}));
    quota.value["status"] = json!({});
    let made = create(&state(vec![quota]), "pods", "p", pod("p", &json!({}))).unwrap();
    assert_eq!(used(&made.transaction, "new"), None);
    let mut scoped = super::tests::quota("long", json!({"pods": "0"}), json!({"pods": "0"}));
    scoped.value["spec"]["scopes"] = json!(["Terminating"]);
    let snapshot = state(vec![scoped]);
    assert!(create(&snapshot, "pods", "p", pod("p", &json!({}))).is_ok());
    let mut deadline = pod("p", &json!({}));
    deadline["spec"]["activeDeadlineSeconds"] = json!(60);
    assert!(create(&snapshot, "pods", "p", deadline.clone()).is_err());
    // Who gets a deadline comes into the scope.
    let stored = create(&snapshot, "pods", "p", pod("p", &json!({}))).unwrap();
    let crate::Effect::Stored(stored) = stored.effect else { panic!("it is new") };
    let old = Arc::new(Object::new(Key::new("pods", "d", "p"), 7, stored));
    let mut object = Value::clone(&old.value);
    object["spec"]["activeDeadlineSeconds"] = json!(60);
    let update = Operation::Update { old: &old, object, scope: Scope::Main };
    assert!(why(admit(&snapshot, "pods", "p", update)).contains("exceeded quota: long, requested: pods=1"));
}

#[test]
fn a_planners_pods_count_together() {
    let snapshot = state(vec![quota("few", json!({"pods": "3"}), json!({"pods": "1"}))]);
    let pass = |names: &[&str]| {
        let transaction = names.iter().fold(Transaction::new(), |transaction, name| {
            transaction.create(Key::new("pods", "d", name), pod(name, &json!({})))
        });
        Gate::new(&ClusterConfig::default()).admit_all(
            &snapshot,
            Author::controller("replica sets"),
            transaction,
        )
    };
    let passed = pass(&["a", "b"]).unwrap();
    assert_eq!(used(&passed.transaction, "few"), Some(&json!({"pods": "3"})));
    let refused = pass(&["a", "b", "c"]).unwrap_err();
    assert_eq!(&*refused.key.name, "c");
    assert!(refused.refusal.message.ends_with("requested: pods=1, used: pods=3, limited: pods=3"));
}

#[test]
fn an_update_costs_what_it_adds() {
    let hard = json!({"services": "1", "services.nodeports": "1", "services.loadbalancers": "0"});
    let one = |ports: &str| {
        let used = json!({"services": "1", "services.nodeports": ports, "services.loadbalancers": "0"});
        state(vec![quota("few", hard.clone(), used)])
    };
    let stored = create(&state(vec![]), "services", "s", service("ClusterIP")).unwrap();
    let crate::Effect::Stored(stored) = stored.effect else { panic!("it is new") };
    let old = Arc::new(Object::new(Key::new("services", "d", "s"), 7, stored));
    let becomes = |snapshot: &Snapshot, kind: &str| {
        let mut object = Value::clone(&old.value);
        object["spec"]["type"] = json!(kind);
        admit(snapshot, "services", "s", Operation::Update { old: &old, object, scope: Scope::Main })
    };
    let opened = becomes(&one("0"), "NodePort").unwrap();
    assert_eq!(used(&opened.transaction, "few").unwrap()["services.nodeports"], "1");
    assert_eq!(used(&opened.transaction, "few").unwrap()["services"], "1", "it was there before");
    assert!(becomes(&one("1"), "NodePort").is_err());
    assert!(why(becomes(&one("0"), "LoadBalancer")).contains("requested: services.loadbalancers=1"));
    // What adds nothing is not refused, however full it is, and writes no quota.
    let mut object = Value::clone(&old.value);
    object["spec"]["sessionAffinity"] = json!("ClientIP");
    let snapshot = one("1");
    let update = Operation::Update { old: &old, object, scope: Scope::Main };
    assert_eq!(used(&admit(&snapshot, "services", "s", update).unwrap().transaction, "few"), None);
}

#[test]
fn every_kind_counts_and_quotas_too() {
    let hard = json!({"count/replicasets.apps": "0", "resourcequotas": "1"});
    let snapshot =
        state(vec![quota("few", hard, json!({"count/replicasets.apps": "0", "resourcequotas": "1"}))]);
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "r", "namespace": "d", "uid": "r"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert!(
        why(create(&snapshot, "replicasets.apps", "r", set)).contains("requested: count/replicasets.apps=1")
    );
    let second = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "second", "namespace": "d", "uid": "second"}, "spec": {"hard": {"pods": "1"}}});
    assert!(why(create(&snapshot, RESOURCEQUOTAS, "second", second)).contains("limited: resourcequotas=1"));
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "d", "uid": "e"},
        "involvedObject": {"namespace": "d"}});
    assert!(create(&snapshot, "events", "e", event).is_ok());
}
