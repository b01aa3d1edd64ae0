//! Daemon sets: one pod on each node that fits.

use jiff::SignedDuration;
use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, condition, is_deleting},
    sets::{daemon, end, gated, passes, ready, revisions},
};

fn node(number: usize) -> Key {
    Key::new(NODES, "", &format!("node-{number}"))
}

pub(crate) fn status(model: &Model) -> Value {
    model.list(DAEMONSETS).next().unwrap().1["status"].clone()
}

/// Nodes with a pod that is not being deleted, once per pod.
pub(crate) fn nodes(model: &Model) -> Vec<String> {
    let on = |pod: &Value| pod["spec"]["nodeName"].as_str().unwrap_or("nowhere").to_owned();
    let mut all: Vec<_> = model.active("every").map(|(_, pod)| on(pod)).collect();
    all.sort();
    all
}

fn taint(model: &mut Model, number: usize, effect: &str) {
    let taints = json!([{"key": "mine", "value": "x", "effect": effect}]);
    model.change(&node(number), |value| value["spec"]["taints"] = taints);
}

#[test]
fn each_node_has_one_pod_which_asks_for_it_by_its_name() {
    let mut model = gated(3);
    daemon(&mut model, &json!({}));
    model.settle();
    assert_eq!(nodes(&model), ["node-1", "node-2", "node-3"]);
    let pod = model.active("every").next().unwrap().1;
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let field = json!({"key": "metadata.name", "operator": "In", "values": [pod["spec"]["nodeName"]]});
    assert_eq!(terms["nodeSelectorTerms"], json!([{"matchFields": [field]}]));
    let tolerated: Vec<_> = pod["spec"]["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{}:{}", one["key"].as_str().unwrap(), one["effect"].as_str().unwrap()))
        .collect();
    for wanted in [
        "not-ready:NoExecute",
        "unreachable:NoExecute",
        "disk-pressure:NoSchedule",
        "memory-pressure:NoSchedule",
        "pid-pressure:NoSchedule",
        "unschedulable:NoSchedule",
    ] {
        assert!(tolerated.contains(&format!("node.kubernetes.io/{wanted}")), "{wanted}: {tolerated:?}");
    }
    assert!(!tolerated.iter().any(|one| one.contains("network-unavailable")));
    let hash =
        model.list(CONTROLLERREVISIONS).next().unwrap().1["metadata"]["labels"]["controller-revision-hash"]
            .clone();
    assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], hash);
    assert_eq!(revisions(&model)[0].1, format!("every-{}", hash.as_str().unwrap()));
    let status = status(&model);
    for field in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    ] {
        assert_eq!(status[field], 3, "{field}: {status}");
    }
    assert_eq!((&status["numberMisscheduled"], &status["observedGeneration"]), (&json!(0), &json!(1)));
    assert!(status["numberUnavailable"].is_null());
    assert!(model.told("every").contains("SuccessfulCreate"));
}

#[test]
fn nodes_come_and_go() {
    let mut model = gated(2);
    daemon(&mut model, &json!({}));
    model.settle();
    model.node(3, "4", "8Gi", "110");
    model.settle();
    assert_eq!(nodes(&model), ["node-1", "node-2", "node-3"]);
    model.remove(&node(1));
    model.settle();
    assert_eq!(nodes(&model), ["node-2", "node-3"]);
    assert_eq!(status(&model)["desiredNumberScheduled"], 2);
}

