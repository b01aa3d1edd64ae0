//! The group `coordination.k8s.io`: who holds what. The leases of the nodes are derived from their heartbeats.

mod lease;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[lease::ENTRY];
