//! What the death of a daemon costs, and an upgrade in place.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition, warren_binary},
    eventually,
    load::{Load, Report},
};

use crate::{traffic::prepare, usage::gateway};

/// Longer than the supervisor's memory: a daemon that lived for so long is restarted at once.
const HEALTHY: Duration = Duration::from_secs(11);

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill starts").success(), "cannot send {name} to {pid}");
}

/// Kills a daemon and waits for its successor; the answer is how long that took.
pub(crate) fn kill(cluster: &Cluster, member: &str, daemon: &str) -> Duration {
    let old = cluster.machines.processes(member)[daemon];
    let started = Instant::now();
    signal(old, "KILL");
    eventually("the daemon runs again", || match cluster.machines.processes(member).get(daemon) {
        Some(new) if *new != old => Ok(started.elapsed()),
        found => Err(format!("{found:?}")),
    })
}

/// A long-lived TCP connection across nodes, and a loop of lookups, inside of the cluster.
struct Inside<'a> {
    cluster: &'a Cluster,
    pod: Value,
}

impl<'a> Inside<'a> {
    fn start(cluster: &'a Cluster) -> Self {
        let node = |number: u32| format!("{}-node-{number}", cluster.name);
        let manifest = include_str!("../../manifests/supervision.yaml");
        cluster.apply(&manifest.replace("NODE_1", &node(1)).replace("NODE_3", &node(3)));
        let pod = eventually("the inner clients run", || {
            let pod = cluster.get(&["pod", "talker"]);
            if condition(&pod, "Ready") == "True" { Ok(pod) } else { Err(pod["status"].to_string()) }
        });
        let inside = Self { cluster, pod };
        inside.goes_on("before");
        inside
    }

    fn count(&self, container: &str, word: &str) -> usize {
        let container = self.cluster.container(&self.pod, container);
        let log = self.cluster.docker_of(&self.pod, &["logs", &container]);
        log.lines().filter(|line| line.starts_with(word)).count()
    }

    /// Waits for further echoes over the one connection, and for further lookups.
    fn goes_on(&self, when: &str) {
        for (container, word) in [("talker", "echo"), ("resolver", "found")] {
            let before = self.count(container, word);
            eventually(&format!("{word} goes on {when}"), || {
                let more = self.count(container, word) - before;
                if more >= 10 { Ok(()) } else { Err(format!("{more} more {word}")) }
            });
        }
    }

    /// What was lost: ended connections and failed lookups, with what was tried.
    fn lost(&self) -> (usize, usize, usize, usize) {
        (
            self.count("talker", "ENDED"),
            self.count("talker", "echo"),
            self.count("resolver", "LOST"),
            self.count("resolver", "found"),
        )
    }

    fn end(self) {
        let delete = ["delete", "pod/talker", "pod/listener", "svc/listener"];
        self.cluster.kubectl(&[&delete[..], &["--grace-period=0", "--force"]].concat());
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
        let took = kill(cluster, &member(name), daemon);
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
    inside.end();
}

pub fn a_killed_gateway_loses_no_request(cluster: &Cluster) {
    prepare(cluster);
    let member = format!("{}-gateway", cluster.name);
    // Half on kept connections, half on a new one each time; and requests that are in flight at any instant.
    let loads = [
        ("quick", Load::start(gateway(cluster), "/", 6)),
        ("slow", Load::start(gateway(cluster), "/slow?ms=300", 6)),
    ];
    let all_go_on = || loads.iter().for_each(|(_, load)| load.more(60));
    all_go_on();
    for round in 1..=5 {
        let lost = || loads.iter().map(|(_, load)| load.report().failures.len()).sum::<usize>();
        let before = lost();
        let took = kill(cluster, &member, "gateway");
        all_go_on();
        let (took, lost) = (took.as_millis(), lost() - before);
        println!("kill -9 gateway, round {round}: back after {took} ms, {lost} requests lost");
        std::thread::sleep(HEALTHY);
    }
    for (name, load) in loads {
        let report = load.stop();
        print(&format!("gateway killed five times, {name} requests"), &report);
        report.assert_flawless();
    }
    a_post_is_not_repeated(cluster, &member);
    eventually("nothing is left of the killed ones", || no_ended_witness(&member));
}

/// The witnesses of killed gateways become children of the supervisor, where that is a container's first process.
fn no_ended_witness(member: &str) -> Result<(), String> {
    let ended = |entry: &std::fs::DirEntry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let parent = line("PPid:").filter(|_| line("Name:") == Some("witness"))?;
        (line("State:")?.starts_with('Z') && command_line(parent).contains(member))
            .then(|| format!("{} of {member}", entry.path().display()))
    };
    let processes = std::fs::read_dir("/proc").map_err(|error| error.to_string())?;
    processes.flatten().find_map(|entry| ended(&entry)).map_or(Ok(()), Err)
}

