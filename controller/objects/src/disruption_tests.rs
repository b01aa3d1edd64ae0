//! What budgets say about pods.

use warren_state::Key;

use super::*;

fn budget(name: &str, spec: Value, allowed: i64) -> Arc<Object> {
    let value = json!({"metadata": {"name": name, "generation": 2}, "spec": spec, "status": {
        "observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 2,
        "expectedPods": 3}});
    Arc::new(Object::new(Key::new("poddisruptionbudgets.policy", "d", name), 5, value))
}

fn web() -> Value {
    json!({"selector": {"matchLabels": {"app": "web"}}})
}

fn pod(ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"metadata": {"name": "p", "labels": {"app": "web", "tier": "3"}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
}

/// The name of the budget that is spent of, or the objection.
fn judged(pod: &Value, budgets: &[Arc<Object>]) -> Result<Option<String>, Objection> {
    judge(pod, budgets).map(|budget| budget.map(|budget| budget.key.name.to_string()))
}

#[test]
fn selectors_choose_as_policy_v1_says() {
    for (selector, expected) in [
        (Value::Null, false),
        (json!({}), true),
        (json!({"matchLabels": {"app": "web"}}), true),
        (json!({"matchLabels": {"app": "db"}}), false),
        (json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["3", "4"]}]}), true),
        (json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["3"]}]}), false),
        (json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}), true),
        (json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}), false),
        (json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}), true),
        (json!({"matchExpressions": [{"key": "app", "operator": "Odd"}]}), false),
    ] {
        let budget = json!({"spec": {"selector": selector}});
        assert_eq!(Selector::of(&budget).selects(&pod(true)), expected, "{budget}");
    }
    assert!(Selector::of(&json!({"spec": {"selector": {}}})).selects(&json!({})), "a pod without labels");
}

#[test]
fn a_pod_goes_when_its_budget_has_one_to_spare() {
    assert_eq!(judged(&pod(true), &[budget("one", web(), 1)]), Ok(Some("one".to_owned())));
    assert_eq!(judged(&pod(true), &[budget("other", json!({"selector": null}), 0)]), Ok(None));
    assert_eq!(
        judged(&pod(true), &[budget("one", web(), 0)]),
        Err(Objection::Spent { budget: "one".to_owned(), needed: 2, healthy: 2 })
    );
    let several = [budget("one", web(), 1), budget("all", json!({"selector": {}}), 1)];
    assert_eq!(judged(&pod(true), &several), Err(Objection::Several));
}

#[test]
fn what_serves_nobody_goes_unasked() {
    let none = [budget("one", web(), 0)];
    for phase in ["Pending", "Succeeded", "Failed"] {
        let mut pod = pod(true);
        pod["status"]["phase"] = json!(phase);
        assert_eq!(judged(&pod, &none), Ok(None), "{phase}");
    }
    let mut going = pod(true);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(judged(&going, &none), Ok(None));
}

#[test]
fn a_pod_that_is_not_healthy_goes_as_the_policy_says() {
    let with = |policy: Value, healthy: i64, needed: i64| {
        let mut spec = web();
        spec["unhealthyPodEvictionPolicy"] = policy;
        let mut value = budget("one", spec, 0).value.clone();
        value["status"]["currentHealthy"] = json!(healthy);
        value["status"]["desiredHealthy"] = json!(needed);
        let key = Key::new("poddisruptionbudgets.policy", "d", "one");
        judged(&pod(false), &[Arc::new(Object::new(key, 5, Value::clone(&value)))])
    };
    for policy in [Value::Null, json!("IfHealthyBudget")] {
        assert_eq!(with(policy.clone(), 2, 2), Ok(None), "the others are enough");
        assert!(with(policy.clone(), 1, 2).is_err(), "{policy}");
        assert!(with(policy, 0, 0).is_err(), "nobody says how many are enough");
    }
    assert_eq!(with(json!("AlwaysAllow"), 0, 2), Ok(None));
}

#[test]
fn nothing_is_let_go_by_a_count_that_is_old_or_too_long_unseen() {
    let changed = |change: fn(&mut Value)| {
        let mut value = Value::clone(&budget("one", web(), 1).value);
        change(&mut value);
        let key = Key::new("poddisruptionbudgets.policy", "d", "one");
        judged(&pod(true), &[Arc::new(Object::new(key, 5, value))])
    };
    let name = || "one".to_owned();
    let old = changed(|budget| budget["metadata"]["generation"] = json!(3));
    assert_eq!(old, Err(Objection::Uncounted { budget: name() }));
    let fill = |budget: &mut Value, count: usize| {
        let going = (0..count).map(|number| (number.to_string(), json!("2026-01-01T00:00:00Z")));
        budget["status"]["disruptedPods"] = Value::Object(going.collect());
    };
    let mut value = Value::clone(&budget("one", web(), 1).value);
    let key = Key::new("poddisruptionbudgets.policy", "d", "one");
    fill(&mut value, MOST_UNSEEN);
    assert!(judged(&pod(true), &[Arc::new(Object::new(key.clone(), 5, value.clone()))]).is_ok());
    fill(&mut value, MOST_UNSEEN + 1);
    let unseen = judged(&pod(true), &[Arc::new(Object::new(key, 5, value))]);
    assert_eq!(unseen, Err(Objection::Unseen { budget: name() }));
}

#[test]
fn what_is_spent_is_noted_and_the_last_one_changes_the_condition() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut first = Value::clone(&budget("one", web(), 2).value);
    say_whether_allowed(&mut first, at(10));
    let once = spent(&first, "a", at(20));
    assert_eq!(once["status"]["disruptionsAllowed"], 1);
    assert_eq!(once["status"]["conditions"], first["status"]["conditions"], "there is one left");
    let twice = spent(&once, "b", at(30));
    assert_eq!(
        twice["status"]["disruptedPods"],
        json!({"a": "1970-01-01T00:00:20Z", "b": "1970-01-01T00:00:30Z"})
    );
    assert_eq!(
        twice["status"]["conditions"],
        json!([{"type": ALLOWED, "status": "False", "reason": INSUFFICIENT, "message": "",
            "observedGeneration": 2, "lastTransitionTime": "1970-01-01T00:00:30Z"}])
    );
    let mut failed = twice;
    say_failed(&mut failed, "found no controllers", at(40));
    assert_eq!(failed["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:30Z");
    assert_eq!(failed["status"]["conditions"][0]["reason"], FAILED);
}
