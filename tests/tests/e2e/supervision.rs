//! What the death of a daemon costs, and an upgrade in place.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition, docker, warren_binary},
    eventually,
    load::{Load, Report},
};

use crate::{
    traffic::settled,
    usage::{demo, gateway},
};

/// Longer than the supervisor's memory: a daemon that lived for so long is restarted at once.
const HEALTHY: Duration = Duration::from_secs(11);

/// The processes of a member by daemon ("node" is the supervisor), with their identifiers on this machine.
pub fn processes(container: &str) -> BTreeMap<String, u32> {
    let table = docker(&["top", container, "-eo", "pid,args"]);
    let process = |line: &str| {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let program = words.next()?;
        let daemon = words.next()?;
        // Pods of a node are in its cgroup too: only what was started for this very member counts.
        let ours = program.ends_with("warren")
            && ["node", "netd", "agent", "gateway"].contains(&daemon)
            && line.contains(&format!("/{container}"));
        ours.then(|| (daemon.to_owned(), pid))
    };
    table.lines().filter_map(process).collect()
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill starts").success(), "cannot send {name} to {pid}");
}

/// Kills a daemon and waits for its successor; the answer is how long that took.
pub fn kill(container: &str, daemon: &str) -> Duration {
    let old = processes(container)[daemon];
    let started = Instant::now();
    signal(old, "KILL");
    eventually("the daemon runs again", || match processes(container).get(daemon) {
        Some(new) if *new != old => Ok(started.elapsed()),
        found => Err(format!("{found:?}")),
    })
}

fn prepare(cluster: &Cluster) {
    cluster.nodes_ready(3);
    cluster.apply(demo());
    cluster.rolled_out("deployment/hello");
    settled(cluster, 6);
}

/// A long-lived TCP connection across nodes, and a loop of lookups, inside of the cluster.
struct Inside {
    talker: String,
    resolver: String,
}

impl Inside {
    fn start(cluster: &Cluster) -> Self {
        let node = |number: u32| format!("{}-node-{number}", cluster.name);
        let manifest = include_str!("../../manifests/supervision.yaml");
        cluster.apply(&manifest.replace("NODE_1", &node(1)).replace("NODE_3", &node(3)));
        let container = |pod: &str, name: &str| {
            eventually("the inner clients run", || {
                let pod = cluster.get(&["pod", pod]);
                let ready = condition(&pod, "Ready") == "True";
                if ready { Ok(cluster.container(&pod, name)) } else { Err(pod["status"].to_string()) }
            })
        };
        let inside =
            Self { talker: container("talker", "talker"), resolver: container("talker", "resolver") };
        inside.goes_on("before");
        inside
    }

    fn count(container: &str, word: &str) -> usize {
        docker(&["logs", container]).lines().filter(|line| line.starts_with(word)).count()
    }

    /// Waits for further echoes over the one connection, and for further lookups.
    fn goes_on(&self, when: &str) {
        for (container, word) in [(&self.talker, "echo"), (&self.resolver, "found")] {
            let before = Self::count(container, word);
            eventually(&format!("{word} goes on {when}"), || {
                let more = Self::count(container, word) - before;
                if more >= 10 { Ok(()) } else { Err(format!("{more} more {word}")) }
            });
        }
    }

    /// What was lost: ended connections and failed lookups, with what was tried.
    fn lost(&self) -> (usize, usize, usize, usize) {
        (
            Self::count(&self.talker, "ENDED"),
            Self::count(&self.talker, "echo"),
            Self::count(&self.resolver, "LOST"),
            Self::count(&self.resolver, "found"),
        )
    }

    fn end(self, cluster: &Cluster) {
        let delete = ["delete", "pod/talker", "pod/listener", "svc/listener"];
        cluster.kubectl(&[&delete[..], &["--grace-period=0", "--force"]].concat());
    }
}

fn print(what: &str, report: &Report) {
    println!("{what}: {} requests, {} failed", report.requests, report.failures.len());
    for (_, failure) in &report.failures {
        println!("  lost: {failure}");
    }
}

