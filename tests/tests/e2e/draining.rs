//! A node is drained while all that it holds is asked for: nobody notices, and no budget is overdrawn.

use std::collections::BTreeMap;

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, Following, condition},
    eventually,
    load::Load,
};

use crate::usage::gateway;

const IN: [&str; 2] = ["-n", "drained"];
/// What is asked for, how many pods it has, and how many its budget leaves it at least.
const BUDGETS: [(&str, usize, usize); 2] = [("web", 3, 2), ("store", 2, 1)];
const SERVED: [&str; 3] = ["web", "store", "agent"];

pub fn a_drained_node_loses_no_request_and_no_budget(cluster: &Cluster) {
    cluster.nodes_ready(3);
    let node = format!("{}-node-2", cluster.name);
    let before = all_on(cluster, &node);
    let loads = SERVED.map(|name| Load::start(gateway(cluster), &format!("/drained/{name}"), 2));
    loads.iter().for_each(|load| load.more(50));
    let pods = "/api/v1/namespaces/drained/pods?watch=true";
    let mut watch = cluster.spawn_kubectl(&["get", "--raw", pods]);
    watch.wait_for("ADDED", "store-0");

    let refused = cluster.try_kubectl(&["drain", &node, "--timeout=60s"]);
    let said = warren_tests::text(&refused);
    assert!(!refused.status.success() && said.contains("DaemonSet-managed Pods"), "{said}");
    cluster.kubectl(&["drain", &node, "--ignore-daemonsets", "--timeout=120s"]);
    let after = pods_on(cluster, &node);
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        before.keys().filter(|name| name.starts_with("agent")).collect::<Vec<_>>()
    );
    assert!(after.iter().all(|(name, uid)| before[name] == *uid), "the daemon's pod is another one");
    for (name, count, _) in BUDGETS {
        eventually("all of them are elsewhere", || match healthy_now(cluster, name) {
            found if found == count => Ok(()),
            found => Err(format!("{found} of {count} pods of {name} are ready")),
        });
    }
    loads.iter().for_each(|load| load.more(50));
    for (load, name) in loads.into_iter().zip(SERVED) {
        let report = load.stop();
        println!("drain, {name}: {} requests, {} failed", report.requests, report.failures.len());
        report.assert_flawless();
    }
    never_below_the_budget(&watch);
    cluster.kubectl(&["uncordon", &node]);
    cluster.kubectl(&["delete", "namespace", "drained", "--timeout=120s"]);
}

/// Puts all of it on one node, and a pod of the daemon on each; answers with what is there.
fn all_on(cluster: &Cluster, node: &str) -> BTreeMap<String, String> {
    let others: Vec<_> = [1, 3].map(|number| format!("{}-node-{number}", cluster.name)).into();
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    cluster.kubectl(&[&["cordon"][..], &others].concat());
    cluster.apply(include_str!("../../manifests/drained.yaml"));
    for name in ["deployment/web", "statefulset/store", "daemonset/agent"] {
        cluster.kubectl(&[&IN[..], &["rollout", "status", name, "--timeout=120s"]].concat());
    }
    cluster.kubectl(&[&["uncordon"][..], &others].concat());
    let there = pods_on(cluster, node);
    assert_eq!(there.len(), 6, "{there:?}");
    for (name, _, least) in BUDGETS {
        eventually("the budget has counted its pods", || {
            let budget = cluster.get(&[&IN[..], &["pdb", name]].concat());
            let status = &budget["status"];
            let is_well = status["disruptionsAllowed"] == 1 && status["desiredHealthy"] == least;
            if is_well { Ok(()) } else { Err(status.to_string()) }
        });
    }
    there
}

/// The names and uids of the pods on a node.
fn pods_on(cluster: &Cluster, node: &str) -> BTreeMap<String, String> {
    let there = format!("--field-selector=spec.nodeName={node}");
    let pods = cluster.items(&[&IN[..], &["pods", &there]].concat());
    let text = |pod: &Value, field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    pods.iter().map(|pod| (text(pod, "name"), text(pod, "uid"))).collect()
}

fn healthy_now(cluster: &Cluster, name: &str) -> usize {
    let pods = cluster.items(&[&IN[..], &["pods", "-l", &format!("app={name}")]].concat());
    pods.iter().filter(|pod| is_healthy(pod)).count()
}

/// As a budget counts.
fn is_healthy(pod: &Value) -> bool {
    condition(pod, "Ready") == "True" && pod["metadata"].get("deletionTimestamp").is_none()
}

/// Goes through all that has become of the pods, one event after the other.
fn never_below_the_budget(watch: &Following) {
    let mut healthy = BTreeMap::<&str, BTreeMap<String, bool>>::new();
    let mut lowest = BTreeMap::<&str, usize>::new();
    for line in watch.lines() {
        let event: Value = serde_json::from_str(&line).expect("a watch is JSON, line by line");
        let pod = &event["object"];
        let app = &pod["metadata"]["labels"]["app"];
        let Some((name, count, _)) = BUDGETS.into_iter().find(|(name, ..)| app == name) else { continue };
        let pods = healthy.entry(name).or_default();
        let is_healthy = event["type"] != "DELETED" && is_healthy(pod);
        // The next pod of a number has the name of the last.
        pods.insert(pod["metadata"]["uid"].to_string(), is_healthy);
        let now = pods.values().filter(|healthy| **healthy).count();
        // What was there comes first, one by one.
        let seen = pods.len() >= count;
        if seen {
            let lowest = lowest.entry(name).or_insert(now);
            *lowest = now.min(*lowest);
        }
    }
    for (name, count, least) in BUDGETS {
        assert_eq!(lowest.get(name), Some(&least), "the fewest pods of {name} at once, of {count}");
        assert!(
            healthy[name].len() >= 2 * count,
            "not every pod of {name} was replaced: {:?}",
            healthy[name]
        );
    }
}
