//! The group `networking.k8s.io`: ways into the cluster, and within it.

mod ingress;
mod ingress_class;
mod network_policy;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[ingress_class::ENTRY, ingress::ENTRY, network_policy::ENTRY];
