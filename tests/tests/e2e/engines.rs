//! Docker engines that restart, with and without live restore.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{
    bare::Bare,
    cluster::{Cluster, condition},
    eventually,
    load::Load,
};

use crate::{
    traffic::{self, settled},
    usage::gateway,
};

/// The promise of DESIGN.md: one health interval. This bound is the product's, not the machine's.
const NOTICED: Duration = Duration::from_secs(4);

/// The demo, with pods on every node: a node that was away for long has lost its own to the others.
pub fn prepare(cluster: &Cluster) {
    traffic::prepare(cluster);
    let nodes = |pods: &BTreeMap<String, Placed>| -> BTreeSet<String> {
        pods.values().map(|(on, ..)| on.clone()).collect()
    };
    if nodes(&pods(cluster)).len() < 3 {
        cluster.kubectl(&["delete", "pods", "-l", "app=hello"]);
        cluster.rolled_out("deployment/hello");
        settled(cluster, 6);
    }
    assert_eq!(nodes(&pods(cluster)).len(), 3, "not spread: {:?}", pods(cluster));
}

/// A pod's node, its container, and how often that was restarted.
type Placed = (String, String, u64);

/// The demo's pods by uid.
fn pods(cluster: &Cluster) -> BTreeMap<String, Placed> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        let restarts = status["restartCount"].as_u64().unwrap_or_default();
        (
            text(&pod["metadata"]["uid"]),
            (text(&pod["spec"]["nodeName"]), text(&status["containerID"]), restarts),
        )
    };
    cluster.items(&["pods", "-l", "app=hello"]).iter().map(pod).collect()
}

fn all_ready(cluster: &Cluster) {
    cluster.nodes_ready(3);
    eventually("all pods are ready", || {
        let pods = cluster.items(&["pods", "-l", "app=hello"]);
        let ready = pods.iter().filter(|pod| condition(pod, "Ready") == "True").count();
        if (pods.len(), ready) == (6, 6) { Ok(()) } else { Err(format!("{ready} of {} pods", pods.len())) }
    });
}

pub fn a_restarted_engine_goes_unnoticed(cluster: &Cluster, bare: &Bare) {
    prepare(cluster);
    let node = bare.member("node-1");
    let before = pods(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    bare.with(&node, |machine| machine.stop("dockerd"));
    load.more(500);
    bare.with(&node, |machine| {
        machine.start_engine(true);
        machine.engine_answers();
    });
    load.more(500);
    all_ready(cluster);
    let report = load.stop();
    println!(
        "engine restarted with live restore: {} requests, {} failed",
        report.requests,
        report.failures.len()
    );
    report.assert_flawless();
    assert_eq!(pods(cluster), before, "a pod was restarted or replaced");
    // The agent hears the new engine: what dies now is restarted.
    let pod =
        cluster.items(&["pods", "-l", "app=hello"]).into_iter().find(|pod| pod["spec"]["nodeName"] == node);
    let pod = pod.expect("a pod of this node");
    let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
    cluster.docker_of(&pod, &["kill", &cluster.container(&pod, "hello")]);
    eventually("the container runs again", || {
        let status = cluster.get(&["pod", &name])["status"]["containerStatuses"][0].clone();
        if status["restartCount"] == restarts + 1 && status["ready"] == true {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

pub fn an_engine_that_stops_its_pods_is_survived(cluster: &Cluster, bare: &Bare) {
    prepare(cluster);
    let node = bare.member("node-2");
    let first = pods(cluster);
    let mut before = first.clone();
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    // An engine without live restore ends what an earlier one left, and its own when it stops itself.
    for round in ["it finds", "it started"] {
        let (failed, stopped) = (load.report().failures.len(), Instant::now());
        bare.with(&node, |machine| {
            machine.stop("dockerd");
            machine.start_engine(false);
            machine.engine_answers();
        });
        all_run_anew(cluster, &node, &before);
        before = pods(cluster);
        load.more(300);
        let failures = load.report().failures[failed..].to_vec();
        let last = failures.last().map_or(Duration::ZERO, |(at, _)| at.duration_since(stopped));
        println!(
            "an engine that stops the pods {round}: {} requests failed, the last one after {:.1} s: {:?}",
            failures.len(),
            last.as_secs_f64(),
            failures.last().map(|(_, what)| what)
        );
        // Measured: none or one. Bounded by the interval in which readiness is noticed, as the loss of a node.
        assert!(last <= NOTICED, "the last of {} failures came {last:?} after the stop", failures.len());
    }
    let after = pods(cluster);
    let elsewhere = |pods: &BTreeMap<String, Placed>| -> Vec<_> {
        pods.iter().filter(|(_, (on, ..))| *on != node).map(|(uid, pod)| (uid.clone(), pod.clone())).collect()
    };
    load.stop();
    assert_eq!(elsewhere(&first), elsewhere(&after), "pods of other nodes were touched");
    assert_eq!(first.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "pods were replaced");
    // It still is one without live restore when it stops.
    bare.with(&node, |machine| {
        machine.stop("dockerd");
        machine.start_engine(true);
        machine.engine_answers();
    });
    all_run_anew(cluster, &node, &before);
}

/// Waits until no container of the node is one of `before`, and all pods are ready.
fn all_run_anew(cluster: &Cluster, node: &str, before: &BTreeMap<String, Placed>) {
    let old: Vec<_> = before.values().filter(|(on, ..)| on == node).map(|(_, id, _)| id).collect();
    eventually("the node's pods were restarted", || {
        let kept: Vec<_> =
            pods(cluster).into_values().map(|(_, id, _)| id).filter(|id| old.contains(&id)).collect();
        if kept.is_empty() { Ok(()) } else { Err(format!("still {kept:?}")) }
    });
    all_ready(cluster);
}
