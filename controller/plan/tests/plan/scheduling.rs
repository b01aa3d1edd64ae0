//! Filters, scores, messages.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::{Model, condition};

/// A pod whose spec has these fields beside or instead of its own.
pub(crate) fn pod(model: &mut Model, name: &str, spec: Value) -> Key {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "image:1",
            "resources": {"requests": {"cpu": "100m"}}}]},
        "status": {"phase": "Pending"},
    });
    for (field, part) in spec.as_object().unwrap() {
        value["spec"][field] = part.clone();
    }
    model.put(PODS, "default", value)
}

fn containers(cpu: &str, memory: &str) -> Value {
    json!([{"name": "main", "image": "image:1", "resources": {"requests": {"cpu": cpu, "memory": memory}}}])
}

/// Why a pod has no node.
pub(crate) fn refusal(model: &Model, key: &Key) -> String {
    let condition = condition(model.get(key), "PodScheduled");
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Unschedulable")));
    condition["message"].as_str().unwrap().to_owned()
}

#[test]
fn equal_pods_fill_equal_nodes_evenly() {
    for (nodes, replicas) in [(3, 6), (3, 9), (2, 5), (4, 7)] {
        let mut model = Model::new(nodes);
        model.deployment("web", replicas, json!({}));
        model.settle();
        let spread = model.spread("web");
        assert_eq!(spread.iter().sum::<usize>(), usize::try_from(replicas).unwrap());
        assert!(spread.iter().max().unwrap() - spread.iter().min().unwrap() <= 1, "{spread:?}");
    }
}

#[test]
fn the_most_loaded_dimension_decides() {
    let mut model = Model::new(2);
    // node-1 has little memory left, node-2 little processor.
    let place = |cpu, memory, node: &str| json!({"containers": containers(cpu, memory), "nodeName": node});
    pod(&mut model, "a", place("100m", "6Gi", "node-1"));
    pod(&mut model, "b", place("3", "100Mi", "node-2"));
    let wants_cpu = pod(&mut model, "c", json!({"containers": containers("1", "100Mi")}));
    model.settle();
    let wants_memory = pod(&mut model, "d", json!({"containers": containers("10m", "1900Mi")}));
    model.settle();
    assert_eq!(model.get(&wants_cpu)["spec"]["nodeName"], "node-1");
    assert_eq!(model.get(&wants_memory)["spec"]["nodeName"], "node-2");
}

#[test]
fn a_pod_that_fits_nowhere_says_why_once_and_is_placed_when_it_can() {
    let mut model = Model::new(3);
    let big = pod(&mut model, "big", json!({"containers": containers("5", "1Gi")}));
    model.settle();
    assert_eq!(
        refusal(&model, &big),
        "0/3 nodes are available: 3 Insufficient cpu. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    let told: Vec<_> =
        model.list(EVENTS).filter(|(_, event)| event["reason"] == "FailedScheduling").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1["count"], 1);
    assert_eq!(told[0].1["type"], "Warning");
    assert_eq!(told[0].1["involvedObject"]["uid"], model.get(&big)["metadata"]["uid"]);
    model.node(4, "8", "8Gi", "110");
    model.settle();
    assert_eq!(model.get(&big)["spec"]["nodeName"], "node-4");
    assert!(model.told("big").contains("Scheduled"));
}

#[test]
fn every_filter_gives_its_reason() {
    let mut model = Model::new(3);
    let node = |index: usize| Key::new(NODES, "", &format!("node-{index}"));
    model.change(&node(1), |value| value["spec"]["unschedulable"] = true.into());
    model.change(&node(2), |value| {
        value["spec"]["taints"] = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    });
    model.node(4, "4", "8Gi", "0");
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-4"]}]}]}}});
    let picky = pod(&mut model, "picky", json!({"affinity": affinity}));
    model.settle();
    assert_eq!(
        refusal(&model, &picky),
        "0/4 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector, \
         1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable. \
         preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    );
    let tolerant = json!({"nodeSelector": {"kubernetes.io/hostname": "node-2"},
        "tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes"}]});
    let tolerant = pod(&mut model, "tolerant", tolerant);
    model.settle();
    assert_eq!(model.get(&tolerant)["spec"]["nodeName"], "node-2");
}

#[test]
fn a_silent_node_gets_no_pods() {
    let mut model = Model::new(2);
    model.hear(1, 3);
    model.deployment("web", 4, json!({}));
    model.settle();
    assert_eq!(model.spread("web"), [0, 4]);
}

#[test]
fn a_pod_bound_by_hand_gets_an_address() {
    let mut model = Model::new(2);
    let key = pod(&mut model, "static", json!({"nodeName": "node-2"}));
    model.settle();
    assert_eq!(model.get(&key)["status"]["podIP"], "10.42.2.2");
    let host = pod(&mut model, "host", json!({"hostNetwork": true, "nodeName": "node-1"}));
    model.settle();
    assert_eq!(model.get(&host)["status"]["podIP"], "192.0.2.1");
}

