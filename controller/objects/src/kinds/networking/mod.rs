//! The group `networking.k8s.io`: ways into the cluster, and within it.

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use super::Entry;

pub(super) const KINDS: &[Entry] =
    &[ingress_class::ENTRY, ingress::ENTRY, ip_address::ENTRY, network_policy::ENTRY, service_cidr::ENTRY];
