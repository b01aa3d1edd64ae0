//! Conditions, taints, evictions and their brake.

use std::time::Duration;

use serde_json::{Value, json};
use warren_plan::Liveness;
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::{Model, condition, is_deleting, is_ready};

fn node(index: usize) -> Key {
    Key::new(NODES, "", &format!("node-{index}"))
}

fn ready(model: &Model, index: usize) -> (String, String) {
    let condition = condition(model.get(&node(index)), "Ready");
    (condition["status"].as_str().unwrap().to_owned(), condition["reason"].as_str().unwrap().to_owned())
}

fn taints(model: &Model, index: usize) -> Vec<String> {
    let taints = model.get(&node(index))["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints
        .iter()
        .map(|taint| format!("{}:{}", taint["key"].as_str().unwrap(), taint["effect"].as_str().unwrap()))
        .collect()
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn a_node_is_ready_when_agent_runtime_and_network_are() {
    let mut model = Model::new(1);
    assert_eq!(ready(&model, 1), pair("True", "KubeletReady"));
    assert!(model.told("node-1").contains("NodeReady"));
    model.nodes.insert("node-1".into(), Liveness { silent_for: Duration::ZERO, network_ready: false });
    model.settle();
    assert_eq!(ready(&model, 1), pair("False", "KubeletNotReady"));
    assert_eq!(
        taints(&model, 1),
        ["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"]
    );
    model.hear(1, 0);
    model.change(&node(1), |value| {
        value["status"]["conditions"][0] =
            json!({"type": "ContainerRuntimeReady", "status": "False", "message": "docker does not answer"});
    });
    model.settle();
    let message = condition(model.get(&node(1)), "Ready")["message"].clone();
    assert_eq!(message, "container runtime is down: docker does not answer");
    assert!(model.told("node-1").contains("NodeNotReady"));
}

#[test]
fn a_lost_nodes_pods_are_replaced_and_it_comes_back_clean() {
    let mut model = Model::new(3);
    model.deployment("web", 6, json!({}));
    model.service("web", "web");
    model.settle();
    model.change(&node(2), |value| {
        value["spec"]["taints"] = json!([{"key": "mine", "effect": "PreferNoSchedule"}])
    });
    model.hear(2, 10);
    model.settle();
    assert_eq!(ready(&model, 2), pair("Unknown", "NodeStatusUnknown"));
    assert_eq!(
        taints(&model, 2),
        [
            "mine:PreferNoSchedule",
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/unreachable:NoExecute"
        ]
    );
    assert_eq!(model.spread("web"), [3, 0, 3]);
    assert_eq!(model.ready_endpoints("web"), 6);
    let left: Vec<&Value> = model.pods().map(|(_, pod)| pod).filter(|pod| is_deleting(pod)).collect();
    assert_eq!(left.len(), 2, "they wait for their agent");
    assert!(left.iter().all(|pod| !is_ready(pod)));
    model.hear(2, 0);
    model.settle();
    assert_eq!(taints(&model, 2), ["mine:PreferNoSchedule"]);
    assert_eq!(model.pods().count(), 6);
}

#[test]
fn tolerations_delay_or_prevent_eviction() {
    let mut model = Model::new(2);
    let tolerate = |seconds: Value| {
        json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": seconds}])
    };
    let cases = [
        ("default", tolerate(json!(300))),
        ("minute", tolerate(json!(60))),
        ("forever", tolerate(Value::Null)),
    ];
    for (name, tolerations) in cases {
        model.put(PODS, "default", json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}], "tolerations": tolerations},
        }));
    }
    model.settle();
    model.hear(1, 10);
    model.settle();
    let gone = |model: &Model, name: &str| is_deleting(model.get(&Key::new(PODS, "default", name)));
    assert_eq!(["default", "minute", "forever"].map(|name| gone(&model, name)), [true, false, false]);
    assert!(!is_ready(model.get(&Key::new(PODS, "default", "forever"))));
    model.now = model.wake_at();
    model.settle();
    assert_eq!(["minute", "forever"].map(|name| gone(&model, name)), [true, false]);
    // The pod that stayed is what its agent last said once the node answers.
    model.hear(1, 0);
    assert!(model.pass());
    assert!(is_ready(model.get(&Key::new(PODS, "default", "forever"))));
}

#[test]
fn pods_leave_a_node_for_a_taint_as_late_as_they_say() {
    let mut model = Model::new(1);
    let tolerate = |seconds: Value| json!([{"key": "mine", "operator": "Equal", "value": "x", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    let put = |model: &mut Model, name: &str, tolerations: Value| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}], "tolerations": tolerations}});
        model.put(PODS, "default", pod)
    };
    let none = put(&mut model, "none", json!([]));
    let soon = put(&mut model, "soon", tolerate(json!(60)));
    let never = put(&mut model, "never", tolerate(Value::Null));
    let spared = put(&mut model, "spared", tolerate(json!(90)));
    model.settle();
    // As people write it: without a time.
    let taint = json!([{"key": "mine", "value": "x", "effect": "NoExecute"}]);
    model.change(&node(1), |value| value["spec"]["taints"] = taint);
    model.settle();
    let lives = |model: &Model, key: &Key| model.objects.contains_key(key);
    assert_eq!([&none, &soon, &never, &spared].map(|key| lives(&model, key)), [false, true, true, true]);
    assert!(model.told("none").contains("TaintManagerEviction"));
    assert!(model.get(&node(1))["spec"]["taints"][0]["timeAdded"].is_string());
    model.now += jiff::SignedDuration::from_secs(50);
    let late = put(&mut model, "late", tolerate(json!(60)));
    model.settle();
    assert!(lives(&model, &soon), "its time has not come");
    model.now = model.wake_at();
    model.settle();
    assert!(!lives(&model, &soon));
    assert!(lives(&model, &late), "its time began when it came");
    model.change(&node(1), |value| value["spec"]["taints"] = json!([]));
    model.settle();
    model.now += jiff::SignedDuration::from_secs(600);
    model.settle();
    assert_eq!([&never, &spared, &late].map(|key| lives(&model, key)), [true; 3], "the taint has gone");
}

#[test]
fn the_brake_holds_evictions_while_most_nodes_are_silent() {
    let mut model = Model::new(3);
    model.deployment("web", 6, json!({}));
    model.settle();
    // The second is only suspect when the first is lost, and counts already.
    model.hear(1, 10);
    model.hear(2, 9);
    model.settle();
    model.hear(2, 10);
    model.settle();
    assert!(model.pods().all(|(_, pod)| !is_deleting(pod)), "nothing is evicted");
    assert_eq!(ready(&model, 1).0, "Unknown");
    let problems = model.plan().problems;
    assert!(
        problems.iter().any(|problem| problem.message.contains("2 of 3 nodes are silent")),
        "{problems:?}"
    );
    assert!(model.told("node-1").contains("EvictionBrake"));
    model.hear(1, 0);
    model.settle();
    assert_eq!(model.spread("web"), [3, 0, 3]);
}

#[test]
fn an_unknown_node_keeps_its_condition() {
    let mut model = Model::new(1);
    model.nodes.clear();
    assert!(model.plan().steps.is_empty());
}
