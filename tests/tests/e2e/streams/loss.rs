//! What slow clients cost, and what is left of those that go away.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use warren_tests::{
    cluster::{Cluster, kubectl_versions},
    eventually,
};

use super::{
    hands::{Hands, sequence},
    ready, remove,
};
use crate::supervision;

const READERS: usize = 4;
/// By how much a process may grow: windows, buffers of connections, and what its allocator keeps.
const GROWTH: u64 = 80 << 20;

/// Each slow reader is sent 260 MB: what is not read must stay where it is made. The number is this run's own, because
/// commands are recognised by it, and another cluster may be under test on this machine.
fn last() -> u32 {
    30_000_000 + std::process::id() % 100_000
}

/// How long an idle command sleeps: by this it is recognised, too.
fn mark(number: u32) -> String {
    format!("{}", 1_000_000_000 + 10 * (std::process::id() % 10_000_000) + number)
}

/// The processes that carry the streams.
struct Carriers {
    controller: u32,
    agent: u32,
}

impl Carriers {
    fn of(cluster: &Cluster) -> Self {
        let node = cluster.get(&["pod", "hands"])["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let controller = format!("{}-controller", cluster.name);
        let pid = |member: &str, daemon| cluster.machines.processes(member)[daemon];
        Self { controller: pid(&controller, "controller"), agent: pid(&node, "agent") }
    }

    fn each(&self) -> [(&'static str, u32); 2] {
        [("controller", self.controller), ("agent", self.agent)]
    }

    fn memory(&self) -> [u64; 2] {
        self.each().map(|(name, pid)| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .unwrap_or_else(|error| panic!("the {name} has gone: {error}"));
            let line =
                status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process with memory");
            let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("kibibytes");
            kibibytes << 10
        })
    }

    fn descriptors(&self) -> [usize; 2] {
        self.each()
            .map(|(_, pid)| fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default())
    }
}

/// The processes of this machine whose command line is `words`, and how many bytes each has written.
fn written_by(words: &str) -> Vec<u64> {
    let processes = fs::read_dir("/proc").expect("proc is mounted").flatten();
    processes
        .filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let io = (line.trim() == words).then(|| fs::read_to_string(entry.path().join("io")).ok())??;
            io.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
        })
        .collect()
}

/// Waits until it was the same at several looks in a row.
fn stands_still(what: &str, mut look: impl FnMut() -> Vec<u64>) -> Vec<u64> {
    let (mut last, mut same) = (Vec::new(), 0);
    eventually(what, || {
        let now = look();
        same = if now == last && !now.is_empty() { same + 1 } else { 0 };
        last.clone_from(&now);
        if same >= 15 { Ok(now) } else { Err(format!("{now:?}")) }
    })
}

fn no_command_is_left(marks: &[String]) {
    eventually("commands end with their clients", || {
        let left: Vec<_> = marks.iter().filter(|mark| !written_by(mark).is_empty()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} go on")) }
    });
}

pub fn slow_and_lost_clients_cost_nothing(cluster: &Cluster) {
    ready(cluster);
    let versions = kubectl_versions();
    let all: Vec<Hands<'_>> =
        versions.iter().map(|(version, kubectl)| Hands::new(cluster, kubectl, version)).collect();
    let carriers = Carriers::of(cluster);
    // Warm: the allocator has what a stream needs.
    for hands in &all {
        let output = hands.in_shell("seq 1 1000000", b"").expect("exec works");
        assert!(output.status.success(), "{output:?}");
    }
    let (memory, descriptors) = (carriers.memory(), carriers.descriptors());
    let grown = |what: &str| {
        let now = carriers.memory();
        for (((name, _), before), now) in carriers.each().iter().zip(memory).zip(now) {
            println!("{what}: {name} {} MiB, before {} MiB", now >> 20, before >> 20);
            assert!(now < before + GROWTH, "{what}: the {name} grew from {before} to {now} bytes");
        }
    };

    let readers = slow_readers(&all);
    grown("slow readers");
    let mut readers = readers.into_iter();
    let (mut first, mut content) = (readers.next().expect("the first"), Vec::new());
    first.stdout.take().expect("piped").read_to_end(&mut content).expect("kubectl is read");
    assert!(
        first.wait().expect("it ends").success() && content == sequence(last()),
        "{} bytes",
        content.len()
    );
    drop(content);

    let writer = slow_process(&all[all.len() - 1]);
    grown("a process that takes no input");
    let sleepers = idle(&all);
    // Each of these was started for its client.
    for mut client in readers.chain([writer]).chain(sleepers) {
        client.kill().expect("it runs");
        let _ = client.wait();
    }
    let sleeps = [1, 2, 3].map(|number| format!("sleep {}", mark(number)));
    no_command_is_left(&[&[format!("seq 1 {}", last())], &sleeps[..]].concat());
    eventually("their connections are closed", || {
        let now = carriers.descriptors();
        let fits = now.iter().zip(descriptors).all(|(now, before)| *now <= before + 6);
        if fits { Ok(()) } else { Err(format!("descriptors were {descriptors:?} and are {now:?}")) }
    });
    grown("afterwards");
    the_other_side_goes(cluster, &all);
    remove(cluster);
}

