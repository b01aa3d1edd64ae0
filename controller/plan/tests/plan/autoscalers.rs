//! Autoscalers: the size follows what pods use and what services are asked, within bounds and rates.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use warren_plan::{NodeUsage, RefusedWrite};
use warren_proto::control::{ContainerUsage, PodUsage, Usage as Amounts, UsageReport};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, condition, is_deleting, is_ready},
    sets,
};

/// Puts an autoscaler, completed as the API stores it.
pub(crate) fn put(model: &mut Model, name: &str, spec: Value) -> Key {
    let mut scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    warren_objects::defaults::apply(
        warren_objects::kinds::of(HORIZONTALPODAUTOSCALERS).unwrap(),
        &mut scaler,
    );
    model.put(HORIZONTALPODAUTOSCALERS, "default", scaler)
}

/// Pods that run say since when.
pub(crate) fn start(model: &mut Model) {
    let runs = |pod: &Value| pod["status"]["phase"] == "Running" && pod["status"]["startTime"].is_null();
    let keys: Vec<_> = model.pods().filter(|(_, pod)| runs(pod)).map(|(key, _)| key.clone()).collect();
    for key in keys {
        let ready = condition(model.get(&key), "Ready")["lastTransitionTime"].clone();
        model.change(&key, |pod| pod["status"]["startTime"] = ready);
    }
}

/// Every node tells at this moment what its pods have used for ten seconds: so many thousandths of a processor and
/// mebibytes of memory; those of which nothing is known are left out.
pub(crate) fn measure(model: &mut Model, mut millis: impl FnMut(&Key, &Value) -> Option<u64>) {
    let mut pods: Vec<(String, PodUsage)> = Vec::new();
    for (key, pod) in model.pods() {
        let Some(node) = pod["spec"]["nodeName"].as_str() else { continue };
        let Some(millis) = millis(key, pod) else { continue };
        let usage = Some(Amounts { cpu_nanos: millis * 1_000_000, memory_bytes: millis << 20 });
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let containers = vec![ContainerUsage { name: "main".into(), usage }];
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        pods.push((node.to_owned(), PodUsage { uid, namespace, name, containers }));
    }
    let nodes = model.nodes.keys().map(|node| {
        let mut own: Vec<_> = pods.iter().filter(|(of, _)| of == node).map(|(_, pod)| pod.clone()).collect();
        own.sort_by(|one, other| one.uid.cmp(&other.uid));
        let report = UsageReport { window_milliseconds: 10_000, node: None, pods: own };
        (node.clone(), NodeUsage { measured: model.now, report: Arc::new(report) })
    });
    model.usage.nodes = nodes.collect();
}

fn spec(least: i64, most: i64, more: &Value) -> Value {
    let mut spec = json!({"minReplicas": least, "maxReplicas": most,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "metrics": [cpu(50)]});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

fn cpu(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}})
}

fn requests(target: &Value) -> Value {
    json!({"type": "Object", "object": {"describedObject": {"apiVersion": "v1", "kind": "Service", "name": "web"},
        "metric": {"name": "requests-per-second"}, "target": target}})
}

/// A deployment whose pods request a tenth of a processor, old enough to be judged, and an autoscaler.
fn scaled(replicas: i64, spec: Value) -> (Model, Key, Key) {
    let mut model = sets::gated(3);
    let deployment = model.deployment("web", replicas, json!({}));
    model.settle();
    start(&mut model);
    model.now += SignedDuration::from_secs(600);
    let scaler = put(&mut model, "web", spec);
    (model, deployment, scaler)
}

fn size(model: &Model, target: &Key) -> i64 {
    model.get(target)["spec"]["replicas"].as_i64().unwrap()
}

/// So many seconds, of which each has a pass, while each pod uses so much.
fn seconds(model: &mut Model, count: i64, millis: u64) {
    for _ in 0..count {
        start(model);
        measure(model, |_, pod| is_ready(pod).then_some(millis));
        model.pass();
        model.agents();
    }
}

