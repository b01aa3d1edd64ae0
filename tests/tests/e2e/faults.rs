//! What breaks, and how little of it is seen.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition},
    eventually,
    load::Load,
};

use crate::{
    traffic::{prepare, settled},
    usage::gateway,
};

/// Each running container with its pod: what must not change when nothing should restart.
fn containers(cluster: &Cluster) -> BTreeMap<String, String> {
    let pods = cluster.items(&["pods", "-l", "app=hello"]);
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    pods.iter()
        .map(|pod| (name(pod), pod["status"]["containerStatuses"][0]["containerID"].to_string()))
        .collect()
}

pub fn a_killed_container_is_restarted(cluster: &Cluster) {
    prepare(cluster);
    let pod = cluster.items(&["pods", "-l", "app=hello"]).remove(0);
    let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
    let container = pod["spec"]["containers"][0]["name"].as_str().expect("a name").to_owned();
    cluster.docker_of(&pod, &["kill", &cluster.container(&pod, &container)]);
    eventually("the container runs again", || {
        let pod = cluster.get(&["pod", &name]);
        let status = &pod["status"]["containerStatuses"][0];
        if status["restartCount"] == 1 && status["ready"] == true { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(
        cluster.items(&["pods", "-l", "app=hello"]).len(),
        6,
        "the pod was replaced, not its container"
    );
}

pub fn the_data_plane_outlives_the_controller(cluster: &Cluster) {
    prepare(cluster);
    let before = containers(cluster);
    let deployment = cluster.get(&["deployment", "hello"])["metadata"]["uid"].clone();
    let controller = format!("{}-controller", cluster.name);
    // A client inside the cluster: DNS and the service address, without the gateway.
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: inside}\nspec:\n  containers:\n  - name: wget\n    \
         image: busybox:1.36\n    command: [sh, -c, 'n=0; while true; do wget -qO- http://hello.default >/dev/null \
         && n=$((n+1)) || echo FAILED; echo ok $n; sleep 0.1; done']\n",
    );
    let inside = eventually("the inner client runs", || {
        let pod = cluster.get(&["pod", "inside"]);
        if condition(&pod, "Ready") == "True" { Ok(pod) } else { Err("not ready".into()) }
    });
    let wget = cluster.container(&inside, "wget");
    let inner = || cluster.docker_of(&inside, &["logs", &wget]);
    let count = |logs: &str| logs.lines().filter(|line| line.starts_with("ok ")).count();

    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    cluster.machines.kill(&controller);
    let at_kill = count(&inner());
    load.more(1_000);
    eventually("the inner client goes on", || {
        let more = count(&inner()) - at_kill;
        if more >= 30 { Ok(()) } else { Err(format!("{more} lookups and requests")) }
    });
    cluster.machines.start(&controller);
    eventually("the API answers again", || {
        let output = cluster.try_kubectl(&["get", "nodes"]);
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    cluster.nodes_ready(3);
    load.more(500);
    let report = load.stop();
    println!("without a controller: {} requests, {} failed", report.requests, report.failures.len());
    report.assert_flawless();
    assert!(!inner().contains("FAILED"), "a lookup or a request inside failed:\n{}", inner());
    assert_eq!(cluster.get(&["deployment", "hello"])["metadata"]["uid"], deployment, "the state is another");
    assert_eq!(containers(cluster), before, "a pod was restarted");
    cluster.kubectl(&["delete", "pod", "inside", "--grace-period=0", "--force"]);
}

pub fn a_lost_node_is_replaced_and_rejoins(cluster: &Cluster) {
    prepare(cluster);
    let node = format!("{}-node-2", cluster.name);
    let identity = cluster.get(&["node", &node])["metadata"]["uid"].clone();
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    let killed = Instant::now();
    cluster.machines.kill(&node);
    eventually("replacements run elsewhere", || {
        let pods = cluster.items(&["pods", "-l", "app=hello"]);
        let elsewhere = pods
            .iter()
            .filter(|pod| pod["spec"]["nodeName"] != node.as_str() && condition(pod, "Ready") == "True")
            .count();
        if elsewhere >= 6 { Ok(()) } else { Err(format!("{elsewhere} of 6 pods are ready on other nodes")) }
    });
    load.more(300);
    let report = load.stop();
    let last = report.failures.last().map(|(at, _)| at.duration_since(killed));
    println!(
        "a lost node: {} requests, {} failed, the last one {:.1} s after the kill",
        report.requests,
        report.failures.len(),
        last.unwrap_or_default().as_secs_f64()
    );
    // The promise of DESIGN.md: one health interval. This bound is the product's, not the machine's.
    assert!(
        last.unwrap_or_default() <= Duration::from_secs(4),
        "the last failure came {last:?} after the kill: {:?}",
        report.failures.last()
    );
    cluster.machines.start(&node);
    cluster.nodes_ready(3);
    assert_eq!(cluster.get(&["node", &node])["metadata"]["uid"], identity, "the node came back as another");
    settled(cluster, 6);
}
