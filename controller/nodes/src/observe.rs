//! What planners and people may know about members: liveness, acknowledgements, the overlay.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use warren_plan::Liveness;
use warren_proto::control::{Consumer, PeerReport, Role};
use warren_store::{CommitError, Transaction};
use warren_vocabulary::member::{Member, MemberRole};
use warren_write::Author;

use crate::{
    Nodes,
    cursors::Cursors,
    identity::{self, consumers, role_of},
    leases::Leases,
    writes::WriteError,
};

/// How long members may take to find a restarted controller: their back-off, and a connection.
const STARTING: Duration = Duration::from_secs(5);

/// What planners need to know besides the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Of every member that runs pods, by node name.
    pub nodes: BTreeMap<String, Liveness>,
    /// Every live gateway and netd has this store revision in force.
    pub acknowledged: u64,
}

/// Leases and cursors at one moment.
struct LivenessSnapshot<'a> {
    leases: &'a Leases,
    cursors: &'a Cursors,
    /// How long this controller has been running.
    running: Duration,
    now: Instant,
}

impl LivenessSnapshot<'_> {
    fn liveness(&self, member: &Member) -> Liveness {
        Liveness {
            silent_for: self.leases.silent_for(&member.name, Consumer::Agent, self.now),
            network_ready: self.network_ready(member),
        }
    }

    /// netd's feed is connected and was acknowledged once. A reconnect of up to ten seconds does not count, nor
    /// does the way to the first acknowledgement after this controller started, where the tunnel was up before.
    fn network_ready(&self, member: &Member) -> bool {
        let netd = (member.name.clone(), Consumer::Netd);
        let term = self.running < warren_vocabulary::health::LOST_AFTER && member.public_key.is_some();
        self.cursors.ready(&netd, self.now) || (term && !self.cursors.ever_ready(&netd))
    }

    /// The minimum over consumers that carry traffic and are alive. Those that a starting controller has not met
    /// yet hold it back for a moment: they are about to reconnect.
    fn acknowledged(&self, members: &[Arc<Member>]) -> u64 {
        let traffic = members.iter().flat_map(|member| {
            let kinds = consumers(role_of(member)).iter().filter(|consumer| **consumer != Consumer::Agent);
            kinds.map(|consumer| (member.name.clone(), *consumer))
        });
        let live: Vec<_> =
            traffic.filter(|(member, consumer)| self.leases.alive(member, *consumer, self.now)).collect();
        let starting = self.running < STARTING;
        if starting && live.iter().any(|subscriber| !self.cursors.known(subscriber)) {
            return 0;
        }
        self.cursors.acknowledged(live, self.now)
    }
}

impl Nodes {
    /// Liveness and acknowledgements, now.
    pub fn observe(&self) -> Observed {
        let now = Instant::now();
        self.forgive_stall(now);
        let snapshot = self.store.snapshot();
        let members: Vec<_> = identity::members(&snapshot).collect();
        // Always in this order.
        let (leases, cursors) = (self.leases.lock(), self.cursors.lock());
        let view = LivenessSnapshot {
            leases: &leases,
            cursors: &cursors,
            running: now.saturating_duration_since(self.started),
            now,
        };
        let nodes = members.iter().filter(|member| member.role == MemberRole::Node);
        Observed {
            nodes: nodes.map(|member| (member.name.clone(), view.liveness(member))).collect(),
            acknowledged: view.acknowledged(&members),
        }
    }

    /// Grants everyone a whole term when this process stood still.
    pub(crate) fn forgive_stall(&self, now: Instant) {
        if let Some(gap) = self.leases.lock().forgive(now) {
            metrics::counter!("warren_nodes_own_stalls_total").increment(1);
            tracing::warn!(
                seconds = gap.as_secs_f64(),
                "the controller itself stood still; every member gets a whole term"
            );
        }
    }

    /// The overlay as `warren status` shows it: members, their processes, their tunnels and peers.
    pub fn network_status(&self) -> Value {
        let now = Instant::now();
        let snapshot = self.store.snapshot();
        let members: Vec<_> =
            identity::members(&snapshot).map(|member| self.member_status(&member, now)).collect();
        let networks = json!({
            "cluster": self.config.cluster_cidr,
            "nodePrefix": self.config.node_prefix,
            "services": self.config.service_cidr,
        });
        let acknowledged = self.observe().acknowledged;
        json!({"revision": snapshot.revision, "acknowledged": acknowledged, "networks": networks, "members": members})
    }

    fn member_status(&self, member: &Member, now: Instant) -> Value {
        let role = role_of(member);
        let mut processes = serde_json::Map::new();
        for consumer in consumers(role) {
            let subscriber = (member.name.clone(), *consumer);
            let silent = self.leases.lock().silent_for(&member.name, *consumer, now);
            let heard = self.leases.lock().heard(&member.name, *consumer);
            let cursors = self.cursors.lock();
            let state = json!({
                "connected": cursors.connected(&subscriber),
                "applied": cursors.applied(&subscriber),
                "silentMillis": heard.then_some(millis(silent)),
            });
            processes.insert(process_name(*consumer).into(), state);
        }
        let tunnel = self.networks.lock().get(&member.name).cloned();
        json!({
            "name": member.name,
            "role": if role == Role::Node { "node" } else { "gateway" },
            "podCidr": member.pod_cidr.to_string(),
            "address": member.pod_cidr.member_address().to_string(),
            "publicKey": member.public_key,
            "endpoint": member.endpoint,
            "backend": member.backend,
            "mtu": member.mtu,
            "processes": processes,
            "reportedMillisAgo": tunnel.as_ref().map(|tunnel| millis(now.saturating_duration_since(tunnel.reported))),
            "peers": tunnel.map(|tunnel| tunnel.peers.iter().map(peer_status).collect::<Vec<_>>()).unwrap_or_default(),
        })
    }

    /// Removes a member, so that its certificate opens nothing any more and its name can join again. For a node
    /// the Node object goes too. Whether there was such a member.
    pub async fn remove_member(&self, name: &str) -> Result<bool, WriteError> {
        loop {
            let snapshot = self.store.snapshot();
            let node = warren_store::Key::new(warren_vocabulary::resources::NODES, "", name);
            let Some(member) = snapshot.get(&Member::key(name)) else { return Ok(false) };
            let mut transaction = Transaction::new().delete(member.key.clone(), member.revision);
            if let Some(node) = snapshot.get(&node) {
                transaction = transaction.delete(node.key.clone(), node.revision);
            }
            match self.writer.commit(Author::controller("membership"), &snapshot, transaction).await {
                Err(WriteError::Store(CommitError::Conflict(_))) => {}
                outcome => {
                    // Now, and not when the change is compiled.
                    self.calls.end_strangers(&self.store.snapshot());
                    return outcome.map(|_| true);
                }
            }
        }
    }
}

fn process_name(consumer: Consumer) -> &'static str {
    match consumer {
        Consumer::Agent => "agent",
        Consumer::Netd => "netd",
        Consumer::Gateway => "gateway",
        Consumer::Unspecified => "unknown",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn peer_status(peer: &PeerReport) -> Value {
    json!({
        "name": peer.name,
        "endpoint": peer.endpoint,
        "handshakeAgeSeconds": peer.handshake_age_seconds,
        "receivedBytes": peer.received_bytes,
        "sentBytes": peer.sent_bytes,
        "roundTripMicros": peer.round_trip_micros,
    })
}