fn says(model: &Model, scaler: &Key, kind: &str) -> (String, String) {
    let said = condition(model.get(scaler), kind);
    let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn said(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn event(model: &Model, reason: &str) -> String {
    let found = model.list(EVENTS).find(|(_, event)| event["reason"] == reason);
    found.unwrap_or_else(|| panic!("no event {reason}")).1["message"].as_str().unwrap().to_owned()
}

#[test]
fn twice_the_target_doubles_the_pods() {
    let (mut model, deployment, scaler) = scaled(2, spec(1, 10, &json!({})));
    seconds(&mut model, 2, 100);
    assert_eq!(size(&model, &deployment), 4);
    let status = model.get(&scaler)["status"].clone();
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(2), &json!(4)));
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 100, "averageValue": "100m"}}}])
    );
    assert!(status["lastScaleTime"].is_string());
    assert_eq!(says(&model, &scaler, "AbleToScale"), said("True", "SucceededRescale"));
    assert_eq!(says(&model, &scaler, "ScalingActive"), said("True", "ValidMetricFound"));
    assert_eq!(says(&model, &scaler, "ScalingLimited"), said("False", "DesiredWithinRange"));
    let told = event(&model, "SuccessfulRescale");
    assert_eq!(told, "New size: 4; reason: cpu resource utilization (percentage of request) above target");
    seconds(&mut model, 20, 50);
    assert_eq!(size(&model, &deployment), 4, "at the target it stays");
    assert_eq!(says(&model, &scaler, "AbleToScale"), said("True", "ReadyForNewScale"));
    assert_eq!(model.get(&scaler)["status"]["currentReplicas"], 4);
}

#[test]
fn it_looks_every_fifteen_seconds_and_at_once_when_it_is_changed() {
    let (mut model, deployment, scaler) = scaled(2, spec(1, 3, &json!({})));
    seconds(&mut model, 1, 50);
    seconds(&mut model, 13, 100);
    assert_eq!(size(&model, &deployment), 2);
    seconds(&mut model, 2, 100);
    assert_eq!(size(&model, &deployment), 3);
    assert_eq!(says(&model, &scaler, "ScalingLimited"), said("True", "TooManyReplicas"));
    model.change(&scaler, |value| value["spec"]["maxReplicas"] = 2.into());
    seconds(&mut model, 2, 100);
    assert_eq!(size(&model, &deployment), 2, "bounds wait for nothing");
    assert!(model.list(EVENTS).any(|(_, event)| event["message"]
        == "New size: 2; reason: Current number of replicas above Spec.MaxReplicas"));
    model.change(&scaler, |value| {
        value["spec"]["maxReplicas"] = 9.into();
        value["spec"]["minReplicas"] = 5.into();
    });
    seconds(&mut model, 2, 50);
    assert_eq!(size(&model, &deployment), 5);
    model.change(&deployment, |value| value["spec"]["replicas"] = 0.into());
    seconds(&mut model, 16, 0);
    assert_eq!(size(&model, &deployment), 0, "who scales to zero wants it off");
    assert_eq!(says(&model, &scaler, "ScalingActive"), said("False", "ScalingDisabled"));
}

#[test]
fn it_shrinks_when_nothing_higher_was_recommended_for_five_minutes() {
    let (mut model, deployment, scaler) = scaled(6, spec(2, 10, &json!({})));
    seconds(&mut model, 290, 10);
    assert_eq!(size(&model, &deployment), 6, "what was there counts as recommended");
    assert_eq!(says(&model, &scaler, "AbleToScale"), said("True", "ScaleDownStabilized"));
    seconds(&mut model, 30, 10);
    assert_eq!(size(&model, &deployment), 2);
    assert_eq!(event(&model, "SuccessfulRescale"), "New size: 2; reason: All metrics below target");
    seconds(&mut model, 16, 100);
    assert_eq!(size(&model, &deployment), 4);
    model.restart();
    seconds(&mut model, 280, 10);
    assert_eq!(size(&model, &deployment), 4, "who starts anew knows no better than what is there");
}

