//! A real application, deploy/examples/guestbook: nginx, a Python program and Redis, while it is updated and
//! while nodes die. Its reads are counted by [`Load`], its writes by [`Writes`].

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition},
    eventually,
    load::{Load, Report},
};

use crate::usage::gateway;

const NAMESPACE: [&str; 2] = ["-n", "guestbook"];
const ENTRIES: &str = "/guestbook/api/entries";
/// The same image under another name.
const NEWER: &str = "guestbook-nginx:e2e-newer";
const READS: &str = "/guestbook/api/entries?limit=5";
/// The promise of DESIGN.md: one health interval. This bound is the product's, not the machine's.
const HEALTH_INTERVAL: Duration = Duration::from_secs(4);
const PER_REQUEST: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/guestbook"))
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    cluster.kubectl(&[&NAMESPACE[..], arguments].concat())
}

fn rolled_out(cluster: &Cluster, tier: &str) {
    kubectl(cluster, &["rollout", "status", &format!("deployment/{tier}"), "--timeout=180s"]);
}

pub fn pods(cluster: &Cluster, tier: &str) -> Vec<Value> {
    cluster.items(&[&NAMESPACE[..], &["pods", "-l", &format!("app={tier}")]].concat())
}

/// One exchange on a connection of its own: the status and the body.
fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PER_REQUEST)?;
    stream.set_read_timeout(Some(PER_REQUEST))?;
    // HTTP/1.0: the end of the connection is the end of the body.
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nhost: {address}\r\nidempotency-key: {key}\r\n")?;
    write!(stream, "content-length: {length}\r\n\r\n{body}")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

fn sign(address: SocketAddr, key: &str) -> Result<(), String> {
    let body = format!(r#"{{"name": "end to end", "message": "{key}"}}"#);
    match exchange(address, "POST", ENTRIES, key, &body) {
        Ok((200 | 201, _)) => Ok(()),
        Ok((status, body)) => Err(format!("status {status}: {body}")),
        Err(error) => Err(error.to_string()),
    }
}

/// What the guestbook answers, and how often each key is among its entries.
fn read(cluster: &Cluster) -> (Value, BTreeMap<String, usize>) {
    let path = format!("{ENTRIES}?limit=10000");
    let (status, body) = exchange(gateway(cluster), "GET", &path, "", "").expect("the gateway answers");
    assert_eq!(status, 200, "{body}");
    let book: Value = serde_json::from_str(&body).expect("the guestbook answers JSON");
    let mut keys = BTreeMap::new();
    for entry in book["entries"].as_array().expect("entries") {
        *keys.entry(entry["id"].as_str().expect("a key").to_owned()).or_insert(0) += 1;
    }
    (book, keys)
}

/// What the writer saw.
#[derive(Default, Clone)]
pub struct Written {
    acknowledged: Vec<String>,
    /// Each failure: when, and what.
    pub failures: Vec<(Instant, String)>,
}

/// Writes entries one after the other; one that fails is written again under the same key until it is
/// acknowledged.
struct Writes {
    seen: Arc<Mutex<Written>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writes {
    fn start(address: SocketAddr, prefix: &str) -> Self {
        let (seen, stop) = (Arc::<Mutex<Written>>::default(), Arc::<AtomicBool>::default());
        let (shared, stopped, prefix) = (Arc::clone(&seen), Arc::clone(&stop), prefix.to_owned());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let key = format!("{prefix}-{number}");
                let outcome = sign(address, &key);
                let mut seen = shared.lock().expect("no reader panicked");
                match outcome {
                    Ok(()) => {
                        seen.acknowledged.push(key);
                        number += 1;
                    }
                    Err(failure) => seen.failures.push((Instant::now(), failure)),
                }
                drop(seen);
                std::thread::sleep(PAUSE);
            }
        });
        Self { seen, stop, thread }
    }

    fn acknowledged(&self) -> usize {
        self.seen.lock().expect("the writer did not panic").acknowledged.len()
    }

    /// Waits until `count` further entries were acknowledged.
    fn more(&self, count: usize) {
        let target = self.acknowledged() + count;
        eventually("writes go on", || match self.acknowledged() {
            acknowledged if acknowledged >= target => Ok(()),
            acknowledged => Err(format!("{acknowledged} of {target} entries")),
        });
    }

    fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer does not panic");
        self.seen.lock().expect("the writer did not panic").clone()
    }
}