#[test]
fn a_node_must_be_selected_and_its_taints_tolerated() {
    let mut model = gated(4);
    model.change(&node(4), |value| value["metadata"]["labels"]["disk"] = "none".into());
    for number in 1..4 {
        model.change(&node(number), |value| value["metadata"]["labels"]["disk"] = "fast".into());
    }
    taint(&mut model, 2, "NoSchedule");
    let key = daemon(&mut model, &json!({}));
    model.change(&key, |value| {
        let requirement = json!({"key": "disk", "operator": "In", "values": ["fast", "slow"]});
        value["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}});
    });
    model.settle();
    assert_eq!(nodes(&model), ["node-1", "node-3"]);
    model.change(&node(1), |value| value["metadata"]["labels"]["disk"] = "none".into());
    taint(&mut model, 3, "NoSchedule");
    model.settle();
    assert_eq!(nodes(&model), ["node-3"], "who has a pod keeps it until it must not run there");
    let said = status(&model);
    assert_eq!((&said["desiredNumberScheduled"], &said["numberMisscheduled"]), (&json!(0), &json!(1)));
    taint(&mut model, 3, "NoExecute");
    model.settle();
    assert!(nodes(&model).is_empty());
    model.change(&key, |value| {
        value["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "mine", "operator": "Exists"}]);
    });
    model.settle();
    assert_eq!(nodes(&model), ["node-2", "node-3"]);
}

#[test]
fn a_cordoned_node_gets_its_pod_all_the_same() {
    let mut model = gated(2);
    model.change(&node(2), |value| {
        value["spec"] = json!({"unschedulable": true, "taints": [
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]});
    });
    daemon(&mut model, &json!({}));
    model.settle();
    assert_eq!(nodes(&model), ["node-1", "node-2"]);
}

#[test]
fn a_lost_node_keeps_its_pod() {
    let mut model = gated(3);
    daemon(&mut model, &json!({}));
    model.settle();
    model.hear(2, 60);
    passes(&mut model, 20);
    assert_eq!(nodes(&model), ["node-1", "node-2", "node-3"]);
    assert_eq!(status(&model)["desiredNumberScheduled"], 2);
    model.hear(2, 0);
    model.settle();
    assert_eq!((ready(&model, "every"), &status(&model)["numberReady"]), (3, &json!(3)));
}

#[test]
fn a_pod_that_does_not_fit_its_node_waits_for_it() {
    let mut model = gated(2);
    model.change(&node(2), |value| value["status"]["allocatable"]["cpu"] = "50m".into());
    daemon(&mut model, &json!({}));
    model.settle();
    assert_eq!(nodes(&model), ["node-1", "nowhere"]);
    let waiting = model.active("every").find(|(_, pod)| pod["spec"]["nodeName"].is_null()).unwrap().1;
    assert_eq!(
        condition(waiting, "PodScheduled")["message"],
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
         preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let said = status(&model);
    assert_eq!((&said["currentNumberScheduled"], &said["numberUnavailable"]), (&json!(2), &json!(1)));
    model.remove(&node(2));
    model.settle();
    assert_eq!(nodes(&model), ["node-1"], "a pod for a node that is gone goes, too");
}

#[test]
fn pods_that_fail_are_replaced_ever_more_seldom() {
    let mut model = gated(1);
    daemon(&mut model, &json!({}));
    model.settle();
    let begun = model.now;
    let mut seen = std::collections::BTreeSet::new();
    while model.now < begun + SignedDuration::from_secs(150) {
        let living: Vec<_> = model.active("every").map(|(key, _)| key.clone()).collect();
        for key in living {
            if seen.insert(key.clone()) && !model.get(&key)["spec"]["nodeName"].is_null() {
                end(&mut model, &key, "Failed");
            } else if model.get(&key)["status"]["phase"] == "Pending" {
                seen.remove(&key);
            }
        }
        model.pass();
        model.agents();
    }
    assert!((6..=9).contains(&seen.len()), "{} pods", seen.len());
    model.now += SignedDuration::from_secs(1_000);
    model.settle();
    assert_eq!((nodes(&model), ready(&model, "every")), (vec!["node-1".to_owned()], 1));
    assert!(model.pods().all(|(_, pod)| !is_deleting(pod)));
}

#[test]
fn several_pods_on_one_node_are_one_soon() {
    let mut model = gated(2);
    daemon(&mut model, &json!({}));
    model.settle();
    let (_, pod) = model.active("every").next().unwrap();
    let mut copy = pod.clone();
    copy["metadata"]["name"] = "copy".into();
    copy["metadata"]["uid"] = Value::Null;
    copy["metadata"]["ownerReferences"] = json!([]);
    copy["metadata"]["creationTimestamp"] = Value::Null;
    copy["status"] = json!({"phase": "Pending"});
    model.put(PODS, "default", copy);
    model.settle();
    assert_eq!(nodes(&model), ["node-1", "node-2"]);
    assert!(model.active("every").all(|(key, _)| &*key.name != "copy"), "the oldest stays");
}

fn paint(model: &mut Model, number: usize, colour: &str) {
    model.change(&node(number), |value| value["metadata"]["labels"]["colour"] = colour.into());
    model.settle();
}

#[test]
fn pods_follow_the_labels_of_nodes_and_the_selector_of_the_template() {
    let mut model = gated(3);
    let key = daemon(&mut model, &json!({"updateStrategy": {"type": "OnDelete"}}));
    model.change(&key, |value| value["spec"]["template"]["spec"]["nodeSelector"] = json!({"colour": "blue"}));
    model.settle();
    assert!(nodes(&model).is_empty());
    paint(&mut model, 2, "blue");
    assert_eq!(nodes(&model), ["node-2"]);
    paint(&mut model, 2, "green");
    assert!(nodes(&model).is_empty());
    model.change(&key, |value| {
        value["spec"]["template"]["spec"]["nodeSelector"]["colour"] = "green".into();
        value["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
    });
    model.settle();
    assert_eq!((nodes(&model), ready(&model, "every")), (vec!["node-2".to_owned()], 1));
    let said = status(&model);
    for field in ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"] {
        assert_eq!(said[field], 1, "{field}");
    }
}

#[test]
fn a_failed_pod_is_told_and_replaced_at_once() {
    let mut model = gated(2);
    daemon(&mut model, &json!({}));
    model.settle();
    let failed = model.active("every").next().unwrap().0.clone();
    end(&mut model, &failed, "Failed");
    model.settle();
    assert_eq!((nodes(&model), ready(&model, "every")), (vec!["node-1".to_owned(), "node-2".to_owned()], 2));
    assert!(!model.objects.contains_key(&failed));
    let told = model.told("every");
    assert!(told.contains("FailedDaemonPod") && told.contains("SuccessfulDelete"), "{told:?}");
}

#[test]
fn what_others_say_in_the_status_stays() {
    let mut model = gated(1);
    let key = daemon(&mut model, &json!({}));
    model.settle();
    let said = json!([{"type": "StatusUpdate", "status": "True", "reason": "E2E"}]);
    model.change(&key, |value| {
        value["status"]["conditions"] = said.clone();
        value["status"]["numberReady"] = 7.into();
    });
    model.settle();
    assert_eq!((&status(&model)["conditions"], &status(&model)["numberReady"]), (&said, &json!(1)));
}
