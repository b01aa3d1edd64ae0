//! Ten minutes under attack while the guestbook serves: strangers at the controller's port, forged packets on the
//! underlay, and clients of the gateway that never end what they begin. Nobody may notice, and no process may grow.
//!
//! Every attacker is bounded in count and pace, and all of them live in a network namespace of their own on the
//! cluster's bridge. `WARREN_SOAK_SECONDS` makes it shorter or longer.

mod attackers;
mod stranger;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{cluster::Cluster, load::Load};

use crate::{guestbook, usage::gateway};
use stranger::Stranger;

const SECONDS: u64 = 600;
/// What the processes that strangers reach may occupy at most, in KiB: a controller and a gateway of a small cluster
/// take a tenth of it.
const MOST_KIB: u64 = 256 << 10;
/// How much more than after the first fifth of the time a process may have at the end: allocators and caches settle.
const GROWTH_KIB: u64 = 32 << 10;

/// Whether attackers go on, and what they have done.
#[derive(Debug, Default)]
struct Siege {
    over: AtomicBool,
    attacks: AtomicU64,
    /// What must never happen: a packet that came through, a connection that reached a pod.
    breaches: std::sync::Mutex<Vec<String>>,
}

impl Siege {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.attacks.fetch_add(1, Ordering::Relaxed);
    }

    fn breach(&self, what: String) {
        self.breaches.lock().expect("no attacker panicked").push(what);
    }
}

pub fn attacks_cost_the_guestbook_nothing(cluster: &Cluster) {
    let seconds = std::env::var("WARREN_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("WARREN_SOAK_SECONDS is a number"));
    guestbook::deploy(cluster);
    let stranger = Stranger::beside(cluster);
    let siege = Arc::new(Siege::default());
    let traffic = guestbook::Traffic::start(cluster, "siege");
    let api = Load::start(gateway(cluster), "/guestbook/", 2);
    let attackers = begin(cluster, &stranger, &siege);

    let began = Instant::now();
    let settled = Duration::from_secs(seconds / 5);
    let mut early = None;
    while began.elapsed() < Duration::from_secs(seconds) {
        // kubectl works all the time.
        let nodes = cluster.items(&["nodes"]).len();
        assert_eq!(nodes, 3, "kubectl sees {nodes} nodes");
        traffic.more();
        if began.elapsed() > settled && early.is_none() {
            early = Some(memory(cluster));
        }
    }
    let late = memory(cluster);
    siege.over.store(true, Ordering::Relaxed);
    for attacker in attackers {
        attacker.join().expect("an attacker does not panic");
    }
    let (reads, writes) = traffic.stop(cluster, "siege");
    println!("{} attacks in {seconds} s", siege.attacks.load(Ordering::Relaxed));
    reads.assert_flawless();
    api.stop().assert_flawless();
    assert!(writes.failures.is_empty(), "{:?}", writes.failures.first());
    let breaches = siege.breaches.lock().expect("no attacker panicked");
    assert!(breaches.is_empty(), "{} breaches; the first: {}", breaches.len(), breaches[0]);
    is_flat(&early.expect("the siege lasts"), &late);
    guestbook::nothing_restarted(cluster);
    drop(breaches);
    guestbook::remove(cluster);
}

fn begin(cluster: &Cluster, stranger: &Stranger, siege: &Arc<Siege>) -> Vec<JoinHandle<()>> {
    let address = |role: &str| cluster.machines.address(&format!("{}-{role}", cluster.name));
    let api = format!("{}:6443", address("controller")).parse().expect("an address");
    let gateway = format!("{}:80", address("gateway")).parse().expect("an address");
    let pods: Vec<String> =
        ["web", "api"].iter().flat_map(|tier| guestbook::pods(cluster, tier)).filter_map(pod_ip).collect();
    let services: Vec<String> = cluster
        .items(&["services", "-A"])
        .iter()
        .filter_map(|service| service["spec"]["clusterIP"].as_str().map(str::to_owned))
        .filter(|ip| ip != "None")
        .collect();
    let attack = |what: fn(&Siege, &attackers::Targets)| {
        let targets = attackers::Targets { api, gateway, pods: pods.clone(), services: services.clone() };
        stranger.thread(Arc::clone(siege), targets, what)
    };
    vec![
        attack(attackers::unproven_calls),
        attack(attackers::unfinished_joins),
        attack(attackers::silent_and_slow_guests),
        attack(attackers::packets_to_the_overlay),
        attack(attackers::bodies_without_end),
        attack(attackers::floods_of_headers),
    ]
}

fn pod_ip(pod: Value) -> Option<String> {
    pod["status"]["podIP"].as_str().map(str::to_owned)
}

/// The resident memory in KiB of the processes that strangers reach.
fn memory(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut memory = BTreeMap::new();
    for role in ["controller", "gateway", "node-1"] {
        for (daemon, pid) in cluster.machines.processes(&format!("{}-{role}", cluster.name)) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
            memory.insert(format!("{role}/{daemon}/{pid}"), resident.unwrap_or(0));
        }
    }
    assert!(memory.len() >= 5, "the processes are found: {memory:?}");
    memory
}

fn is_flat(early: &BTreeMap<String, u64>, late: &BTreeMap<String, u64>) {
    println!("memory in KiB, early: {early:?}; late: {late:?}");
    assert!(early.keys().eq(late.keys()), "a process was restarted: {early:?} became {late:?}");
    for (process, kib) in late {
        assert!(*kib < MOST_KIB, "{process} has {kib} KiB");
        assert!(*kib < early[process] + GROWTH_KIB, "{process} grew from {} to {kib} KiB", early[process]);
    }
}