/// Reads and writes at once.
pub struct Traffic {
    reads: Load,
    writes: Writes,
}

impl Traffic {
    /// Begins; entries get keys with this prefix.
    pub fn start(cluster: &Cluster, prefix: &str) -> Self {
        let address = gateway(cluster);
        let traffic = Self { reads: Load::start(address, READS, 4), writes: Writes::start(address, prefix) };
        traffic.more();
        traffic
    }

    /// Waits until further reads and writes were answered.
    pub fn more(&self) {
        self.reads.more(100);
        self.writes.more(10);
    }

    /// Ends the traffic; every entry that was acknowledged must be there, once.
    pub fn stop(self, cluster: &Cluster, what: &str) -> (Report, Written) {
        let (reads, writes) = (self.reads.stop(), self.writes.stop());
        println!(
            "guestbook, {what}: {} reads, {} failed; {} writes, {} failed",
            reads.requests,
            reads.failures.len(),
            writes.acknowledged.len() + writes.failures.len(),
            writes.failures.len()
        );
        let (_, keys) = read(cluster);
        for key in &writes.acknowledged {
            assert_eq!(keys.get(key), Some(&1), "{what}: how often the acknowledged entry {key} is there");
        }
        (reads, writes)
    }
}

pub fn the_guestbook_survives_updates_and_lost_nodes(cluster: &Cluster) {
    deploy(cluster);
    updates_lose_no_request(cluster);
    // Redis is pinned to the first node; the others may go, one at a time.
    for number in [2, 3] {
        a_node_dies(cluster, &format!("{}-node-{number}", cluster.name));
    }
    nothing_restarted(cluster);
    remove(cluster);
    cluster.machines.untag(NEWER);
}

/// Takes it away again.
pub fn remove(cluster: &Cluster) {
    kubectl(cluster, &["delete", "namespace", "guestbook", "--timeout=120s"]);
    cluster.kubectl(&["label", "node", &format!("{}-node-1", cluster.name), "guestbook-data-"]);
}

/// No probe and no crash has restarted a container on the node that was never killed.
pub fn nothing_restarted(cluster: &Cluster) {
    for pod in ["redis", "api", "web"].iter().flat_map(|tier| pods(cluster, tier)) {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        let survivor = pod["spec"]["nodeName"] == format!("{}-node-1", cluster.name);
        assert!(!survivor || *restarts == 0, "{} restarted {restarts} times", pod["metadata"]["name"]);
    }
}

