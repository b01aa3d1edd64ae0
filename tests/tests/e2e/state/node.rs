//! A node that lost what it is recognised by.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;
use warren_tests::{cluster::Cluster, eventually, load::Load};

use crate::{
    traffic::{prepare, settled},
    usage::gateway,
};

pub fn a_node_that_lost_its_state_joins_again(cluster: &Cluster) {
    prepare(cluster);
    let node = format!("{}-node-2", cluster.name);
    let others = |cluster: &Cluster| -> BTreeMap<String, String> {
        let here = |pod: &Value| pod["spec"]["nodeName"] != node.as_str();
        let pods = cluster.items(&["pods", "-l", "app=hello"]).into_iter().filter(here);
        pods.map(|pod| (pod["metadata"]["uid"].to_string(), cluster.container(&pod, "hello"))).collect()
    };
    let before = others(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(100);
    let state = cluster.machines.state(&node);
    // Without what lies in memory: mounts cannot be removed.
    let _ =
        Command::new("find").arg(&state).args(["-mindepth", "1", "-delete"]).output().expect("find starts");
    assert!(!state.join("identity/node.pem").exists(), "the state is not lost");
    // What runs goes on: the daemons hold what they need.
    load.more(100);
    assert!(load.report().failures.is_empty(), "{:?}", load.report().failures);
    cluster.nodes_ready(3);

    cluster.machines.halt(&node, "TERM");
    cluster.machines.resume(&node);
    eventually("the node says that it must join again", || {
        let logs = cluster.machines.latest_log(&node);
        let mend = logs.contains("cannot join") && logs.contains("warren token create");
        if mend { Ok(()) } else { Err(logs) }
    });
    cluster.machines.admit(&node);
    // Until its former life is declared dead, the node is Ready whatever it does.
    eventually("the node has joined again", || {
        let processes = cluster.machines.processes(&node);
        let complete = ["netd", "agent"].iter().all(|daemon| processes.contains_key(*daemon));
        let joined = complete && state.join("identity/node.pem").exists();
        if joined { Ok(()) } else { Err(cluster.machines.latest_log(&node)) }
    });
    cluster.nodes_ready(3);
    cluster.rolled_out("deployment/hello");
    settled(cluster, 6);
    eventually("nothing of the former life is left", || {
        let bound = cluster.items(&["pods", "-A", "--field-selector", &format!("spec.nodeName={node}")]);
        let known: BTreeSet<String> =
            bound.iter().filter_map(|pod| Some(pod["metadata"]["uid"].as_str()?.to_owned())).collect();
        let filter = format!("label=warren.node={node}");
        let format = "{{.Label \"warren.pod.uid\"}}";
        let there = cluster.machines.docker(&node, &["ps", "-a", "--filter", &filter, "--format", format]);
        match there.lines().find(|uid| !uid.is_empty() && !known.contains(*uid)) {
            None => Ok(()),
            Some(uid) => Err(format!("containers of pod {uid}")),
        }
    });
    load.more(100);
    let report = load.stop();
    println!("a node without its state: {} requests, {} failed", report.requests, report.failures.len());
    let kept = others(cluster);
    assert!(before.iter().all(|(uid, id)| kept.get(uid) == Some(id)), "a pod of another node was touched");
}
