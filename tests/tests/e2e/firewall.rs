//! Other people's firewalls on the nodes: Docker's FORWARD policy DROP, and reloads of all kinds.

use std::{
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use warren_tests::{bare::Bare, cluster::Cluster, eventually, machines::Machines as _, succeed, text};

/// The product's promise, for the median of [`ROUNDS`]: the machine may be busy in one of them.
const REPAIRED: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;
/// A firewall of somebody else's, as its service loads it: everything goes, and forwarding is forbidden.
const THEIRS: &str = r#"flush ruleset
table inet theirs {
    set friends { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.7 } }
    chain other { ip saddr @friends accept comment "theirs too"; }
    chain forward { type filter hook forward priority 0; policy drop; ct state established accept; jump other; }
}
table ip theirs_nat { chain postrouting { type nat hook postrouting priority 100; ip saddr 192.0.2.9 masquerade; }; }
"#;

fn prepare(cluster: &Cluster) -> Vec<(String, String)> {
    crate::engines::prepare(cluster);
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pods = cluster.items(&["pods", "-l", "app=hello"]);
    pods.iter().map(|pod| (word(&pod["spec"]["nodeName"]), word(&pod["status"]["podIP"]))).collect()
}

fn nodes(bare: &Bare) -> [String; 3] {
    ["node-1", "node-2", "node-3"].map(|role| bare.member(role))
}

/// Whether all pods answer inside of a pod of `node`, those of other nodes too.
fn reaches_all(bare: &Bare, node: &str, pods: &[(String, String)]) -> Result<(), String> {
    let id = bare.docker(node, &["ps", "-q", "--filter", "name=hello", "--filter", "label=warren.pod.uid"]);
    let id = id.lines().next().ok_or("no pod runs here")?.to_owned();
    let pid = bare.docker(node, &["inspect", "-f", "{{.State.Pid}}", &id]);
    for (_, address) in pods {
        let url = format!("http://{address}:8080/");
        let mut command = bare.command(node, "nsenter");
        command.args(["-n", "-t", &pid, "curl", "-sS", "-f", "--max-time", "3", "-o", "/dev/null", &url]);
        let output = command.output().expect("nsenter starts");
        if !output.status.success() {
            return Err(format!("from {node} to {address}: {}", text(&output)));
        }
    }
    Ok(())
}

/// Our rules in Docker's firewall, in whichever chain: an engine with live restore does not make DOCKER-USER anew
/// when it starts.
fn is_open(bare: &Bare, node: &str) -> Result<(), String> {
    let rules = bare.with(node, |machine| machine.shell("iptables -S"));
    if rules.matches("warren: ").count() == 4 { Ok(()) } else { Err(rules) }
}

pub fn pods_reach_pods_although_docker_drops(cluster: &Cluster, bare: &Bare) {
    let pods = prepare(cluster);
    for node in &nodes(bare) {
        let forward = bare.with(node, |machine| machine.shell("iptables -S FORWARD"));
        assert!(forward.contains("-P FORWARD DROP"), "Docker's own policy: {forward}");
        assert!(pods.iter().any(|(on, _)| on == node), "not spread: {pods:?}");
        eventually("pods reach pods across nodes", || reaches_all(bare, node, &pods));
    }
    // The engine restarts (its containers live on), and finds its rules flushed.
    let first = &nodes(bare)[0];
    bare.with(first, |machine| {
        machine.stop("dockerd");
        machine.shell("iptables -F && iptables -X && iptables -P FORWARD DROP");
        machine.start_engine(true);
        machine.engine_answers();
    });
    eventually("the way is open again", || is_open(bare, first));
    eventually("pods reach pods again", || reaches_all(bare, first, &pods));
}

/// Does damage and waits for its repair, several times; the median is the promise.
fn repaired(what: &str, mut damage: impl FnMut(), mut check: impl FnMut() -> Result<(), String>) {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        damage();
        let damaged = Instant::now();
        eventually(what, &mut check);
        took.push(damaged.elapsed());
    }
    let mut line = format!("{what}, ms:");
    took.iter().for_each(|took| _ = write!(line, " {}", took.as_millis()));
    println!("{line}");
    took.sort();
    assert!(took[ROUNDS / 2] <= REPAIRED, "{what}: {took:?}");
}

pub fn a_reloaded_firewall_is_repaired_at_once(cluster: &Cluster, bare: &Bare) {
    let pods = prepare(cluster);
    let [_, second, third] = &nodes(bare);
    let shell = |node: &str, line: &str| bare.with(node, |machine| machine.shell(line));
    eventually("the way is open", || is_open(bare, second));
    repaired(
        "our rules are back after a flush of DOCKER-USER",
        || _ = shell(second, "iptables -F DOCKER-USER && iptables -A DOCKER-USER -j RETURN"),
        || is_open(bare, second),
    );
    reaches_all(bare, second, &pods).expect("pods reach pods");

    // Everybody's tables go and a foreign one comes: ours come back, theirs stay as they were loaded.
    let file = bare.with(third, |machine| machine.path("theirs.nft"));
    std::fs::write(&file, THEIRS).expect("a file");
    let load = format!("nft -f {}", file.display());
    let expected =
        succeed(Command::new("unshare").args(["--net", "sh", "-c", &format!("{load} && nft list ruleset")]));
    let own = "nft -s list table ip warren 2>/dev/null || true";
    let (before, chains) = (shell(third, own), "nft list ruleset");
    assert!(before.contains("table ip warren"), "{before}");
    repaired(
        "our table and our rules are back after a reload of everything",
        || _ = shell(third, &load),
        || {
            let rules = shell(third, chains);
            let whole = rules.matches("warren: ").count() == 4 && shell(third, own).len() == before.len();
            if whole { Ok(()) } else { Err(rules) }
        },
    );
    eventually("pods reach pods", || reaches_all(bare, third, &pods));
    let theirs =
        ["inet theirs", "ip theirs_nat"].map(|table| shell(third, &format!("nft list table {table}")));
    let kept: Vec<_> =
        theirs.iter().flat_map(|text| text.lines()).filter(|line| !line.contains("warren: ")).collect();
    assert_eq!(kept, expected.lines().collect::<Vec<_>>(), "something of theirs was changed");

    // They go, and the engine sets up its own again: nothing of ours stays where it has no business.
    shell(third, "nft delete table inet theirs && nft delete table ip theirs_nat");
    bare.with(third, |machine| {
        machine.stop("dockerd");
        machine.start_engine(true);
        machine.engine_answers();
    });
    // Forwarding is on by now, so Docker leaves the policy alone; a boot would set it.
    shell(third, "iptables -P FORWARD DROP");
    eventually("the way through Docker's firewall is open", || is_open(bare, third));
    eventually("pods reach pods again", || reaches_all(bare, third, &pods));
    cluster.nodes_ready(3);
}