pub fn deploy(cluster: &Cluster) {
    cluster.nodes_ready(3);
    let images = Command::new(directory().join("images.sh")).output().expect("the image script starts");
    assert!(images.status.success(), "images.sh: {}", String::from_utf8_lossy(&images.stderr));
    cluster.machines.bring(&["guestbook-nginx:1.22", "guestbook-python:3.11", "guestbook-redis:7.0"]);
    cluster.kubectl(&[
        "label",
        "--overwrite",
        "node",
        &format!("{}-node-1", cluster.name),
        "guestbook-data=here",
    ]);
    let directory = directory();
    let printed = cluster.kubectl(&["apply", "-k", directory.to_str().expect("UTF-8")]);
    assert!(printed.contains("deployment.apps/redis created"), "{printed}");
    for tier in ["redis", "api", "web"] {
        rolled_out(cluster, tier);
    }
    let address = gateway(cluster);
    eventually("the page is served", || match exchange(address, "GET", "/guestbook/", "", "") {
        Ok((200, body)) if body.contains("guestbook.js") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // The same key twice is one entry.
    sign(address, "first").expect("the first entry is stored");
    sign(address, "first").expect("repeating it is no error");
    let (book, keys) = read(cluster);
    assert_eq!(keys.get("first"), Some(&1), "{book}");
    assert_eq!(book["title"], "Warren guestbook", "the ConfigMap's title");
    let (status, body) = exchange(address, "POST", ENTRIES, "", "{}").expect("the gateway answers");
    assert_eq!((status, body.contains("name: a text is required")), (400, true), "{body}");
    // Without the Secret's password, Redis gives nothing away.
    let pod = pods(cluster, "redis").remove(0);
    let redis = cluster.container(&pod, "redis");
    let refused = cluster.docker_of(&pod, &["exec", "-e", "REDISCLI_AUTH=", &redis, "redis-cli", "ping"]);
    assert!(refused.contains("NOAUTH"), "{refused}");
}

/// Each tier in turn; Redis, too: it is away for a moment, and requests wait for it.
fn updates_lose_no_request(cluster: &Cluster) {
    cluster.machines.tag("guestbook-nginx:1.22", NEWER);
    for (tier, change) in [
        ("web", &["set", "image", "deployment/web", &format!("nginx={NEWER}")][..]),
        ("api", &["set", "env", "deployment/api", "VERSION=2"]),
        ("redis", &["rollout", "restart", "deployment/redis"]),
    ] {
        let traffic = Traffic::start(cluster, &format!("update-{tier}"));
        kubectl(cluster, change);
        rolled_out(cluster, tier);
        let replicas = if tier == "redis" { 1 } else { 3 };
        eventually("the old pods are gone", || match pods(cluster, tier).len() {
            count if count == replicas => Ok(()),
            count => Err(format!("{count} of {replicas} pods")),
        });
        traffic.more();
        nothing_restarted(cluster);
        let (reads, writes) = traffic.stop(cluster, &format!("update of {tier}"));
        reads.assert_flawless();
        assert!(writes.failures.is_empty(), "update of {tier}: {:?}", writes.failures.first());
    }
    assert_eq!(read(cluster).0["version"], "2", "the new environment is in force");
    for pod in pods(cluster, "web") {
        assert_eq!(pod["spec"]["containers"][0]["image"], NEWER);
    }
}

fn a_node_dies(cluster: &Cluster, node: &str) {
    let (_, before) = read(cluster);
    let traffic = Traffic::start(cluster, node);
    let killed = Instant::now();
    cluster.machines.kill(node);
    eventually("replacements run elsewhere", || {
        let elsewhere = |tier| {
            let counts = |pod: &&Value| pod["spec"]["nodeName"] != node && condition(pod, "Ready") == "True";
            pods(cluster, tier).iter().filter(counts).count()
        };
        let (web, api) = (elsewhere("web"), elsewhere("api"));
        if web >= 3 && api >= 3 {
            Ok(())
        } else {
            Err(format!("{web} and {api} of 3 pods are ready elsewhere"))
        }
    });
    traffic.more();
    let (reads, writes) = traffic.stop(cluster, &format!("loss of {node}"));
    for (what, failures) in [("read", &reads.failures), ("write", &writes.failures)] {
        if let Some((at, failure)) = failures.last() {
            let after = at.duration_since(killed);
            println!("  the last failed {what} {:.1} s after the kill: {failure}", after.as_secs_f64());
            assert!(
                after <= HEALTH_INTERVAL,
                "the last failed {what} came {after:?} after the kill: {failure}"
            );
        }
    }
    let (_, after) = read(cluster);
    assert!(before.keys().all(|key| after.contains_key(key)), "entries were lost with {node}");
    cluster.machines.start(node);
    cluster.nodes_ready(3);
}
