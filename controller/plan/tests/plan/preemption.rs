//! Pods that matter more get the room of pods that matter less.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, condition, has_ended, is_deleting},
    scheduling::{asking, offer, pod, refusal},
};

const BUDGETS: &str = "poddisruptionbudgets.policy";
const FAKE: &str = "example.com/fakecpu";

fn ranked(amount: &str, priority: i32) -> Value {
    json!({"containers": asking(FAKE, amount), "priority": priority, "terminationGracePeriodSeconds": 30})
}

fn cluster(nodes: usize, amount: &str) -> Model {
    let mut model = Model::new(nodes);
    (1..=nodes).for_each(|node| offer(&mut model, node, FAKE, amount));
    model.settle();
    model
}

fn node_of<'m>(model: &'m Model, key: &Key) -> Option<&'m str> {
    model.get(key)["spec"]["nodeName"].as_str()
}

fn nominated<'m>(model: &'m Model, key: &Key) -> Option<&'m str> {
    model.get(key)["status"]["nominatedNodeName"].as_str()
}

/// Who is on their way out, or gone.
fn gone(model: &Model, keys: &[Key]) -> Vec<bool> {
    let lives = |key: &Key| model.objects.get(key).is_some_and(|(_, pod)| !is_deleting(pod));
    keys.iter().map(|key| !lives(key)).collect()
}

fn budget(model: &mut Model, name: &str, app: &str, allowed: i64) -> Key {
    let value = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    model.put(BUDGETS, "default", value)
}

