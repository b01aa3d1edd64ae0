//! What should happen next: every decision of the controller, as pure functions.
//!
//! ```text
//!  World (snapshot, liveness, acknowledgements) + now ──► Planner ──► Plan { steps, problems, wake_at }
//!      what differs from the last one: views advance, keys are touched
//!                                                           │
//!    stateful_set  daemon_set
//!    deployment ─► replicaset ─► schedule ─► (node) ─► endpoints ─► termination    node_lifecycle  garbage  disruption  quota  idle
//!    cron_job ───► job ──────────┘
//!    autoscale ─► (the size of any of these)
//! ```
//!
//! Each planner answers one question over the same immutable snapshot and knows nothing of the others: they
//! meet in the store. A step is a compare-and-swap transaction that carries the revisions it was planned
//! from; one that fails is dropped and planned anew, so that a replay creates nothing twice. Children are named by
//! what they belong to; pods also by the revision that their plan was made from, for no name may come back. An object
//! that a planner fails on is left out and named ([`Failure`]), whatever the fault. Every step passes the gate for
//! writes; what that refuses comes back ([`RefusedWrite`]), is told at the object, and is not tried again at once. There is
//! no clock, randomness or I/O here: time is an argument.

pub mod node_lifecycle;

mod autoscale;
mod cluster_roles;
mod cron_job;
mod daemon_set;
mod deadline;
mod deployment;
mod disruption;
mod endpoints;
mod events;
mod failures;
mod garbage;
mod history;
mod idle;
mod indexes;
pub mod ingress;
mod job;
mod memory;
mod namespaces;
mod object;
mod outcome;
mod planner;
mod pods;
mod quota;
mod replicaset;
mod root_certificates;
mod schedule;
mod selector;
mod sets;
mod stages;
mod stateful_set;
mod termination;
mod touch;
mod usage;
mod view;

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use jiff::Timestamp;
use warren_state::{Key, Object, Snapshot, Transaction};
use warren_vocabulary::{
    ClusterConfig,
    guard::{Failure, Unwatched},
};

pub use autoscale::ScalingRecord;
pub use node_lifecycle::health;
pub use planner::Planner;
pub use schedule::explain::{
    Explanation, Lack, NodeVerdict, Preemption, Refusal, Score, Verdict, Wait, explain,
};
pub use usage::{Answered, Answers, NodeUsage, Traffic, Usage, maker};
pub use warren_vocabulary::Health;

/// What the controller heard from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Since the agent's last heartbeat, or since the term that a starting controller grants.
    pub silent_for: Duration,
    /// netd's feed is connected and has been acknowledged once.
    pub network_ready: bool,
}

/// Everything that a decision may depend on, besides the time.
#[derive(Clone, Default)]
pub struct World {
    /// The state.
    pub snapshot: Arc<Snapshot>,
    /// Addresses and domain.
    pub config: ClusterConfig,
    /// By node name. A node that is not mentioned is taken to be alive, and keeps its conditions.
    pub nodes: BTreeMap<String, Liveness>,
    /// Every live gateway and netd has this store revision in force.
    pub acknowledged: u64,
    /// Pod addresses by the revision of the commit that removed their last pod.
    pub released: BTreeMap<Ipv4Addr, u64>,
    /// Since which revision `released` is complete. What was released before is unknown, so every other free
    /// address counts as released then.
    pub released_since: u64,
    /// Objects that an operator has set aside: the snapshot lacks them and nothing is planned for them, but they
    /// exist. Their names and addresses are taken, what they own is kept, and their namespaces are not empty.
    pub quarantined: Vec<Arc<Object>>,
    /// What could not be compiled for the members; it is told at the objects.
    pub failures: Vec<Failure>,
    /// Writes of earlier plans that were refused, by the object that they were planned for.
    pub refusals: BTreeMap<Key, Vec<RefusedWrite>>,
    /// What pods use and what services are asked, as members told last.
    pub usage: Usage,
    /// What the autoscalers remember: [`Plan::scaling_records`] of earlier plans, each of them the latest.
    pub scaling_records: BTreeMap<Key, Arc<ScalingRecord>>,
}

/// A write of an earlier plan that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedWrite {
    /// Which planner wanted it: [`Step::planner`].
    pub planner: &'static str,
    /// What was to be written. The name of what was to be made is empty, for the next one may have another.
    pub what: Key,
    /// Why it was refused.
    pub message: String,
    /// It is not tried again before this time.
    pub until: Timestamp,
}

impl World {
    /// Why nothing of a resource could be made for an object, if it was refused the last time.
    pub(crate) fn refused(&self, about: &Key, resource: &str) -> Option<&RefusedWrite> {
        let made =
            |refused: &&RefusedWrite| refused.what.name.is_empty() && &*refused.what.resource == resource;
        self.refusals.get(about)?.iter().find(made)
    }

    /// Whether an object of this key exists, set aside or not.
    pub(crate) fn exists(&self, key: &Key) -> bool {
        self.snapshot.get(key).is_some() || self.quarantined.iter().any(|object| object.key == *key)
    }
}

/// One atomic change and its reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which planner wants it.
    pub planner: &'static str,
    /// For which object.
    pub about: Key,
    /// For the log: "scale default/web-5d4f to 3".
    pub why: String,
    /// What to commit.
    pub transaction: Transaction,
}

/// Something that a person should know and no step can mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// About which object.
    pub key: Key,
    /// What is wrong, and how to mend it.
    pub message: String,
}

/// What to do next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// To be committed in this order; independent of each other.
    pub steps: Vec<Step>,
    /// To be logged and shown.
    pub problems: Vec<Problem>,
    /// Objects that the planners failed on: a fault of ours. They were left alone.
    pub failures: Vec<Failure>,
    /// When to plan again if nothing changes before.
    pub wake_at: Option<Timestamp>,
    /// What the autoscalers that looked remember, to be given back with the next world.
    pub scaling_records: BTreeMap<Key, Arc<ScalingRecord>>,
}

/// The plan for a whole world, made from nothing: what a [`Planner`] that has seen every world before comes to, too.
///
/// No two steps of a plan write the same object: the later planner's step is left out, and comes with the
/// plan that follows the earlier one's commit.
pub fn plan(world: &World, now: Timestamp) -> Plan {
    Planner::default().plan(world, now, &Unwatched)
}