#[test]
fn a_tenth_is_nothing_unless_the_rules_say_so() {
    let (mut model, deployment, scaler) = scaled(4, spec(1, 10, &json!({})));
    seconds(&mut model, 40, 55);
    assert_eq!(size(&model, &deployment), 4);
    model.change(&scaler, |value| {
        value["spec"]["behavior"]["scaleUp"] = json!({"tolerance": "0.05", "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]});
    });
    seconds(&mut model, 2, 55);
    assert_eq!(size(&model, &deployment), 5);
}

#[test]
fn policies_bound_how_fast_it_goes() {
    let slow = json!({"behavior": {
        "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}], "selectPolicy": "Max"},
        "scaleDown": {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 30}],
            "selectPolicy": "Max", "stabilizationWindowSeconds": 0}}});
    let (mut model, deployment, scaler) = scaled(2, spec(1, 10, &slow));
    seconds(&mut model, 2, 200);
    assert_eq!(size(&model, &deployment), 3);
    assert_eq!(says(&model, &scaler, "ScalingLimited"), said("True", "ScaleUpLimit"));
    seconds(&mut model, 56, 200);
    assert_eq!(size(&model, &deployment), 3);
    seconds(&mut model, 6, 200);
    assert_eq!(size(&model, &deployment), 4);
    seconds(&mut model, 60, 50);
    assert_eq!(size(&model, &deployment), 4);
    seconds(&mut model, 16, 0);
    assert_eq!(size(&model, &deployment), 2);
    assert_eq!(says(&model, &scaler, "ScalingLimited"), said("True", "ScaleDownLimit"));
    seconds(&mut model, 40, 0);
    assert_eq!(size(&model, &deployment), 1);
    model.change(&scaler, |value| value["spec"]["behavior"]["scaleUp"]["selectPolicy"] = "Disabled".into());
    seconds(&mut model, 40, 400);
    assert_eq!(size(&model, &deployment), 1);
}

#[test]
fn growth_is_stabilized_when_asked_for() {
    let calm = json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 900, "periodSeconds": 15}]}}});
    let (mut model, deployment, scaler) = scaled(2, spec(1, 10, &calm));
    seconds(&mut model, 50, 100);
    assert_eq!(size(&model, &deployment), 2, "the lowest of the last minute counts");
    assert_eq!(says(&model, &scaler, "AbleToScale"), said("True", "ScaleUpStabilized"));
    seconds(&mut model, 20, 100);
    assert_eq!(size(&model, &deployment), 4);
}

