//! The gate, case by case.

use serde_json::json;
use warren_objects::kinds::{find, of};
use warren_state::Precondition;

use super::*;
use crate::{Scope, User, deletion::DeleteOptions};

fn key(resource: &str, name: &str) -> Key {
    let namespace = if of(resource).is_none_or(|kind| kind.namespaced) { "d" } else { "" };
    Key::new(resource, namespace, name)
}

fn stored(resource: &str, value: Value) -> Object {
    Object::new(key(resource, value["metadata"]["name"].as_str().unwrap()), 3, value)
}

fn state(objects: Vec<Object>) -> Snapshot {
    let namespace = json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}});
    let account = json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
    let place = [stored("namespaces", namespace), stored("serviceaccounts", account)];
    Snapshot::from_objects(9, objects.into_iter().chain(place))
}

fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "d", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": image}]},
    })
}

fn gate() -> Gate {
    Gate::new(&ClusterConfig::default())
}

fn planner() -> Author<'static> {
    Author::controller("planner")
}

/// What the gate makes of one write of a planner.
fn passed(snapshot: &Snapshot, transaction: Transaction) -> Result<Transaction, String> {
    let passed = gate().admit_all(snapshot, planner(), transaction);
    passed.map(|passed| passed.transaction).map_err(|refused| refused.to_string())
}

fn value(transaction: &Transaction) -> &Value {
    match &transaction.writes[0] {
        Write::Put(_, value) => value,
        Write::Delete(key) => panic!("{key} is deleted"),
    }
}

#[test]
fn children_of_planners_are_completed_and_judged() {
    let snapshot = state(vec![]);
    let made = passed(&snapshot, Transaction::new().create(key("pods", "a"), pod("a", "i"))).unwrap();
    assert_eq!(value(&made)["spec"]["restartPolicy"], "Always");
    let namespace = Precondition::Revision(key("namespaces", "d"), 3);
    assert!(made.preconditions.contains(&namespace), "the namespace lives when it is committed");
    let refused = passed(&snapshot, Transaction::new().create(key("pods", "a"), pod("a", ""))).unwrap_err();
    assert!(refused.starts_with("Pod \"a\" is invalid: "), "{refused}");
    assert!(refused.contains("spec.containers[0].image: Required value"), "{refused}");
    let elsewhere = Transaction::new().create(Key::new("pods", "gone", "a"), pod("a", "i"));
    assert_eq!(passed(&snapshot, elsewhere).unwrap_err(), "namespaces \"gone\" not found");
}

#[test]
fn the_controller_is_not_refused_for_what_was_stored_by_other_rules() {
    let mut old = pod("a", "i");
    old["metadata"]["labels"] = json!({"not a name!": "x"});
    let snapshot = state(vec![stored("pods", old.clone())]);
    let mut annotated = old.clone();
    annotated["metadata"]["annotations"] = json!({"a": "b"});
    let replaced = |new: &Value| Transaction::new().replace(key("pods", "a"), 3, new.clone());
    assert!(passed(&snapshot, replaced(&annotated)).is_ok());
    annotated["metadata"]["annotations"] = json!({"also no name!": "b"});
    let refused = passed(&snapshot, replaced(&annotated)).unwrap_err();
    assert!(refused.contains("also no name!") && !refused.contains("\"not a name!\""), "{refused}");
    let mut other = old;
    other["spec"]["containers"][0]["name"] = json!("d");
    assert!(passed(&snapshot, replaced(&other)).unwrap_err().contains("pod updates may not change"));
}

