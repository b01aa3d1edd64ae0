//! Docker engines that restart, with and without live restore.

use std::{
    collections::BTreeMap,
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
    traffic::settled,
    usage::{demo, gateway},
};

fn prepare(cluster: &Cluster) {
    cluster.nodes_ready(3);
    cluster.apply(demo());
    cluster.rolled_out("deployment/hello");
    settled(cluster, 6);
}

/// The demo's pods: name, node, container, and how often that was restarted.
fn pods(cluster: &Cluster) -> BTreeMap<String, (String, String, u64)> {
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
    cluster.docker_of(&pod, &["kill", &cluster.container(&pod, "hello")]);
    eventually("the container runs again", || {
        let status = cluster.get(&["pod", &name])["status"]["containerStatuses"][0].clone();
        if status["restartCount"] == 1 && status["ready"] == true { Ok(()) } else { Err(status.to_string()) }
    });
}

pub fn an_engine_that_stops_its_pods_is_survived(cluster: &Cluster, bare: &Bare) {
    prepare(cluster);
    let node = bare.member("node-2");
    let before = pods(cluster);
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
        eventually("the node's pods were restarted", || {
            let running = bare_containers(cluster, &node, &before);
            if running.is_empty() { Ok(()) } else { Err(format!("still {running:?}")) }
        });
        all_ready(cluster);
        load.more(300);
        let failures = load.report().failures[failed..].to_vec();
        let last = failures.last().map_or(Duration::ZERO, |(at, _)| at.duration_since(stopped));
        println!(
            "an engine that stops the pods {round}: {} requests failed, the last one after {:.1} s: {:?}",
            failures.len(),
            last.as_secs_f64(),
            failures.last().map(|(_, what)| what)
        );
    }
    let after = pods(cluster);
    let elsewhere = |pods: &BTreeMap<String, (String, String, u64)>| -> Vec<_> {
        pods.iter().filter(|(_, (on, ..))| *on != node).map(|(uid, pod)| (uid.clone(), pod.clone())).collect()
    };
    println!("{:?}", load.stop().requests);
    assert_eq!(elsewhere(&before), elsewhere(&after), "pods of other nodes were touched");
    bare.with(&node, |machine| {
        machine.stop("dockerd");
        machine.start_engine(true);
        machine.engine_answers();
    });
    all_ready(cluster);
}

/// Containers of the node that are still those of `before`.
fn bare_containers(
    cluster: &Cluster,
    node: &str,
    before: &BTreeMap<String, (String, String, u64)>,
) -> Vec<String> {
    let old: Vec<_> = before.values().filter(|(on, ..)| on == node).map(|(_, id, _)| id.clone()).collect();
    pods(cluster).into_values().map(|(_, id, _)| id).filter(|id| old.contains(id)).collect()
}
