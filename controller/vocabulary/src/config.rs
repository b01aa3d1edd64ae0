//! The cluster's addresses and domain.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The cluster's addresses and domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// All members' slices.
    pub cluster_cidr: Ipv4Net,
    /// All service addresses.
    pub service_cidr: Ipv4Net,
    /// Where every node's DNS server listens.
    pub dns_address: Ipv4Addr,
    /// The DNS suffix.
    pub domain: String,
    /// The certificates (PEM) by which clients in pods know the API; every namespace gets them. Empty: none does.
    pub ca_pem: String,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            cluster_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 42, 0, 0), 16),
            service_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 43, 0, 0), 16),
            dns_address: Ipv4Addr::new(10, 43, 0, 10),
            domain: "cluster.local".to_owned(),
            ca_pem: String::new(),
        }
    }
}
