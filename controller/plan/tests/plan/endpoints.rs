//! Slices, the brake, and the barrier before a pod is stopped.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::{STOP_ANNOTATION, resources::*};

use crate::model::{Model, is_deleting};

fn serving(replicas: i64, nodes: usize) -> (Model, Key) {
    let mut model = Model::new(nodes);
    let key = model.deployment("web", replicas, json!({}));
    model.service("web", "web");
    model.settle();
    (model, key)
}

fn slice(model: &Model) -> (&Key, &Value) {
    let mut slices = model.list(ENDPOINTSLICES);
    let only = slices.next().unwrap();
    assert!(slices.next().is_none(), "one slice per service");
    only
}

fn delete_pod(model: &mut Model) -> Key {
    let key = model.pods().next().unwrap().0.clone();
    let until = model.now + jiff::SignedDuration::from_secs(30);
    model.change(&key, |value| {
        value["metadata"]["deletionTimestamp"] = until.to_string().into();
        value["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    });
    key
}

fn may_stop(model: &Model, key: &Key) -> bool {
    !model.get(key)["metadata"]["annotations"][STOP_ANNOTATION].is_null()
}

#[test]
fn a_service_has_one_slice_with_its_pods() {
    let (model, _) = serving(3, 3);
    let (key, slice) = slice(&model);
    assert!(serde_json::from_value::<k8s_openapi::api::discovery::v1::EndpointSlice>(slice.clone()).is_ok());
    assert!(key.name.starts_with("web-") && key.name.len() == 9, "{key}");
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert_eq!(labels["app"], "web");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    assert_eq!(slice["ports"], json!([{"name": "web", "protocol": "TCP", "port": 8080}]));
    let addresses: Vec<_> = model.endpoints("web").iter().map(|e| e["addresses"][0].clone()).collect();
    assert_eq!(addresses, ["10.42.1.2", "10.42.2.2", "10.42.3.2"]);
    let first = &model.endpoints("web")[0];
    assert_eq!(first["conditions"], json!({"ready": true, "serving": true, "terminating": false}));
    assert_eq!((&first["nodeName"], &first["targetRef"]["kind"]), (&json!("node-1"), &json!("Pod")));
}

#[test]
fn pods_that_are_not_ready_are_listed_but_not_ready_unless_published() {
    let mut model = Model::new(1);
    model.broken = Some("image");
    model.deployment("web", 1, json!({}));
    let service = model.service("web", "web");
    model.settle();
    assert_eq!((model.endpoints("web").len(), model.ready_endpoints("web")), (1, 0));
    model.change(&service, |value| value["spec"]["publishNotReadyAddresses"] = true.into());
    model.settle();
    assert_eq!(model.ready_endpoints("web"), 1);
}

#[test]
fn a_service_without_pods_has_an_empty_slice_and_one_without_selector_none() {
    let mut model = Model::new(1);
    model.service("empty", "nobody");
    let manual = model.service("manual", "x");
    model.change(&manual, |value| drop(value["spec"].as_object_mut().unwrap().remove("selector")));
    model.settle();
    let slice = slice(&model).1;
    assert_eq!((&slice["endpoints"], &slice["ports"]), (&json!([]), &json!([])));
}

#[test]
fn named_ports_are_resolved_per_pod() {
    let (mut model, key) = serving(2, 1);
    model.change(&key, |value| {
        value["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 9090.into();
        value["spec"]["paused"] = true.into();
    });
    // One pod with the other port, beside the two old ones.
    let mut pod = model.pods().next().unwrap().1.clone();
    pod["metadata"] = json!({"name": "odd", "labels": {"app": "web"}});
    pod["spec"]["containers"][0]["ports"][0]["containerPort"] = 9090.into();
    pod["status"]["podIP"] = "10.42.1.200".into();
    let odd = model.put(PODS, "default", pod);
    model.settle();
    let ports: Vec<_> =
        model.list(ENDPOINTSLICES).map(|(_, slice)| slice["ports"][0]["port"].clone()).collect();
    assert_eq!(ports.len(), 2);
    assert!(ports.contains(&json!(8080)) && ports.contains(&json!(9090)));
    assert_eq!(model.ready_endpoints("web"), 3);
    model.remove(&odd);
    model.settle();
    assert_eq!(slice(&model).1["ports"][0]["port"], 8080);
}

#[test]
fn suspicion_takes_endpoints_away_but_never_the_last() {
    let (mut model, _) = serving(2, 2);
    assert_eq!(model.ready_endpoints("web"), 2);
    model.hear(1, 3);
    model.settle();
    assert_eq!(model.ready_endpoints("web"), 1);
    model.hear(2, 3);
    model.settle();
    assert_eq!(model.ready_endpoints("web"), 2, "the brake");
    assert!(model.plan().problems.iter().any(|problem| &*problem.key.name == "web"));
    model.hear(1, 0);
    model.settle();
    assert_eq!(model.ready_endpoints("web"), 1);
    model.hear(2, 0);
    model.settle();
    assert_eq!(model.ready_endpoints("web"), 2);
    assert!(model.plan().problems.is_empty());
}

#[test]
fn a_pod_stops_when_everyone_acknowledged_that_it_is_terminating() {
    let (mut model, _) = serving(2, 2);
    model.acknowledging = false;
    let key = delete_pod(&mut model);
    model.pass();
    let marked = model.endpoints("web").iter().any(|endpoint| endpoint["conditions"]["terminating"] == true);
    assert!(marked, "the endpoint is terminating first");
    assert!(!may_stop(&model, &key));
    model.pass();
    assert!(!may_stop(&model, &key), "nobody has acknowledged");
    assert!(model.plan().wake_at.is_some());
    model.acknowledged = model.revision;
    model.pass();
    assert!(may_stop(&model, &key));
}

#[test]
fn the_barrier_has_an_end() {
    let (mut model, _) = serving(2, 2);
    model.acknowledging = false;
    let key = delete_pod(&mut model);
    let began = model.now;
    while !may_stop(&model, &key) {
        model.pass();
        assert!(model.now.duration_since(began).as_secs() <= 7);
    }
    assert!(model.now.duration_since(began).as_secs() >= 5);
}

#[test]
fn the_barrier_ends_at_once_when_the_clock_was_set_back() {
    let (mut model, _) = serving(2, 2);
    model.acknowledging = false;
    let key = delete_pod(&mut model);
    model.pass();
    assert!(!may_stop(&model, &key));
    model.now = model.now.checked_sub(std::time::Duration::from_secs(86_400)).expect("in range");
    model.pass();
    assert!(may_stop(&model, &key), "by this clock it would wait for a day");
}

#[test]
fn a_pod_of_no_service_waits_only_until_its_deletion_is_acknowledged() {
    let mut model = Model::new(1);
    model.deployment("web", 1, json!({}));
    model.settle();
    model.acknowledging = false;
    let key = delete_pod(&mut model);
    assert!(is_deleting(model.get(&key)));
    model.pass();
    assert!(!may_stop(&model, &key), "it may have left its services a moment ago");
    model.acknowledged = model.revision;
    model.pass();
    assert!(may_stop(&model, &key));
}

#[test]
fn the_last_endpoint_stays_until_its_replacement_is_known_to_all() {
    let (mut model, _) = serving(1, 2);
    model.acknowledging = false;
    let key = delete_pod(&mut model);
    model.pass();
    model.acknowledged = model.revision;
    model.pass();
    assert!(!may_stop(&model, &key), "nobody else could answer");
    assert!(model.agents(), "the replacement becomes ready");
    model.pass();
    assert_eq!(model.ready_endpoints("web"), 1);
    assert!(!may_stop(&model, &key), "nobody knows the replacement yet");
    model.acknowledged = model.revision;
    model.pass();
    assert!(may_stop(&model, &key));
}

#[test]
fn the_last_endpoint_does_not_wait_for_a_replacement_that_nobody_wants() {
    let (mut model, deployment) = serving(1, 1);
    model.acknowledging = false;
    model.change(&deployment, |value| value["spec"]["replicas"] = 0.into());
    let key = model.pods().map(|(key, _)| key.clone()).next().unwrap();
    while !is_deleting(model.get(&key)) {
        model.pass();
    }
    model.pass();
    model.acknowledged = model.revision;
    model.pass();
    assert!(may_stop(&model, &key));
}
