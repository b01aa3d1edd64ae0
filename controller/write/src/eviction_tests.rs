//! Evictions through the gate.

use serde_json::json;
use warren_objects::kinds::of;
use warren_state::{Key, Precondition, Write};
use warren_vocabulary::ClusterConfig;

use super::*;
use crate::{Actor, Admitted, Author, Effect, Gate, Intent, Operation, User};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn object(resource: &str, revision: u64, value: Value) -> Object {
    Object::new(Key::new(resource, "d", value["metadata"]["name"].as_str().unwrap()), revision, value)
}

fn pod(name: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"metadata": {"name": name, "namespace": "d", "uid": name, "generation": 1, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
}

fn budget(name: &str, allowed: i64) -> Value {
    json!({"metadata": {"name": name, "namespace": "d", "uid": name, "generation": 1},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
        "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 2,
            "currentHealthy": 2 + allowed, "expectedPods": 3}})
}

fn state(pods: Vec<Value>, budgets: Vec<Value>) -> Snapshot {
    let pods = pods.into_iter().map(|value| object("pods", 3, value));
    let budgets = budgets.into_iter().map(|value| object(PODDISRUPTIONBUDGETS, 4, value));
    Snapshot::from_objects(9, pods.chain(budgets))
}

fn evict(snapshot: &Snapshot, name: &str, options: &DeleteOptions) -> Result<Admitted, Refusal> {
    let (kind, key, user) = (of("pods").unwrap(), Key::new("pods", "d", name), User::default());
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    let operation = Operation::Evict { old: snapshot.get(&key), options, now: at(1_000) };
    Gate::new(&ClusterConfig::default()).admit(snapshot, Intent { author, kind, key: &key, operation })
}

fn written<'t>(admitted: &'t Admitted, resource: &str) -> Option<&'t Value> {
    admitted.transaction.writes.iter().find_map(|write| match write {
        Write::Put(key, value) if *key.resource == *resource => Some(value),
        _ => None,
    })
}

fn condition(pod: &Value) -> &Value {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == TARGET).unwrap_or(&Value::Null)
}

#[test]
fn a_pod_and_its_budget_are_written_together() {
    let snapshot = state(vec![pod("a", true)], vec![budget("web", 1)]);
    let admitted = evict(&snapshot, "a", &DeleteOptions::default()).unwrap();
    let pod = written(&admitted, "pods").unwrap();
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(condition(pod)["reason"], "EvictionByEvictionAPI");
    assert_eq!(condition(pod)["message"], "Eviction API: evicting");
    let status = &written(&admitted, PODDISRUPTIONBUDGETS).unwrap()["status"];
    assert_eq!((&status["disruptionsAllowed"], &status["currentHealthy"]), (&json!(0), &json!(3)));
    assert_eq!(status["disruptedPods"], json!({"a": "1970-01-01T00:16:40Z"}));
    for (resource, name, revision) in [("pods", "a", 3), (PODDISRUPTIONBUDGETS, "web", 4)] {
        let wanted = Precondition::Revision(Key::new(resource, "d", name), revision);
        assert!(admitted.transaction.preconditions.contains(&wanted), "{resource}");
    }
}

#[test]
fn a_pod_that_is_removed_at_once_is_spent_for_too() {
    let snapshot = state(vec![pod("a", true)], vec![budget("web", 1)]);
    let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    let admitted = evict(&snapshot, "a", &options).unwrap();
    assert!(matches!(admitted.effect, Effect::Removed(_)));
    assert_eq!(admitted.transaction.writes.len(), 2);
    assert_eq!(written(&admitted, PODDISRUPTIONBUDGETS).unwrap()["status"]["disruptionsAllowed"], 0);
}

#[test]
fn what_a_budget_does_not_allow_is_refused_in_kubernetes_words() {
    let refused = |budgets: Vec<Value>| {
        evict(&state(vec![pod("a", true)], budgets), "a", &DeleteOptions::default()).unwrap_err()
    };
    let spent = refused(vec![budget("web", 0)]);
    assert_eq!((spent.code, spent.reason, &*spent.message), (429, "TooManyRequests", VIOLATED));
    let details = spent.details.unwrap();
    assert_eq!(details.causes[0].reason, "DisruptionBudget");
    assert_eq!(
        details.causes[0].message,
        "The disruption budget web needs 2 healthy pods and has 2 currently"
    );
    assert_eq!(details.retry_after_seconds, None);
    let mut changed = budget("web", 1);
    changed["metadata"]["generation"] = json!(2);
    let details = refused(vec![changed]).details.unwrap();
    assert_eq!(details.retry_after_seconds, Some(10));
    assert_eq!(
        details.causes[0].message,
        "The disruption budget web is still being processed by the server."
    );
    let several = refused(vec![budget("web", 1), budget("other", 1)]);
    assert_eq!((several.code, several.reason), (500, ""));
    assert!(several.message.starts_with("This pod has more than one PodDisruptionBudget"));
}

#[test]
fn what_serves_nobody_goes_and_costs_nothing() {
    let mut pending = pod("a", false);
    pending["status"]["phase"] = json!("Pending");
    let mut ended = pod("b", false);
    ended["status"]["phase"] = json!("Failed");
    let mut dying = pod("c", true);
    dying["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:17:00Z");
    dying["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let snapshot = state(vec![pending, ended, dying], vec![budget("web", 0)]);
    for (name, removed) in [("a", false), ("b", true), ("c", false)] {
        let admitted = evict(&snapshot, name, &DeleteOptions::default()).unwrap();
        assert_eq!(matches!(admitted.effect, Effect::Removed(_)), removed, "{name}");
        assert_eq!(admitted.transaction.writes.len(), 1, "{name}");
        let first = Precondition::Revision(Key::new("pods", "d", name), 3);
        assert_eq!(admitted.transaction.preconditions, [first], "{name}");
    }
    let twice = evict(&snapshot, "c", &DeleteOptions::default()).unwrap();
    let Effect::Stored(told) = twice.effect else { panic!("it is told why") };
    let again = evict(&state(vec![told], vec![]), "c", &DeleteOptions::default()).unwrap();
    assert_eq!(again.effect, Effect::Unchanged, "who evicts twice changes nothing");
}

#[test]
fn preconditions_hold_for_evictions_too() {
    let snapshot = state(vec![pod("a", true)], vec![]);
    for options in [
        DeleteOptions { uid: Some("other".to_owned()), ..DeleteOptions::default() },
        DeleteOptions { resource_version: Some("2".to_owned()), ..DeleteOptions::default() },
    ] {
        assert_eq!(evict(&snapshot, "a", &options).unwrap_err().code, 409);
    }
    let same = DeleteOptions { resource_version: Some("3".to_owned()), ..DeleteOptions::default() };
    assert!(evict(&snapshot, "a", &same).is_ok());
    assert_eq!(evict(&snapshot, "none", &DeleteOptions::default()).unwrap_err().code, 404);
}

#[test]
fn an_old_condition_that_was_taken_back_comes_again() {
    let mut once = pod("a", true);
    let stale = json!({"type": TARGET, "status": "False", "lastTransitionTime": "1970-01-01T00:00:00Z"});
    once["status"]["conditions"].as_array_mut().unwrap().push(stale);
    let admitted = evict(&state(vec![once], vec![]), "a", &DeleteOptions::default()).unwrap();
    let pod = written(&admitted, "pods").unwrap();
    assert_eq!(pod["status"]["conditions"].as_array().unwrap().len(), 2);
    assert_eq!(condition(pod)["lastTransitionTime"], "1970-01-01T00:16:40Z");
}
