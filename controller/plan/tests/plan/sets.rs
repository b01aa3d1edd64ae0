//! Stateful sets, daemon sets and replication controllers for tests.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::{ClusterConfig, resources::*};
use warren_write::Gate;

use crate::model::{Model, condition, is_deleting, is_ready};

/// A cluster in which whatever planners write passes the gate.
pub(crate) fn gated(nodes: usize) -> Model {
    let mut model = Model::new(nodes);
    model.gate = Some(Gate::new(&ClusterConfig::default()));
    model
}

/// A set whose pods are labelled with its name; `more` goes into its spec.
pub(crate) fn set(model: &mut Model, resource: &str, name: &str, more: &Value) -> Key {
    let (api_version, kind) = match resource {
        STATEFULSETS => ("apps/v1", "StatefulSet"),
        DAEMONSETS => ("apps/v1", "DaemonSet"),
        _ => ("v1", "ReplicationController"),
    };
    let labels = json!({"app": name});
    let selector =
        if kind == "ReplicationController" { labels.clone() } else { json!({"matchLabels": labels}) };
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": selector,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{
                        "name": "main", "image": "image:1",
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                    }],
                },
            },
        },
    });
    let more = more.as_object().into_iter().flatten();
    more.for_each(|(field, value)| object["spec"][field] = value.clone());
    model.put(resource, "default", object)
}

pub(crate) fn stateful(model: &mut Model, replicas: i64, mut more: Value) -> Key {
    more["replicas"] = replicas.into();
    more["serviceName"] = "db".into();
    set(model, STATEFULSETS, "db", &more)
}

pub(crate) fn daemon(model: &mut Model, more: &Value) -> Key {
    set(model, DAEMONSETS, "every", more)
}

/// Passes without agents, until nothing is planned any more.
pub(crate) fn quiet(model: &mut Model) {
    for _ in 0..30 {
        if !model.pass() {
            return;
        }
    }
    panic!("plans go on and on");
}

/// So many passes, with what agents do after each.
pub(crate) fn passes(model: &mut Model, count: usize) {
    for _ in 0..count {
        model.pass();
        model.agents();
    }
}

/// So many passes without agents.
pub(crate) fn plans(model: &mut Model, count: usize) {
    for _ in 0..count {
        model.pass();
    }
}

/// Names of the pods of an app that are not being deleted.
pub(crate) fn names(model: &Model, app: &str) -> Vec<String> {
    model.active(app).map(|(key, _)| key.name.to_string()).collect()
}

pub(crate) fn pod(name: &str) -> Key {
    Key::new(PODS, "default", name)
}

/// Images of the pods of an app that are not being deleted, in the order of their names.
pub(crate) fn images(model: &Model, app: &str) -> Vec<String> {
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    model.active(app).map(|(_, pod)| image(pod)).collect()
}

pub(crate) fn ready(model: &Model, app: &str) -> usize {
    model.active(app).filter(|(_, pod)| is_ready(pod)).count()
}

/// The pod has ended in this phase.
pub(crate) fn end(model: &mut Model, key: &Key, phase: &str) {
    model.change(key, |value| {
        value["status"]["phase"] = phase.into();
        for condition in value["status"]["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] != "PodScheduled" {
                condition["status"] = "False".into();
            }
        }
    });
}

/// The pod is not ready any more.
pub(crate) fn unready(model: &mut Model, key: &Key) {
    let phase = model.get(key)["status"]["phase"].as_str().unwrap().to_owned();
    end(model, key, &phase);
}

