//! What the agent decides, and nothing of how it is done.
//!
//! [`plan`] compares the instructions of the controller with what runs, and answers with the next actions.
//! It is synchronous and pure: the clock is an argument, and everything that a decision rests on is in
//! [`ObservedPods`], most of it read back from the engine (labels carry attempt and crash streak) or from what was kept of
//! what the engine once held ([`past`]), so that a restarted agent decides as its predecessor would have.

pub mod backoff;
pub mod events;
pub mod model;
pub mod past;
mod pod;
pub mod probes;
#[cfg(test)]
mod properties;
pub mod status;
#[cfg(test)]
mod tables;
pub mod tokens;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use past::Past;
pub use pod::wants;

pub use model::{
    Action, Desired, Exit, Failure, Image, ImageState, Instance, Kind, Memory, ObservedPods, Phase, Planned,
    Pod, Slot, Stopping, Why,
};

/// What to do next, and when to look again though nothing happened.
#[derive(Debug, Default)]
pub struct Plan {
    /// In an order that may be kept, but need not: actions of one plan do not depend on each other.
    pub actions: Vec<Planned>,
    /// The earliest moment at which the plan would differ without any change in the world.
    pub wake_at: Option<Timestamp>,
    /// Pods that were to go and of which nothing is left.
    pub gone: BTreeSet<String>,
}

/// Plans the next actions for every pod that is wanted or exists.
pub fn plan(desired: &Desired, observed: &ObservedPods, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let nothing = Pod::default();
    let uids: BTreeSet<&String> = desired.pods.keys().chain(observed.pods.keys()).collect();
    for uid in uids {
        if desired.held.contains(uid) {
            continue;
        }
        let pod = observed.pods.get(uid).unwrap_or(&nothing);
        let instruction = desired.pods.get(uid).map(AsRef::as_ref);
        let outcome = pod::plan(instruction, pod, now);
        plan.actions.extend(outcome.actions.into_iter().map(|action| Planned { uid: uid.clone(), action }));
        plan.wake_at = earliest(plan.wake_at, outcome.wake_at);
        if outcome.gone {
            plan.gone.insert(uid.clone());
        }
    }
    plan
}

/// The earlier of two moments, where none is never.
pub(crate) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
