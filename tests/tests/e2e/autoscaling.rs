//! Autoscalers from end to end: agents measure pods, gateways count requests, the target grows and shrinks, and whoever
//! asks notices nothing of it.

use std::time::Duration;

use serde_json::Value;
use warren_tests::{cluster::Cluster, eventually, load::Load};

use crate::usage::gateway;

const IN: [&str; 2] = ["-n", "scaled"];
/// Few requests: far less than one pod's share.
const SELDOM: Duration = Duration::from_millis(300);
/// What each autoscaler of the manifest says when it grows.
const SCALED: [(&str, &str); 2] = [
    ("busy", "cpu resource utilization (percentage of request) above target"),
    ("asked", "Service metric requests-per-second above target"),
];

pub fn a_loaded_deployment_is_scaled_up_and_down(cluster: &Cluster) {
    cluster.nodes_ready(3);
    cluster.apply(include_str!("../../manifests/scaled.yaml"));
    for (name, _) in SCALED {
        cluster.kubectl(&[&IN[..], &["rollout", "status", &format!("deployment/{name}")]].concat());
        assert_eq!(replicas(cluster, name), (1, 1), "{name} before any load");
    }
    // Somebody is always there.
    let seldom = SCALED.map(|(name, _)| Load::paced(gateway(cluster), &path(name), 1, SELDOM));
    let heavy = SCALED.map(|(name, _)| Load::start(gateway(cluster), &path(name), 6));
    for (name, why) in SCALED {
        comes_to(cluster, name, 3);
        let grown = rescales(cluster, name);
        assert!(grown.iter().any(|said| said.ends_with(&format!("reason: {why}"))), "{name}: {grown:?}");
    }
    for load in heavy {
        let report = load.stop();
        report.assert_flawless();
    }
    for (name, _) in SCALED {
        comes_to(cluster, name, 1);
        let shrunk = rescales(cluster, name);
        let expected = "New size: 1; reason: All metrics below target";
        assert!(shrunk.iter().any(|said| said == expected), "{name}: {shrunk:?}");
        measured(cluster, name);
    }
    let mut requests = 0;
    for load in seldom {
        load.more(5);
        let report = load.stop();
        assert!(report.failures.is_empty(), "{:?}", report.failures.first());
        requests += report.requests;
    }
    println!("scaling: {requests} requests, 0 failed, beside the load");
    cluster.kubectl(&["delete", "namespace", "scaled", "--timeout=120s"]);
}

fn path(name: &str) -> String {
    format!("/scaled/{name}")
}

/// What a Deployment is to have, and what is ready of it.
fn replicas(cluster: &Cluster, name: &str) -> (i64, i64) {
    let deployment = cluster.get(&[&IN[..], &["deployment", name]].concat());
    let number = |at: &str| deployment.pointer(at).and_then(Value::as_i64).unwrap_or_default();
    (number("/spec/replicas"), number("/status/readyReplicas"))
}

fn comes_to(cluster: &Cluster, name: &str, size: i64) {
    eventually("the autoscaler has changed its target", || match replicas(cluster, name) {
        seen if seen == (size, size) => Ok(()),
        seen => {
            let told = cluster.kubectl(&[&IN[..], &["describe", "hpa", name]].concat());
            Err(format!("{name} has {seen:?} pods and not {size}:\n{told}"))
        }
    });
}

/// What the autoscaler's events say of each change.
fn rescales(cluster: &Cluster, name: &str) -> Vec<String> {
    let about = format!("--field-selector=reason=SuccessfulRescale,involvedObject.name={name}");
    let events = cluster.items(&[&IN[..], &["events", &about]].concat());
    events.iter().filter_map(|event| event["message"].as_str()).map(str::to_owned).collect()
}

/// The status agrees: the sizes, the conditions, and a metric with its value.
fn measured(cluster: &Cluster, name: &str) {
    eventually("the autoscaler's status says so", || {
        let autoscaler = cluster.get(&[&IN[..], &["hpa.v2.autoscaling", name]].concat());
        let status = &autoscaler["status"];
        let metric = &status["currentMetrics"][0];
        let value = metric["resource"]["current"].get("averageUtilization");
        let value = value.or_else(|| metric["object"]["current"].get("averageValue"));
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let is = |kind: &str| conditions.iter().any(|one| one["type"] == kind && one["status"] == "True");
        let sizes = (status["currentReplicas"].as_i64(), status["desiredReplicas"].as_i64());
        let is_well = sizes == (Some(1), Some(1)) && is("AbleToScale") && is("ScalingActive");
        if is_well && value.is_some() { Ok(()) } else { Err(status.to_string()) }
    });
}
