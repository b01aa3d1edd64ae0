//! Clocks that are a day behind or ahead, or are set while a program runs. The machine's own clock is never touched.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{
    clock::{DAY, Launch, Shifted},
    cluster::Cluster,
    eventually,
    load::Load,
    text,
};

use crate::{
    state::{Controller, Facts, idle_pod, ready_pod},
    supervision::signal,
    traffic::prepare,
    usage::gateway,
};

/// The controller as a process that the test starts, in place of its own.
struct StandIn<'a>(&'a Controller<'a>);

impl StandIn<'_> {
    fn start(&self, seconds: i64) -> Shifted {
        let launch = self.0.cluster.machines.stand_in().arguments(&["--log-level", "error"]);
        let program = Shifted::start(launch, seconds);
        self.0.answers();
        program
    }
}

impl Drop for StandIn<'_> {
    fn drop(&mut self) {
        self.0.cluster.machines.resume(&self.0.member);
    }
}

/// Since when each node is Ready: this moves whenever one was declared lost or suspect.
fn ready_since(cluster: &Cluster) -> BTreeMap<String, String> {
    let since = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
        (node["metadata"]["name"].to_string(), format!("{} {}", ready["status"], ready["lastTransitionTime"]))
    };
    cluster.items(&["nodes"]).iter().map(since).collect()
}

/// The dates by which a clock that is off by `seconds` may go, while the test runs.
fn dates(seconds: i64) -> [String; 2] {
    let date = |more: i64| {
        let line = format!("date -u -d @$(( $(date +%s) + {seconds} + {more} )) +%F");
        let output = Command::new("sh").args(["-c", &line]).output().expect("sh starts");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    [date(-180), date(0)]
}

fn is_dated(value: &Value, seconds: i64) -> bool {
    let text = value.as_str().unwrap_or_default();
    dates(seconds).iter().any(|date| text.starts_with(date))
}

pub fn a_controller_whose_clock_is_a_day_off_loses_nobody(cluster: &Cluster) {
    prepare(cluster);
    let controller = Controller::of(cluster);
    let (before, ready) = (Facts::of(cluster), ready_since(cluster));
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(100);
    let stand_in = StandIn(&controller);
    for day in [DAY, -DAY] {
        let shifted = stand_in.start(day);
        cluster.nodes_ready(3);
        cluster.apply(&idle_pod("dated"));
        let pod = ready_pod(cluster, "dated");
        let created = &pod["metadata"]["creationTimestamp"];
        assert!(is_dated(created, day), "the clock is not shifted: {created}");
        // Every consumer follows this clock's controller: the deletion waits for each of them.
        cluster.kubectl(&["delete", "pod", "dated"]);
        let file = std::env::temp_dir().join(format!("{}-clock.tar", cluster.name));
        controller.backup(&file);
        std::fs::remove_file(file).expect("a backup");
        assert_eq!(ready_since(cluster), ready, "a node was declared lost");
        load.more(100);
        shifted.stop();
    }
    drop(stand_in);
    controller.answers();
    cluster.nodes_ready(3);
    load.more(100);
    let report = load.stop();
    println!("a clock a day off: {} requests, {} failed", report.requests, report.failures.len());
    report.assert_flawless();
    assert_eq!(ready_since(cluster), ready, "a node was declared lost");
    assert_eq!(Facts::of(cluster), before, "a pod, a node or an identity changed");
}

/// Seconds until a container is killed that does not end by itself.
const GRACE: u64 = 4;

fn on_node(name: &str, node: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  \
         terminationGracePeriodSeconds: {GRACE}\n  containers:\n  - {{name: idle, image: 'busybox:1.36', \
         command: [sh, -c, '{script}']}}\n"
    )
}

/// Deletes a pod that does not want to go, sets the agent's clock as soon as it was asked to, and waits until it was
/// killed: not much earlier than its grace says, whatever the clock.
fn killed_in_time(cluster: &Cluster, name: &str, set: impl Fn()) {
    let pod = ready_pod(cluster, name);
    let container = cluster.container(&pod, "idle");
    cluster.kubectl(&["delete", "pod", name, "--wait=false"]);
    eventually("the container is asked to stop", || {
        let logs = cluster.docker_of(&pod, &["logs", &container]);
        if logs.contains("TERM") { Ok(()) } else { Err(logs) }
    });
    let asked = Instant::now();
    set();
    eventually("the pod is gone", || {
        let gone = text(&cluster.try_kubectl(&["get", "pod", name]));
        if gone.contains("NotFound") { Ok(()) } else { Err(gone) }
    });
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_secs(GRACE) / 2,
        "{name} was killed after {took:?}, its grace is {GRACE} s"
    );
}

/// A process that does nothing until dropped.
struct Asleep(u32);

impl Asleep {
    fn put(pid: u32) -> Self {
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

pub fn an_agent_whose_clock_is_set_keeps_its_deadlines(cluster: &Cluster) {
    prepare(cluster);
    let node = format!("{}-node-2", cluster.name);
    let (before, ready) = (Facts::of(cluster), ready_since(cluster));
    let stubborn = "trap \"echo TERM\" TERM; while true; do sleep 0.2; done";
    for name in ["stubborn-1", "stubborn-2"] {
        cluster.apply(&on_node(name, &node, stubborn));
        ready_pod(cluster, name);
    }
    // An agent of the test's takes the place of the node's own, which sleeps meanwhile.
    let own = cluster.machines.processes(&node)["agent"];
    let line = std::fs::read_to_string(format!("/proc/{own}/cmdline")).expect("the agent's command line");
    let line: Vec<&str> = line.trim_end_matches('\0').split('\0').skip(1).collect();
    let program = std::fs::read_link(format!("/proc/{own}/exe")).expect("the agent's program");
    let more = ["--metrics", "127.0.0.1:9413", "--log-level", "error"];
    let launch = Launch::beside(own, &program).arguments(&line).arguments(&more);
    let asleep = Asleep::put(own);
    let agent = Shifted::start(launch, 0);

    killed_in_time(cluster, "stubborn-1", || agent.set(-DAY));
    // A container that ended "tomorrow" is started again all the same.
    cluster.apply(&on_node("crasher", &node, "exit 3"));
    eventually("the container is restarted", || {
        let status = cluster.get(&["pod", "crasher"])["status"]["containerStatuses"][0].clone();
        let ended = &status["lastState"]["terminated"]["finishedAt"];
        match status["restartCount"].as_u64() {
            Some(count) if count >= 1 && is_dated(ended, 0) => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    killed_in_time(cluster, "stubborn-2", || agent.set(DAY));
    cluster.kubectl(&["delete", "pod", "crasher"]);
    assert_eq!(ready_since(cluster), ready, "the node was declared lost");
    agent.stop();
    drop(asleep);
    cluster.nodes_ready(3);
    assert_eq!(Facts::of(cluster), before, "a pod, a node or an identity changed");
    cluster.apply(&idle_pod("after"));
    cluster.kubectl(&["delete", "pod", "after"]);
}