#[test]
fn a_rescale_that_was_not_carried_out_is_tried_again_and_not_counted() {
    let slow = json!({"behavior": {"scaleUp": {"selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}});
    let (mut model, deployment, _) = scaled(2, spec(1, 10, &slow));
    measure(&mut model, |_, _| Some(200));
    for _ in 0..3 {
        let plan = model.plan();
        assert!(plan.steps.iter().any(|step| step.why.ends_with("scale deployments.apps/default/web to 3")));
    }
    seconds(&mut model, 1, 200);
    assert_eq!(size(&model, &deployment), 3);
    seconds(&mut model, 30, 200);
    assert_eq!(size(&model, &deployment), 3, "that one is counted");
}

#[test]
fn pods_that_start_or_are_not_known_hold_it_back() {
    let (mut model, deployment, _) = scaled(4, spec(1, 20, &json!({})));
    let first = model.pods().next().unwrap().0.clone();
    // Three at 180 % of the target and one of which nothing is known: as if that used nothing, 1.35 of 4.
    measure(&mut model, |key, _| (*key != first).then_some(90));
    model.pass();
    assert_eq!(size(&model, &deployment), 6);
    // One that has just begun and is not ready counts as if it used nothing, whatever it says.
    let (mut model, deployment, _) = scaled(4, spec(1, 20, &json!({})));
    let now = model.now.to_string();
    model.change(&first, |pod| {
        pod["status"]["startTime"] = now.clone().into();
        for condition in pod["status"]["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" {
                condition["status"] = "False".into();
                condition["lastTransitionTime"] = now.clone().into();
            }
        }
    });
    measure(&mut model, |key, _| Some(if *key == first { 5_000 } else { 90 }));
    model.pass();
    assert_eq!(size(&model, &deployment), 6);
}

#[test]
fn memory_is_judged_however_young_a_pod_is() {
    let memory = json!({"metrics": [{"type": "ContainerResource", "containerResource": {"name": "memory",
        "container": "main", "target": {"type": "AverageValue", "averageValue": "64Mi"}}}]});
    let mut model = sets::gated(3);
    let deployment = model.deployment("web", 2, json!({}));
    model.settle();
    let scaler = put(&mut model, "web", spec(1, 10, &memory));
    seconds(&mut model, 1, 128);
    assert_eq!(size(&model, &deployment), 4);
    assert_eq!(
        model.get(&scaler)["status"]["currentMetrics"][0]["containerResource"],
        json!({"name": "memory", "container": "main", "current": {"averageValue": "134217728"}})
    );
}

#[test]
fn requests_per_second_of_a_service_come_from_the_gateways() {
    let by_value = json!({"metrics": [requests(&json!({"type": "Value", "value": "100"}))]});
    let (mut model, deployment, scaler) = scaled(2, spec(1, 20, &by_value));
    seconds(&mut model, 1, 0);
    assert_eq!(says(&model, &scaler, "ScalingActive"), said("False", "FailedGetObjectMetric"));
    let told = event(&model, "FailedGetObjectMetric");
    assert_eq!(
        told,
        "unable to get metric requests-per-second: Service on default web/no gateway leads to it"
    );
    let service = Key::new(SERVICES, "default", "web");
    for (gateway, rate) in [("one", 150_000), ("two", 50_500)] {
        model.usage.gateways.insert(gateway.into(), Arc::new([(service.clone(), rate)].into()));
    }
    seconds(&mut model, 15, 0);
    assert_eq!(size(&model, &deployment), 5, "2.005 times two, rounded up");
    let current = &model.get(&scaler)["status"]["currentMetrics"][0]["object"]["current"];
    assert_eq!(current, &json!({"value": "200500m"}));
    assert_eq!(
        event(&model, "SuccessfulRescale"),
        "New size: 5; reason: Service metric requests-per-second above target"
    );
    let by_average = json!({"metrics": [requests(&json!({"type": "AverageValue", "averageValue": "25"}))]});
    let (mut model, deployment, scaler) = scaled(2, spec(1, 20, &by_average));
    model.usage.gateways.insert("one".into(), Arc::new([(service, 150_000)].into()));
    seconds(&mut model, 1, 0);
    assert_eq!(size(&model, &deployment), 6);
    let current = &model.get(&scaler)["status"]["currentMetrics"][0]["object"]["current"];
    assert_eq!(current, &json!({"averageValue": "75"}));
    seconds(&mut model, 60, 0);
    assert_eq!(size(&model, &deployment), 6, "what is right stays");
}

#[test]
fn a_target_that_cannot_be_scaled_is_told() {
    for (target, why) in [
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}),
            "deployments.apps \"none\" not found",
        ),
        (
            json!({"apiVersion": "v2/x/y", "kind": "Deployment", "name": "web"}),
            "unexpected GroupVersion string: v2/x/y",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Deployment", "name": "web"}),
            "no matches for kind \"Deployment\" in group \"\"",
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web"}),
            "the server could not find the requested resource",
        ),
    ] {
        let (mut model, _, scaler) = scaled(1, spec(1, 2, &json!({"scaleTargetRef": target})));
        seconds(&mut model, 20, 100);
        assert_eq!(says(&model, &scaler, "AbleToScale"), said("False", "FailedGetScale"));
        let message = &condition(model.get(&scaler), "AbleToScale")["message"];
        assert_eq!(
            message,
            &format!("the HPA controller was unable to get the target's current scale: {why}")
        );
        assert_eq!(event(&model, "FailedGetScale"), why);
        let events = model.list(EVENTS).filter(|(_, event)| event["reason"] == "FailedGetScale").count();
        assert_eq!(events, 1, "it is told once");
    }
}

#[test]
fn metrics_that_cannot_be_had_are_told_and_hold_shrinking_up() {
    let (mut model, deployment, scaler) = scaled(2, spec(1, 10, &json!({})));
    model.settle();
    let why = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from \
               resource metrics API";
    assert_eq!(event(&model, "FailedGetResourceMetric"), why);
    let told = event(&model, "FailedComputeMetricsReplicas");
    let whole = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
    );
    assert_eq!(told, whole);
    assert_eq!(says(&model, &scaler, "ScalingActive"), said("False", "FailedGetResourceMetric"));
    assert_eq!(says(&model, &scaler, "AbleToScale"), said("True", "SucceededGetScale"));
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "packets"},
        "target": {"type": "AverageValue", "averageValue": "1k"}}});
    let queue = json!({"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "AverageValue", "averageValue": "30"}}});
    model.change(&scaler, |value| {
        value["spec"]["metrics"] = json!([cpu(50), pods, queue]);
        value["spec"]["behavior"]["scaleDown"] = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
    });
    seconds(&mut model, 20, 1);
    assert_eq!(size(&model, &deployment), 2);
    assert_eq!(says(&model, &scaler, "ScalingActive"), said("False", "FailedGetPodsMetric"));
    assert!(
        event(&model, "FailedGetExternalMetric")
            .starts_with("failed to get queue external metric: unable to")
    );
    seconds(&mut model, 16, 100);
    assert_eq!(size(&model, &deployment), 4, "the one that is known may let it grow");
    let current = &model.get(&scaler)["status"]["currentMetrics"];
    assert_eq!((current[0]["type"].as_str(), current[1]["type"].as_str()), (Some("Resource"), Some("")));
    model.change(&deployment, |value| {
        value["spec"]["template"]["spec"]["containers"][0]["resources"] =
            json!({"requests": {"memory": "1Mi"}});
    });
    seconds(&mut model, 40, 100);
    let messages: Vec<_> = model.list(EVENTS).filter_map(|(_, event)| event["message"].as_str()).collect();
    let missing =
        messages.iter().any(|text| text.contains("missing request for cpu in container main of Pod web-"));
    assert!(missing, "{messages:?}");
}

#[test]
fn all_kinds_with_a_scale_are_scaled() {
    for (resource, api_version, kind) in
        [(STATEFULSETS, "apps/v1", "StatefulSet"), (REPLICATIONCONTROLLERS, "v1", "ReplicationController")]
    {
        let mut model = sets::gated(3);
        let more = json!({"replicas": 1, "serviceName": "web"});
        let target = sets::set(&mut model, resource, "web", &more);
        model.settle();
        start(&mut model);
        model.now += SignedDuration::from_secs(600);
        let reference = json!({"apiVersion": api_version, "kind": kind, "name": "web"});
        put(&mut model, "web", spec(1, 10, &json!({"scaleTargetRef": reference})));
        seconds(&mut model, 2, 150);
        assert_eq!(size(&model, &target), 3, "{kind}");
        assert_eq!(model.get(&target)["metadata"]["generation"], 2, "{kind}");
        seconds(&mut model, 12, 50);
        assert_eq!(sets::ready(&model, "web"), 3, "{kind}");
    }
}

#[test]
fn two_that_look_after_one_do_nothing() {
    let (mut model, deployment, scaler) = scaled(2, spec(1, 10, &json!({})));
    let other = put(&mut model, "other", spec(1, 10, &json!({})));
    seconds(&mut model, 20, 100);
    assert_eq!(size(&model, &deployment), 2);
    assert_eq!(says(&model, &scaler, "ScalingActive"), said("False", "AmbiguousSelector"));
    assert_eq!(
        event(&model, "AmbiguousSelector"),
        "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]"
    );
    model.remove(&other);
    seconds(&mut model, 16, 100);
    assert_eq!(size(&model, &deployment), 4);
}

#[test]
fn a_refused_size_is_told_and_tried_again() {
    let (mut model, deployment, scaler) = scaled(2, spec(1, 10, &json!({})));
    let until = model.now + SignedDuration::from_secs(40);
    let message = "deployments.apps \"web\" is forbidden: too many".to_owned();
    let refused = RefusedWrite { planner: "autoscaling", what: deployment.clone(), message, until };
    model.refusals.insert(scaler.clone(), vec![refused]);
    seconds(&mut model, 30, 100);
    assert_eq!(size(&model, &deployment), 2);
    assert_eq!(says(&model, &scaler, "AbleToScale"), said("False", "FailedUpdateScale"));
    let since = condition(model.get(&scaler), "AbleToScale")["lastTransitionTime"].clone();
    assert_eq!(
        event(&model, "FailedRescale"),
        "New size: 4; reason: cpu resource utilization (percentage of request) above target; error: deployments.apps \
         \"web\" is forbidden: too many"
    );
    assert!(!model.told("web").contains("PlanningFailed"), "it has words of its own");
    seconds(&mut model, 10, 100);
    assert_eq!(condition(model.get(&scaler), "AbleToScale")["lastTransitionTime"], since);
    seconds(&mut model, 8, 100);
    assert_eq!(size(&model, &deployment), 4);
    assert_eq!(says(&model, &scaler, "AbleToScale"), said("True", "SucceededRescale"));
}

#[test]
fn one_that_goes_or_is_new_knows_nothing_of_another_of_its_name() {
    let (mut model, deployment, scaler) = scaled(4, spec(1, 10, &json!({})));
    seconds(&mut model, 310, 50);
    model.change(&scaler, |value| value["metadata"]["deletionTimestamp"] = "2026-11-22T13:00:00Z".into());
    assert!(is_deleting(model.get(&scaler)));
    seconds(&mut model, 20, 100);
    assert_eq!(size(&model, &deployment), 4, "one that is being deleted does nothing");
    model.remove(&scaler);
    model.pass();
    put(&mut model, "web", spec(1, 10, &json!({})));
    seconds(&mut model, 290, 1);
    assert_eq!(size(&model, &deployment), 4, "its five minutes begin anew");
}

#[test]
fn whatever_is_stored_is_survived() {
    for (field, value) in [
        ("maxReplicas", json!(i32::MIN)),
        ("minReplicas", json!(i32::MAX)),
        ("minReplicas", json!(-5)),
        ("metrics", json!([{"type": "Resource"}, {"type": "Odd"}, {"type": "Object"}, {"type": "External"}])),
        (
            "metrics",
            json!([{"type": "Resource", "resource": {"name": "gpu", "target": {"averageUtilization": -1}}}]),
        ),
        (
            "behavior",
            json!({"scaleUp": {"stabilizationWindowSeconds": i32::MAX, "tolerance": "1e999", "policies":
            [{"type": "Percent", "value": i32::MAX, "periodSeconds": i32::MAX}, {"type": "x", "value": i32::MIN, "periodSeconds": -1}]}}),
        ),
        ("scaleTargetRef", Value::Null),
    ] {
        let mut wanted = spec(1, 4, &json!({}));
        wanted[field] = value.clone();
        let mut model = Model::new(1);
        let deployment = model.deployment("web", 1, json!({}));
        model.settle();
        let key =
            put(&mut model, "web", json!({"maxReplicas": 1, "scaleTargetRef": {"kind": "x", "name": "x"}}));
        model.change(&key, |value| value["spec"] = wanted);
        let spec = |model: &mut Model, replicas: i64| {
            model.change(&deployment, |value| value["spec"]["replicas"] = replicas.into());
        };
        for replicas in [1, i64::from(i32::MAX), 0, -1] {
            spec(&mut model, replicas);
            measure(&mut model, |_, _| Some(100));
            let plan = model.plan();
            assert!(plan.failures.is_empty(), "{field} {value}: {:?}", plan.failures);
            model.now += SignedDuration::from_secs(15);
        }
    }
}