fn command_line(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// A request that must not be repeated ends with the gateway, soon, and was executed once.
fn a_post_is_not_repeated(cluster: &Cluster, member: &str) {
    let mut client = TcpStream::connect(gateway(cluster)).expect("the gateway listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    // Longer than it takes to see that it was executed and to kill the gateway, shorter than the gateway's own patience.
    let mark = format!("ms=45000&post={}", std::process::id());
    write!(client, "POST /slow?{mark} HTTP/1.1\r\nhost: a.test\r\ncontent-length: 4\r\n\r\nonce")
        .expect("sent");
    let executed =
        || cluster.kubectl(&["logs", "-l", "app=hello", "--tail=-1", "--since=5m"]).matches(&mark).count();
    eventually(
        "the request is executed",
        || if executed() == 1 { Ok(()) } else { Err("not yet".to_owned()) },
    );
    kill(cluster, member, "gateway");
    let mut answer = Vec::new();
    // An end, or a reset; not silence.
    let ended = client.read_to_end(&mut answer);
    assert!(ended.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::ConnectionReset), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&answer), "", "an answer from nowhere");
    assert_eq!(executed(), 1, "the request was repeated");
}

/// A program in a file of its own, removed when dropped.
struct Program(PathBuf);

impl Program {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("warren-{name}-{}", std::process::id()));
        std::fs::write(&path, bytes).expect("the temporary directory is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    /// What is under test, and yet another program: longer by some bytes that nobody reads.
    fn other_version() -> Self {
        let mut bytes = std::fs::read(warren_binary()).expect("the binary under test");
        bytes.extend(b"the next version");
        Self::new("other", &bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The length of the program that a process runs, whatever lies at its path now.
fn program_length(pid: u32) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/exe")).map_or(0, |program| program.len())
}

pub fn an_upgrade_in_place_loses_nothing(cluster: &Cluster) {
    prepare(cluster);
    let inside = Inside::start(cluster);
    let pods = restarts(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    let other = Program::other_version();
    let length = std::fs::metadata(&other.0).expect("it is there").len();
    for name in ["gateway", "node-1", "node-2", "node-3"] {
        let member = format!("{}-{name}", cluster.name);
        let old = cluster.machines.processes(&member);
        let failed = load.report().failures.len();
        // Another file in the program's place: what runs goes on with the old one until it is told.
        cluster.machines.install(&member, &other.0);
        signal(old["node"], "HUP");
        eventually("every daemon was replaced", || {
            let new = cluster.machines.processes(&member);
            let kept: Vec<_> = old.iter().filter(|(name, pid)| new.get(*name) == Some(pid)).collect();
            let complete = new.len() == old.len();
            // The supervisor stays the same process, with another program.
            if complete && kept == [(&"node".to_owned(), &old["node"])] {
                Ok(())
            } else {
                Err(format!("{new:?} after {old:?}"))
            }
        });
        for (daemon, pid) in cluster.machines.processes(&member) {
            assert_eq!(program_length(pid), length, "{daemon} of {name} runs the old program");
        }
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
    inside.end();
}

pub fn an_upgrade_to_what_cannot_run_is_refused(cluster: &Cluster) {
    prepare(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(100);
    let good = Program::other_version();
    let no_program = Program::new("rubbish", b"\x7fELF, but no program");
    let busybox = std::fs::read("/bin/busybox").expect("deploy/prerequisites.sh --test installs it");
    let foreign = Program::new("foreign", &busybox);
    let refusals = |member: &str| cluster.machines.logs(member).matches("not upgrading").count();
    for name in ["gateway", "node-1"] {
        let member = format!("{}-{name}", cluster.name);
        let before = cluster.machines.processes(&member);
        // What is no program, and a program that does not understand our command line.
        for (count, bad) in [(1, &no_program), (2, &foreign)] {
            cluster.machines.install(&member, &bad.0);
            signal(before["node"], "HUP");
            eventually("the upgrade is refused", || {
                let found = refusals(&member);
                if found >= count { Ok(()) } else { Err(format!("{found} refusals of {:?}", bad.0)) }
            });
            assert_eq!(cluster.machines.processes(&member), before, "{:?} was taken", bad.0);
        }
        // It goes on, and can restart its daemons though its own file is not what it runs.
        if name == "gateway" {
            kill(cluster, &member, "gateway");
        }
        load.more(100);
        cluster.machines.install(&member, &good.0);
    }
    let report = load.stop();
    print("upgrades refused", &report);
    report.assert_flawless();
}
