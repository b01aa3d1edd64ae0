//! The group `coordination.k8s.io`: who holds what. The leases of the nodes are derived from their heartbeats.

mod lease;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[lease::ENTRY];
