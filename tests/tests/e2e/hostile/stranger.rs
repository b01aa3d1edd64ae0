//! A machine on the cluster's bridge that belongs to nobody: a network namespace with an address there, and routes to
//! the overlay's networks through a node.

use std::{fs::File, net::Ipv4Addr, process::Command, sync::Arc, thread::JoinHandle};

use nix::sched::{CloneFlags, setns};
use warren_tests::{cluster::Cluster, succeed};

use super::{Siege, attackers::Targets};

/// Nodes lie in the same /24 as the bridge.
const PREFIX: u8 = 24;
const LAST_OCTET: u8 = 250;

/// Goes, with its link, when dropped.
pub(super) struct Stranger {
    namespace: String,
    link: String,
}

impl Stranger {
    pub(super) fn beside(cluster: &Cluster) -> Self {
        let outside = cluster.machines.outside();
        let bridge: Ipv4Addr = outside.address.parse().expect("the bridge has an IPv4 address");
        let [a, b, c, _] = bridge.octets();
        let address = Ipv4Addr::new(a, b, c, LAST_OCTET);
        let (namespace, link) = (format!("{}-stranger", cluster.name), "wrntstranger".to_owned());
        let stranger = Self { namespace, link };
        stranger.clear();
        let node = cluster.machines.address(&format!("{}-node-1", cluster.name));
        let space = &stranger.namespace;
        let link = &stranger.link;
        for line in [
            format!("netns add {space}"),
            format!("link add {link} type veth peer name eth0 netns {space}"),
            format!("link set {link} master {} up", outside.bridge),
            format!("-n {space} link set lo up"),
            format!("-n {space} addr add {address}/{PREFIX} dev eth0"),
            format!("-n {space} link set eth0 up"),
            format!("-n {space} route add 10.42.0.0/16 via {node}"),
            format!("-n {space} route add 10.43.0.0/16 via {node}"),
        ] {
            succeed(Command::new("ip").args(line.split(' ')));
        }
        stranger
    }

    /// Runs an attack on a thread in this machine's network until the siege is over.
    pub(super) fn thread(
        &self,
        siege: Arc<Siege>,
        targets: Targets,
        attack: fn(&Siege, &Targets),
    ) -> JoinHandle<()> {
        let space = File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace is there");
        std::thread::spawn(move || {
            setns(&space, CloneFlags::CLONE_NEWNET).expect("this must run as root");
            attack(&siege, &targets);
        })
    }

    fn clear(&self) {
        for arguments in [["link", "del", &self.link], ["netns", "del", &self.namespace]] {
            // Whatever an interrupted run left; most often nothing.
            let _ = Command::new("ip").args(arguments).output();
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.clear();
    }
}
