//! The group `apps`: what keeps pods running.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[
    controller_revision::ENTRY,
    daemon_set::ENTRY,
    deployment::ENTRY,
    replica_set::ENTRY,
    stateful_set::ENTRY,
];
