//! Pods whose node was chosen by hand, and nodes that cannot hold them.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::Model,
    scheduling::{asking, offer, pod},
};

fn with_port(node: &str, port: i32) -> Value {
    json!({"nodeName": node, "containers": [{"name": "main", "image": "image:1",
        "ports": [{"containerPort": 80, "hostPort": port}]}]})
}

/// Phase and reason; a pod that was let in has an address and no reason.
fn fate(model: &Model, key: &Key) -> (String, String) {
    let status = &model.get(key)["status"];
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(status["podIP"].is_string(), text("reason").is_empty(), "{status}");
    (text("phase"), text("reason"))
}

fn rejected(reason: &str) -> (String, String) {
    ("Failed".to_owned(), reason.to_owned())
}

#[test]
fn a_node_refuses_a_pod_whose_port_is_taken() {
    let mut model = Model::new(2);
    let (first, second) = (
        pod(&mut model, "first", with_port("node-1", 8080)),
        pod(&mut model, "second", with_port("node-1", 8080)),
    );
    let elsewhere = pod(&mut model, "elsewhere", with_port("node-2", 8080));
    model.settle();
    assert_eq!(fate(&model, &first).1, "");
    assert_eq!(fate(&model, &elsewhere).1, "");
    assert_eq!(fate(&model, &second), rejected("NodePorts"));
    let told = model.list(EVENTS).filter(|(_, event)| event["reason"] == "NodePorts").count();
    assert_eq!(told, 1);
    model.remove(&first);
    let third = pod(&mut model, "third", with_port("node-1", 8080));
    model.settle();
    assert_eq!(fate(&model, &third).1, "", "one that has failed takes nothing");
}

#[test]
fn a_node_refuses_what_it_has_no_room_for() {
    let mut model = Model::new(1);
    offer(&mut model, 1, "example.com/lamp", "3");
    let lamps =
        |amount: &str| json!({"nodeName": "node-1", "containers": asking("example.com/lamp", amount)});
    let first = pod(&mut model, "first", lamps("2"));
    model.settle();
    let (second, third) = (pod(&mut model, "second", lamps("2")), pod(&mut model, "third", lamps("1")));
    model.settle();
    assert_eq!(fate(&model, &first).1, "");
    assert_eq!(fate(&model, &second), rejected("OutOfexample.com/lamp"));
    assert_eq!(fate(&model, &third).1, "");
}

#[test]
fn a_node_refuses_a_pod_that_selects_others() {
    let mut model = Model::new(2);
    let spec = json!({"nodeName": "node-1", "nodeSelector": {"kubernetes.io/hostname": "node-2"}});
    let wrong = pod(&mut model, "wrong", spec);
    model.settle();
    assert_eq!(fate(&model, &wrong), rejected("NodeAffinity"));
}

#[test]
fn a_pod_that_was_refused_goes_at_once() {
    let mut model = Model::new(1);
    pod(&mut model, "first", with_port("node-1", 8080));
    let spec = json!({"serviceName": "db", "replicas": 1, "selector": {"matchLabels": {"app": "db"}}, "template":
        {"metadata": {"labels": {"app": "db"}}, "spec": with_port("node-1", 8080)}});
    model.put(
        STATEFULSETS,
        "default",
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db"}, "spec": spec}),
    );
    let key = Key::new(PODS, "default", "db-0");
    let uid = |model: &Model| model.objects.get(&key).map(|(_, pod)| pod["metadata"]["uid"].clone());
    let mut lives = std::collections::BTreeSet::new();
    for _ in 0..20 {
        model.pass();
        lives.extend(uid(&model).map(|uid| uid.to_string()));
        model.now = model.wake_at().max(model.now);
    }
    assert!(lives.len() > 1, "it is made anew: {lives:?}");
}

#[test]
fn a_node_that_has_not_said_what_it_offers_refuses_nothing() {
    let mut model = Model::new(1);
    model.change(&Key::new(NODES, "", "node-1"), |node| node["status"]["allocatable"] = json!({}));
    pod(&mut model, "early", json!({"nodeName": "node-1"}));
    assert!(model.plan().steps.iter().any(|step| step.why.starts_with("bind pods/default/early to node-1")));
}