/// The pods' containers: none of them may be restarted by what happens to Warren's processes.
fn restarts(cluster: &Cluster) -> BTreeMap<String, String> {
    let name = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let pods = cluster.items(&["pods"]);
    pods.iter()
        .map(|pod| (name(pod), pod["status"]["containerStatuses"][0]["containerID"].to_string()))
        .collect()
}

pub fn killed_netd_and_agent_cost_nothing(cluster: &Cluster) {
    prepare(cluster);
    let inside = Inside::start(cluster);
    let before = restarts(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    let member = |name: &str| format!("{}-{name}", cluster.name);
    for (name, daemon) in [
        ("node-1", "netd"),
        ("node-3", "netd"),
        ("node-2", "netd"),
        ("gateway", "netd"),
        ("node-1", "agent"),
        ("node-3", "agent"),
    ] {
        let failed = load.report().failures.len();
        let took = kill(&member(name), daemon);
        load.more(300);
        inside.goes_on("after the kill");
        let lost = load.report().failures.len() - failed;
        println!("kill -9 {daemon} of {name}: back after {} ms, {lost} requests lost", took.as_millis());
    }
    let report = load.stop();
    print("netd and agent killed", &report);
    let (ended, echoes, lost, found) = inside.lost();
    println!("inside: {ended} connections ended ({echoes} echoes), {lost} lookups lost of {found}");
    report.assert_flawless();
    assert_eq!((ended, lost), (0, 0), "a connection or a lookup inside was lost");
    assert_eq!(restarts(cluster), before, "a pod was restarted");
    inside.end(cluster);
}

pub fn a_killed_gateway_refuses_nobody(cluster: &Cluster) {
    const WORKERS: usize = 6;
    prepare(cluster);
    let container = format!("{}-gateway", cluster.name);
    let load = Load::start(gateway(cluster), "/", WORKERS);
    load.more(200);
    for round in 1..=3 {
        let failed = load.report().failures.len();
        let took = kill(&container, "gateway");
        load.more(300);
        let lost = load.report().failures[failed..].to_vec();
        println!(
            "kill -9 gateway, round {round}: back after {} ms, {} requests lost",
            took.as_millis(),
            lost.len()
        );
        // What it costs: the connections that were in that process, each at most once.
        assert!(lost.len() <= WORKERS, "more was lost than was connected: {lost:?}");
        // Whoever connects meanwhile waits in the queue of the held sockets.
        let refused: Vec<_> = lost.iter().filter(|(_, what)| what.contains("refused")).collect();
        assert!(refused.is_empty(), "a new connection was refused: {refused:?}");
        std::thread::sleep(HEALTHY);
    }
    print("gateway killed three times", &load.stop());
}

pub fn an_upgrade_in_place_loses_nothing(cluster: &Cluster) {
    prepare(cluster);
    let inside = Inside::start(cluster);
    let pods = restarts(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    let binary = warren_binary().to_string_lossy().into_owned();
    for name in ["gateway", "node-1", "node-2", "node-3"] {
        let container = format!("{}-{name}", cluster.name);
        let old = processes(&container);
        let failed = load.report().failures.len();
        // Another file in the program's place: what runs goes on with the old one until it is told.
        docker(&["cp", &binary, &format!("{container}:/warren")]);
        signal(old["node"], "HUP");
        eventually("every daemon was replaced", || {
            let new = processes(&container);
            let kept: Vec<_> = old.iter().filter(|(name, pid)| new.get(*name) == Some(pid)).collect();
            let complete = new.len() == old.len();
            // The supervisor stays the same process, with another program.
            if complete && kept == [(&"node".to_owned(), &old["node"])] {
                Ok(())
            } else {
                Err(format!("{new:?} after {old:?}"))
            }
        });
        load.more(300);
        inside.goes_on("after the upgrade");
        let lost = load.report().failures.len() - failed;
        println!("upgrade of {name}: {lost} requests lost");
    }
    let report = load.stop();
    print("upgrades in place", &report);
    let (ended, echoes, lost, found) = inside.lost();
    println!("inside: {ended} connections ended ({echoes} echoes), {lost} lookups lost of {found}");
    report.assert_flawless();
    assert_eq!((ended, lost), (0, 0), "a connection or a lookup inside was lost");
    assert_eq!(restarts(cluster), pods, "a pod was restarted");
    inside.end(cluster);
}