fn client(hands: &Hands<'_>, arguments: &[&str]) -> Child {
    let mut command = hands.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("kubectl starts")
}

/// Clients that read nothing, until nothing moves any more.
fn slow_readers(all: &[Hands<'_>]) -> Vec<Child> {
    let command = format!("seq 1 {}", last());
    let arguments = ["exec", "hands", "-c", "shell", "--", "seq", "1", &last().to_string()];
    let readers = (0..READERS).map(|number| client(&all[number % all.len()], &arguments)).collect();
    let written = stands_still("slow readers stop the processes", || {
        let written = written_by(&command);
        if written.len() == READERS { written } else { Vec::new() }
    });
    for written in written {
        assert!(written < 130 << 20, "{written} bytes were taken though nobody reads");
    }
    readers
}

/// A client that gives much to a process that takes nothing, until nothing moves any more.
///
/// It speaks to the controller itself: a proxy in between (Docker's, here) hides a client that goes away while what it
/// sent is not taken. Such a stream ends after four idle hours.
fn slow_process(hands: &Hands<'_>) -> Child {
    let controller = hands.cluster.machines.address(&format!("{}-controller", hands.cluster.name));
    let server = format!("--server=https://{controller}:6443");
    let direct = [server.as_str(), "--tls-server-name=localhost"];
    let mark = mark(1);
    let arguments = ["exec", "-i", "hands", "-c", "shell", "--", "sleep", &mark];
    let mut writer = client(hands, &[&direct[..], &arguments].concat());
    let mut stdin = writer.stdin.take().expect("piped");
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    std::thread::spawn(move || {
        while let Ok(written @ 1..) = stdin.write(&[b'x'; 64 << 10]) {
            count.fetch_add(written, Ordering::Relaxed);
        }
    });
    let given = stands_still("a process that takes nothing stops its client", || {
        let given = given.load(Ordering::Relaxed) as u64;
        if given > 0 && !written_by(&format!("sleep {mark}")).is_empty() { vec![given] } else { Vec::new() }
    });
    assert!(given[0] < 130 << 20, "{given:?} bytes were taken though the process reads nothing");
    writer
}

/// Clients of commands that neither read nor write, of a log and of a port.
fn idle(all: &[Hands<'_>]) -> Vec<Child> {
    let mut clients = Vec::new();
    for hands in all {
        clients.push(client(hands, &["exec", "hands", "-c", "shell", "--", "sleep", &mark(2)]));
        clients.push(client(hands, &["exec", "-i", "hands", "-c", "shell", "--", "sleep", &mark(3)]));
        clients.push(client(hands, &["logs", "-f", "hands", "-c", "shell"]));
        clients.push(client(hands, &["port-forward", "deployment/forwarded", ":8000"]));
    }
    for mark in [2, 3].map(mark) {
        eventually("the commands run", || {
            let found = written_by(&format!("sleep {mark}")).len();
            if found == all.len() { Ok(()) } else { Err(format!("{found} times {mark}")) }
        });
    }
    clients
}

/// Clients are told when the agent or the controller dies, and a command ends with the controller's connection.
fn the_other_side_goes(cluster: &Cluster, all: &[Hands<'_>]) {
    let node = cluster.get(&["pod", "hands"])["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    let controller = format!("{}-controller", cluster.name);
    for (number, dies) in [(4, "agent"), (5, "controller")] {
        let mark = mark(number);
        let begin = |hands| client(hands, &["exec", "hands", "-c", "shell", "--", "sleep", &mark]);
        let clients: Vec<Child> = all.iter().map(begin).collect();
        eventually("the commands run", || {
            let found = written_by(&format!("sleep {mark}")).len();
            if found == all.len() { Ok(()) } else { Err(format!("{found} of {}", all.len())) }
        });
        match dies {
            "agent" => drop(supervision::kill(cluster, &node, "agent")),
            _ => cluster.machines.halt(&controller, "KILL"),
        }
        for mut client in clients {
            let status = eventually("the client is told", || {
                client.try_wait().ok().flatten().ok_or_else(|| format!("it goes on without the {dies}"))
            });
            // A connection that is cut without a word is a good end to old clients.
            assert!(dies == "controller" || !status.success(), "without the {dies} it ended with {status}");
        }
        if dies == "controller" {
            no_command_is_left(&[format!("sleep {mark}")]);
            cluster.machines.resume(&controller);
            crate::state::Controller::of(cluster).answers();
        }
        cluster.nodes_ready(3);
        eventually("streams are served again", || {
            let output = all[0].in_shell("true", b"")?;
            if output.status.success() { Ok(()) } else { Err(warren_tests::text(&output)) }
        });
    }
}
