//! A node that nobody can connect to: streams go through connections that its agent has opened.

use warren_tests::{
    cluster::{Cluster, kubectl_versions},
    succeed,
};

use super::{commands, forward, hands::Hands, logs, ready, remove};

/// As a router with NAT does it: only what answers to the node's own packets comes in.
const NAT: &str = "add table inet e2e_nat
add chain inet e2e_nat input { type filter hook input priority -300; policy accept; }
add rule inet e2e_nat input iifname \"eth0\" ct state established,related accept
add rule inet e2e_nat input iifname \"eth0\" counter drop
";

/// A node's network namespace, behind our NAT.
struct Closed<'a> {
    cluster: &'a Cluster,
    node: &'a str,
}

impl<'a> Closed<'a> {
    fn new(cluster: &'a Cluster, node: &'a str) -> Self {
        let closed = Self { cluster, node };
        succeed(closed.cluster.machines.command(node, "nft").arg(NAT));
        closed
    }

    /// Addresses and ports on which anything in this namespace takes TCP connections.
    fn listeners(&self) -> Vec<String> {
        let mut tables = self.cluster.machines.command(self.node, "cat");
        let tables = succeed(tables.args(["/proc/net/tcp", "/proc/net/tcp6"]));
        let listening = tables.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(3) == Some(&"0A")).then(|| words[1].to_owned())
        });
        listening.collect()
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let mut nft = self.cluster.machines.command(self.node, "nft");
        let _ = nft.arg("delete table inet e2e_nat").output();
    }
}

/// Whether an address as /proc/net/tcp writes it is of the machine itself (127/8, ::1) or of the overlay (10.42/16, and
/// 10.43/16 for the names).
fn is_inside(listener: &str) -> bool {
    let address = listener.split(':').next().unwrap_or_default();
    // Little-endian words.
    match address.len() {
        8 => address.ends_with("7F") || address.ends_with("2A0A") || address.ends_with("2B0A"),
        _ => address == "00000000000000000000000001000000",
    }
}

pub fn a_node_that_accepts_no_connection_serves_streams(cluster: &Cluster) {
    ready(cluster);
    let nodes: Vec<String> = ["hands", "teller"]
        .iter()
        .map(|pod| cluster.get(&["pod", pod]))
        .chain(cluster.items(&["pods", "-l", "app=forwarded"]))
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned())
        .collect();
    let distinct: std::collections::BTreeSet<&String> = nodes.iter().collect();
    let closed: Vec<Closed<'_>> = distinct.into_iter().map(|node| Closed::new(cluster, node)).collect();
    for space in &closed {
        let outside: Vec<_> = space.listeners().into_iter().filter(|found| !is_inside(found)).collect();
        assert!(outside.is_empty(), "a node listens on {outside:?}");
    }
    let mut failures = Vec::new();
    for (version, kubectl) in kubectl_versions() {
        let hands = Hands::new(cluster, &kubectl, &version);
        let checks = [
            ("exec", commands::exec as super::Check),
            ("cp", commands::copy_directory),
            ("attach", commands::attach),
            ("port-forward", forward::half_close),
            ("logs", logs::follow),
        ];
        for (name, check) in checks {
            if let Err(why) = check(&hands) {
                failures.push(format!("{name} by {version}: {why}"));
            }
        }
    }
    drop(closed);
    remove(cluster);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