#[test]
fn the_least_of_all_makes_room() {
    let mut model = cluster(2, "5");
    let mut pods = Vec::new();
    for (index, priority) in [1, 100, 100, 100].into_iter().enumerate() {
        let mut spec = ranked("2", priority);
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": format!("node-{}", index / 2 + 1)});
        pods.push(pod(&mut model, &format!("pod-{index}"), spec));
    }
    model.settle();
    let preemptor = pod(&mut model, "preemptor", ranked("2", 1_000));
    model.pass();
    assert_eq!(gone(&model, &pods), [true, false, false, false]);
    let victim = model.get(&pods[0]).clone();
    assert_eq!(victim["metadata"]["deletionGracePeriodSeconds"], 30);
    let said = condition(&victim, "DisruptionTarget");
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("PreemptionByScheduler")));
    assert_eq!(said["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    let (_, event) = model.list(EVENTS).find(|(_, event)| event["reason"] == "Preempted").unwrap();
    assert_eq!(event["involvedObject"]["uid"], victim["metadata"]["uid"]);
    assert_eq!(event["type"], "Normal");
    let uid = model.get(&preemptor)["metadata"]["uid"].as_str().unwrap();
    assert_eq!(event["message"], format!("Preempted by pod {uid} on node node-1"));
    assert_eq!(nominated(&model, &preemptor), Some("node-1"));
    assert_eq!(refusal(&model, &preemptor), format!("0/2 nodes are available: 2 Insufficient {FAKE}."));
    model.pass();
    assert_eq!(node_of(&model, &preemptor), None, "the victim has not ended");
    assert_eq!(
        refusal(&model, &preemptor),
        format!(
            "0/2 nodes are available: 2 Insufficient {FAKE}. preemption: not eligible due to a terminating pod on \
             the nominated node."
        )
    );
    model.settle();
    assert_eq!(node_of(&model, &preemptor), Some("node-1"));
    assert!(!model.objects.contains_key(&pods[0]));
    assert_eq!(gone(&model, &pods[1..]), [false, false, false]);
}

#[test]
fn replica_sets_make_room_once_and_no_more() {
    let mut model = cluster(1, "1000");
    let mut sets = Vec::new();
    for (name, amount, priority) in [("one", "200", 1), ("two", "300", 2), ("three", "450", 3)] {
        let key = model.deployment(name, 1, json!({}));
        model.change(&key, |set| {
            let spec = &mut set["spec"]["template"]["spec"];
            for (field, value) in ranked(amount, priority).as_object().unwrap() {
                spec[field] = value.clone();
            }
        });
        model.settle();
        sets.push(name);
    }
    let preemptor = pod(&mut model, "preemptor", ranked("500", 4));
    let first: Vec<Vec<Key>> =
        sets.iter().map(|set| model.active(set).map(|(key, _)| key.clone()).collect()).collect();
    model.settle();
    assert_eq!(node_of(&model, &preemptor), Some("node-1"));
    let now: Vec<Vec<Key>> =
        sets.iter().map(|set| model.active(set).map(|(key, _)| key.clone()).collect()).collect();
    assert_eq!(now[2], first[2], "there is room for the third beside it");
    assert_ne!((&now[0], &now[1]), (&first[0], &first[1]));
    // Each was made anew once, and waits.
    let made = model.list(EVENTS).filter(|(_, event)| event["reason"] == "SuccessfulCreate");
    assert_eq!(made.map(|(_, event)| event["count"].as_i64().unwrap()).sum::<i64>(), 5);
    for key in [&now[0][0], &now[1][0]] {
        assert_eq!(node_of(&model, key), None);
    }
}

#[test]
fn budgets_are_kept_if_there_is_another_way() {
    let mut model = cluster(2, "1");
    let guarded = pod(&mut model, "guarded", ranked("1", 1));
    let free = pod(&mut model, "free", ranked("1", 5));
    model.settle();
    let budget = budget(&mut model, "guarded", "guarded", 0);
    pod(&mut model, "first", ranked("1", 10));
    model.settle();
    assert_eq!(
        gone(&model, &[guarded.clone(), free]),
        [false, true],
        "the one that matters more, but is free"
    );
    let second = pod(&mut model, "second", ranked("1", 7));
    model.change(&budget, |value| value["status"]["disruptionsAllowed"] = 0.into());
    model.settle();
    assert_eq!(gone(&model, &[guarded]), [true], "no other way");
    assert!(node_of(&model, &second).is_some());
}

#[test]
fn a_budget_is_not_spent_twice_in_one_pass() {
    let mut model = cluster(3, "1");
    let guarded = |model: &mut Model, name: &str| {
        let key = pod(model, name, ranked("1", 1));
        model.change(&key, |value| value["metadata"]["labels"]["app"] = "db".into());
        key
    };
    let db: Vec<_> = ["db-1", "db-2"].iter().map(|name| guarded(&mut model, name)).collect();
    let other = pod(&mut model, "other", ranked("1", 3));
    model.settle();
    budget(&mut model, "db", "db", 1);
    for name in ["x", "y"] {
        pod(&mut model, name, ranked("1", 10));
    }
    model.pass();
    assert_eq!(gone(&model, &db).iter().filter(|gone| **gone).count(), 1);
    assert_eq!(gone(&model, &[other]), [true]);
}

#[test]
fn fewest_and_youngest_victims() {
    let mut model = cluster(3, "4");
    let on = |node: usize, amount: &str, priority: i32| {
        let mut spec = ranked(amount, priority);
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": format!("node-{node}")});
        spec
    };
    let two: Vec<_> = (0..2).map(|index| pod(&mut model, &format!("two-{index}"), on(1, "2", 1))).collect();
    let old = pod(&mut model, "old", on(2, "4", 1));
    let young = pod(&mut model, "young", on(3, "4", 1));
    model.settle();
    model.change(&old, |value| value["status"]["startTime"] = "2026-11-22T12:00:01Z".into());
    model.change(&young, |value| value["status"]["startTime"] = "2026-11-22T12:00:02Z".into());
    pod(&mut model, "preemptor", ranked("4", 2));
    model.settle();
    assert_eq!(gone(&model, &[old, young]), [false, true]);
    assert_eq!(gone(&model, &two), [false, false]);
}

#[test]
fn who_may_not_preempt_waits() {
    let mut model = cluster(1, "1");
    let low = pod(&mut model, "low", ranked("1", 1));
    model.settle();
    let mut spec = ranked("1", 10);
    spec["preemptionPolicy"] = "Never".into();
    let polite = pod(&mut model, "polite", spec);
    let equal = pod(&mut model, "equal", ranked("1", 1));
    model.settle();
    assert_eq!(gone(&model, &[low]), [false]);
    let why = |key: &Key| refusal(&model, key).split_once("preemption: ").unwrap().1.to_owned();
    assert_eq!(why(&polite), "not eligible due to preemptionPolicy=Never.");
    assert_eq!(
        why(&equal),
        "0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        "equals do not displace each other"
    );
}

#[test]
fn room_that_was_made_is_kept() {
    let mut model = cluster(1, "10");
    let low: Vec<_> = (0..2).map(|index| pod(&mut model, &format!("low-{index}"), ranked("5", 1))).collect();
    model.settle();
    let high = pod(&mut model, "high", ranked("8", 10));
    model.pass();
    assert_eq!(nominated(&model, &high), Some("node-1"));
    // One has ended: there is room for the small one, but not beside the one that waits.
    model.remove(&low[0]);
    let small = pod(&mut model, "small", ranked("4", 5));
    let urgent = pod(&mut model, "urgent", ranked("2", 20));
    model.pass();
    assert_eq!(node_of(&model, &small), None);
    assert_eq!(node_of(&model, &urgent), Some("node-1"), "who matters more than both takes it");
    model.settle();
    assert_eq!(node_of(&model, &high), Some("node-1"));
    assert_eq!(node_of(&model, &small), None);
}

#[test]
fn who_matters_most_takes_the_place_that_others_made_for_the_less() {
    let mut model = cluster(1, "1");
    let low = pod(&mut model, "low", ranked("1", 1));
    model.settle();
    let medium = pod(&mut model, "medium", ranked("1", 5));
    model.pass();
    assert_eq!(nominated(&model, &medium), Some("node-1"));
    let high = pod(&mut model, "high", ranked("1", 10));
    model.pass();
    assert_eq!(nominated(&model, &high), Some("node-1"));
    assert_eq!(nominated(&model, &medium), None);
    model.settle();
    assert_eq!(node_of(&model, &high), Some("node-1"));
    assert_eq!(node_of(&model, &medium), None);
    assert!(!model.objects.contains_key(&low));
}

#[test]
fn a_place_on_a_node_that_went_away_is_given_up() {
    let mut model = cluster(2, "1");
    let low: Vec<_> = (0..2).map(|index| pod(&mut model, &format!("low-{index}"), ranked("1", 1))).collect();
    model.settle();
    let high = pod(&mut model, "high", ranked("1", 10));
    model.pass();
    let first = nominated(&model, &high).unwrap().to_owned();
    model.change(&Key::new(NODES, "", &first), |node| node["spec"]["unschedulable"] = true.into());
    model.pass();
    assert_ne!(nominated(&model, &high), Some(&*first));
    assert_eq!(gone(&model, &low), [true, true]);
    model.settle();
    assert!(node_of(&model, &high).is_some_and(|node| node != first));
}

#[test]
fn a_pod_with_a_finalizer_keeps_its_room_until_it_has_ended() {
    let mut model = cluster(1, "1");
    let low = pod(&mut model, "low", ranked("1", 1));
    model.change(&low, |value| value["metadata"]["finalizers"] = json!(["example.com/mine"]));
    model.settle();
    let high = pod(&mut model, "high", ranked("1", 10));
    model.settle();
    assert!(is_deleting(model.get(&low)) && !has_ended(model.get(&low)));
    assert_eq!(node_of(&model, &high), None);
    model.take_off(&low, "example.com/mine");
    model.settle();
    assert_eq!(node_of(&model, &high), Some("node-1"));
}

#[test]
fn many_displace_many_in_one_pass() {
    let mut model = cluster(3, "10");
    let low: Vec<_> = (0..30).map(|index| pod(&mut model, &format!("low-{index}"), ranked("1", 1))).collect();
    model.settle();
    assert!(low.iter().all(|key| node_of(&model, key).is_some()));
    let high: Vec<_> =
        (0..15).map(|index| pod(&mut model, &format!("high-{index}"), ranked("1", 1_000))).collect();
    let medium: Vec<_> =
        (0..20).map(|index| pod(&mut model, &format!("medium-{index}"), ranked("1", 100))).collect();
    model.pass();
    assert!(gone(&model, &low).iter().all(|gone| *gone));
    assert!(high.iter().all(|key| nominated(&model, key).is_some()));
    assert_eq!(medium.iter().filter(|key| nominated(&model, key).is_some()).count(), 15);
    model.settle();
    assert!(high.iter().all(|key| node_of(&model, key).is_some()));
    assert_eq!(medium.iter().filter(|key| node_of(&model, key).is_some()).count(), 15);
}