#[test]
fn what_a_write_does_is_read_from_what_it_changes() {
    let kind = of("pods").unwrap();
    let old = Arc::new(stored("pods", pod("a", "i")));
    let change = |change: fn(&mut Value)| {
        let mut new = old.value.clone();
        change(&mut new);
        verb(kind, Some(&old), Some(&new))
    };
    assert_eq!(verb(kind, None, Some(&old.value)), Verb::Create);
    assert_eq!(verb(kind, Some(&old), None), Verb::Delete);
    assert_eq!(change(|new| new["status"] = json!({"phase": "Running"})), Verb::UpdateStatus);
    assert_eq!(change(|new| new["spec"]["nodeName"] = json!("n")), Verb::Bind);
    assert_eq!(change(|new| new["metadata"]["labels"] = json!({"a": "b"})), Verb::Update);
    let marked = change(|new| new["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(marked, Verb::Delete);
}

#[test]
fn a_binding_changes_nothing_but_the_node() {
    let snapshot = state(vec![stored("pods", pod("a", "i"))]);
    let mut bound = snapshot.get(&key("pods", "a")).unwrap().value.clone();
    bound["spec"]["nodeName"] = json!("n");
    bound["status"] = json!({"podIP": "10.42.1.2"});
    let replaced = |new: &Value| Transaction::new().replace(key("pods", "a"), 3, new.clone());
    assert!(passed(&snapshot, replaced(&bound)).is_ok());
    bound["spec"]["hostNetwork"] = json!(true);
    assert!(passed(&snapshot, replaced(&bound)).unwrap_err().contains("a binding may change nothing but"));
    bound["spec"] = json!({"nodeName": "n", "containers": bound["spec"]["containers"]});
    bound["status"] = json!({"podIP": "127.0.0.1"});
    assert!(passed(&snapshot, replaced(&bound)).unwrap_err().contains("status.podIP"));
}

#[test]
fn internal_resources_pass_for_everybody_but_clients() {
    let snapshot = state(vec![]);
    let member = Key::new("members.warren.internal", "", "n");
    let transaction = Transaction::new().create(member.clone(), json!({"metadata": {"name": "n"}}));
    assert_eq!(passed(&snapshot, transaction.clone()), Ok(transaction.clone()));
    let user = User::default();
    let client = Author { actor: Actor::Client(&user), manager: "" };
    let refused = gate().admit_all(&snapshot, client, transaction).unwrap_err();
    assert_eq!((refused.creates, refused.key), (true, member));
    let unknown = Transaction::new().create(Key::new("wishes", "d", "a"), json!({}));
    assert_eq!(passed(&snapshot, unknown).unwrap_err(), "wishes \"a\" is forbidden: there is no such kind");
}

#[test]
fn an_event_holds_up_nothing_that_it_tells_of() {
    let snapshot = state(vec![stored("pods", pod("a", "i"))]);
    let mut annotated = snapshot.get(&key("pods", "a")).unwrap().value.clone();
    annotated["metadata"]["annotations"] = json!({"a": "b"});
    let event = json!({"metadata": {"name": "No Name", "namespace": "d"}});
    let transaction = Transaction::new()
        .replace(key("pods", "a"), 3, annotated)
        .create(key("events", "No Name"), event.clone());
    let passed = gate().admit_all(&snapshot, planner(), transaction).unwrap();
    assert_eq!((passed.transaction.writes.len(), passed.left_out.len()), (1, 1));
    let alone = Transaction::new().create(key("events", "No Name"), event);
    assert!(gate().admit_all(&snapshot, planner(), alone).is_err());
}

#[test]
fn a_client_learns_what_becomes_of_its_write() {
    let user = User { name: "jane".into(), ..User::default() };
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    let (gate, kind) = (gate(), find("", "v1", "configmaps").unwrap());
    let map = json!({"metadata": {"name": "a", "namespace": "d", "finalizers": ["x.y/z"]}});
    let key = key("configmaps", "a");
    let admit = |snapshot: &Snapshot, operation: Operation<'_>| {
        gate.admit(snapshot, Intent { author, kind, key: &key, operation })
    };
    let made = admit(&state(vec![]), Operation::Create { object: map.clone() }).unwrap();
    assert!(matches!(made.effect, Effect::Stored(_)) && made.transaction.writes.len() == 1);
    let snapshot = state(vec![stored("configmaps", map.clone())]);
    let again = admit(&snapshot, Operation::Create { object: map.clone() }).unwrap_err();
    assert_eq!((again.code, again.reason), (409, "AlreadyExists"));
    let old = snapshot.get(&key).unwrap();
    let same = Operation::Update { old, object: old.value.clone(), scope: Scope::Main };
    assert_eq!(admit(&snapshot, same).unwrap().effect, Effect::Unchanged);
    let (options, now) = (DeleteOptions::default(), jiff::Timestamp::UNIX_EPOCH);
    let marked = admit(&snapshot, Operation::Delete { old: Some(old), options: &options, now }).unwrap();
    let Effect::Stored(dying) = marked.effect else { panic!("it is only marked") };
    let snapshot = state(vec![stored("configmaps", dying.clone())]);
    let mut freed = dying;
    freed["metadata"]["finalizers"] = json!([]);
    let old = snapshot.get(&key).unwrap();
    let last = admit(&snapshot, Operation::Update { old, object: freed, scope: Scope::Main }).unwrap();
    assert!(matches!(last.effect, Effect::Removed(_)), "{:?}", last.effect);
    assert!(matches!(&last.transaction.writes[..], [Write::Delete(gone)] if *gone == key));
    let absent = admit(&state(vec![]), Operation::Delete { old: None, options: &options, now }).unwrap_err();
    assert_eq!(absent.code, 404);
}