/// Names, numbers and hashes of the revisions, the oldest number first.
pub(crate) fn revisions(model: &Model) -> Vec<(i64, String)> {
    let number = |value: &Value| value["revision"].as_i64().unwrap();
    let all = model.list(CONTROLLERREVISIONS).map(|(key, value)| (number(value), key.name.to_string()));
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

#[test]
fn a_replication_controller_is_a_replica_set_with_a_map_for_a_selector() {
    let mut model = gated(2);
    let key = set(&mut model, REPLICATIONCONTROLLERS, "old", &json!({"replicas": 3}));
    model.settle();
    let status = model.get(&key)["status"].clone();
    for field in
        ["replicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas", "observedGeneration"]
    {
        let expected = if field == "observedGeneration" { 1 } else { 3 };
        assert_eq!(status[field], expected, "{field}: {status}");
    }
    let owner = model.active("old").next().unwrap().1["metadata"]["ownerReferences"][0].clone();
    assert_eq!((&owner["apiVersion"], &owner["kind"]), (&json!("v1"), &json!("ReplicationController")));
    assert_eq!(owner["controller"], true);
    assert!(model.told("old").contains("SuccessfulCreate"));
    model.change(&key, |value| value["spec"]["replicas"] = 1.into());
    model.settle();
    assert_eq!(model.active("old").count(), 1);
    assert!(model.told("old").contains("SuccessfulDelete"));
    model.remove(&key);
    model.settle();
    assert_eq!(model.pods().count(), 0, "its pods go with it");
}

#[test]
fn a_replication_controller_adopts_and_releases() {
    let mut model = gated(2);
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "labels": {"app": "old"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending"}});
    let bare = model.put(PODS, "default", bare);
    let key = set(&mut model, REPLICATIONCONTROLLERS, "old", &json!({"replicas": 2}));
    model.settle();
    assert_eq!(model.active("old").count(), 2);
    let uid = model.get(&key)["metadata"]["uid"].clone();
    assert_eq!(model.get(&bare)["metadata"]["ownerReferences"][0]["uid"], uid);
    model.change(&bare, |value| value["metadata"]["labels"]["app"] = "other".into());
    model.settle();
    assert!(model.get(&bare)["metadata"]["ownerReferences"].is_null());
    assert_eq!(model.active("old").count(), 2);
}

#[test]
fn pods_that_are_refused_to_a_replication_controller_are_told() {
    let mut model = gated(1);
    model.may_refuse = true;
    let key = set(&mut model, REPLICATIONCONTROLLERS, "old", &json!({"replicas": 1}));
    model.change(&key, |value| {
        value["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 70_000.into();
    });
    plans(&mut model, 6);
    let said = condition(model.get(&key), "ReplicaFailure").clone();
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("FailedCreate")));
    assert!(model.told("old").contains("FailedCreate"));
    model.change(&key, |value| {
        value["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 80.into();
    });
    passes(&mut model, 12);
    assert!(condition(model.get(&key), "ReplicaFailure").is_null());
    assert_eq!(ready(&model, "old"), 1);
    assert!(model.pods().all(|(_, pod)| !is_deleting(pod)));
}

#[test]
fn a_smaller_replication_controller_has_no_failure() {
    let mut model = gated(1);
    model.may_refuse = true;
    let key = set(&mut model, REPLICATIONCONTROLLERS, "old", &json!({"replicas": 1}));
    model.settle();
    model.change(&key, |value| {
        value["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 70_000.into();
        value["spec"]["replicas"] = 3.into();
    });
    plans(&mut model, 6);
    assert_eq!(condition(model.get(&key), "ReplicaFailure")["status"], "True");
    model.change(&key, |value| value["spec"]["replicas"] = 1.into());
    plans(&mut model, 3);
    assert!(condition(model.get(&key), "ReplicaFailure").is_null());
    let status = &model.get(&key)["status"];
    assert_eq!((&status["observedGeneration"], &status["replicas"]), (&json!(3), &json!(1)));
}

#[test]
fn a_replication_controller_counts_again_what_others_say() {
    let mut model = gated(1);
    let key = set(&mut model, REPLICATIONCONTROLLERS, "old", &json!({"replicas": 1}));
    model.change(&key, |value| value["spec"]["template"]["metadata"]["name"] = "mine".into());
    model.settle();
    assert!(names(&model, "old")[0].starts_with("old-"), "the name in the template is nobody's");
    model.change(&key, |value| {
        value["status"]["readyReplicas"] = 0.into();
        value["status"]["availableReplicas"] = 0.into();
    });
    model.settle();
    let status = &model.get(&key)["status"];
    assert_eq!((&status["readyReplicas"], &status["availableReplicas"]), (&json!(1), &json!(1)));
}