#[test]
fn a_full_slice_waits_for_acknowledged_addresses() {
    let mut model = Model::new(1);
    model.change(&Key::new(NODES, "", "node-1"), |node| node["status"]["allocatable"]["pods"] = "500".into());
    for last in 2..255 {
        model.released.insert(std::net::Ipv4Addr::new(10, 42, 1, last), model.revision + 5);
    }
    model.acknowledging = false;
    let key = pod(&mut model, "late", json!({}));
    model.pass();
    assert_eq!(
        refusal(&model, &key),
        "0/1 nodes are available: 1 node(s) had no free pod address. \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    model.acknowledged = model.revision + 5;
    model.pass();
    assert_eq!(model.get(&key)["status"]["podIP"], "10.42.1.2");
}

fn host_port(address: &str, port: i32, protocol: &str) -> Value {
    json!({"containers": [{"name": "main", "image": "image:1",
        "ports": [{"containerPort": 80, "hostPort": port, "hostIP": address, "protocol": protocol}]}]})
}

#[test]
fn two_pods_do_not_share_a_port_of_their_machine() {
    let mut model = Model::new(1);
    let first = pod(&mut model, "first", host_port("", 8080, "TCP"));
    model.settle();
    let other_protocol = pod(&mut model, "udp", host_port("", 8080, "UDP"));
    let same = pod(&mut model, "same", host_port("192.0.2.1", 8080, "TCP"));
    model.settle();
    assert_eq!(model.get(&other_protocol)["spec"]["nodeName"], "node-1");
    assert_eq!(
        refusal(&model, &same),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. \
         preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    model.remove(&first);
    model.settle();
    assert_eq!(model.get(&same)["spec"]["nodeName"], "node-1");
}

#[test]
fn pods_of_one_pass_do_not_take_each_others_ports() {
    let mut model = Model::new(2);
    let keys: Vec<_> = (0..3)
        .map(|index| pod(&mut model, &format!("web-{index}"), host_port("127.0.0.1", 80, "TCP")))
        .collect();
    model.settle();
    let nodes: Vec<_> = keys.iter().map(|key| model.get(key)["spec"]["nodeName"].as_str()).collect();
    assert_eq!(nodes, [Some("node-1"), Some("node-2"), None]);
}

/// As a user offers what the machine does not report.
pub(crate) fn offer(model: &mut Model, node: usize, resource: &str, amount: &str) {
    model.change(&Key::new(NODES, "", &format!("node-{node}")), |node| {
        node["status"]["allocatable"][resource] = amount.into();
    });
}

pub(crate) fn asking(resource: &str, amount: &str) -> Value {
    json!([{"name": "main", "image": "image:1",
        "resources": {"requests": {resource: amount}, "limits": {resource: amount}}}])
}

#[test]
fn what_a_pod_costs_beside_its_containers_counts() {
    let mut model = Model::new(2);
    offer(&mut model, 1, "example.com/beardsecond", "1000");
    let first = pod(&mut model, "first", json!({"containers": asking("example.com/beardsecond", "700")}));
    model.settle();
    assert_eq!(model.get(&first)["spec"]["nodeName"], "node-1");
    let overhead = json!({"example.com/beardsecond": "250"});
    let second = asking("example.com/beardsecond", "200");
    let second = pod(&mut model, "second", json!({"containers": second, "overhead": overhead}));
    model.settle();
    assert_eq!(
        refusal(&model, &second),
        "0/2 nodes are available: 2 Insufficient example.com/beardsecond. \
         preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, \
         1 Preemption is not helpful for scheduling."
    );
    offer(&mut model, 1, "example.com/beardsecond", "1150");
    model.settle();
    assert_eq!(model.get(&second)["spec"]["nodeName"], "node-1");
}

#[test]
fn a_pod_with_gates_waits_until_the_last_is_gone() {
    let mut model = Model::new(1);
    let key = pod(&mut model, "gated", json!({"schedulingGates": [{"name": "foo"}, {"name": "bar"}]}));
    model.settle();
    let gated = |model: &Model| {
        let condition = condition(model.get(&key), "PodScheduled");
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("False"), &json!("SchedulingGated"))
        );
        assert_eq!(condition["message"], "Scheduling is blocked due to non-empty scheduling gates");
    };
    gated(&model);
    model.change(&key, |pod| pod["spec"]["schedulingGates"] = json!([{"name": "bar"}]));
    model.settle();
    gated(&model);
    assert!(model.told("gated").is_empty(), "nothing failed");
    model.change(&key, |pod| drop(pod["spec"].as_object_mut().unwrap().remove("schedulingGates")));
    model.settle();
    assert_eq!(model.get(&key)["spec"]["nodeName"], "node-1");
    assert_eq!(condition(model.get(&key), "PodScheduled")["status"], "True");
}

#[test]
fn another_schedulers_pods_are_left_alone() {
    let mut model = Model::new(1);
    let key = pod(&mut model, "other", json!({"schedulerName": "mine"}));
    model.settle();
    assert!(model.get(&key)["spec"]["nodeName"].is_null());
    assert!(condition(model.get(&key), "PodScheduled").is_null());
}

#[test]
fn who_matters_more_comes_first() {
    let mut model = Model::new(1);
    let big = |priority: i32| json!({"containers": containers("3", "1Gi"), "priority": priority});
    let low = pod(&mut model, "a-low", big(1));
    let high = pod(&mut model, "b-high", big(2));
    model.pass();
    assert_eq!(model.get(&high)["spec"]["nodeName"], "node-1");
    assert_eq!(
        refusal(&model, &low),
        "0/1 nodes are available: 1 Insufficient cpu. \
        preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
}
