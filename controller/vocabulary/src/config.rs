//! The cluster's addresses and domain.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use warren_proto::vocabulary::PodCidr;

/// The addresses that a cluster hands out; decided when it is founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Networks {
    cluster: Ipv4Net,
    services: Ipv4Net,
    node_prefix: u8,
}

/// [`Networks`] as the store keeps them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    cluster_network: Ipv4Net,
    service_network: Ipv4Net,
    node_network_prefix: u8,
}

/// Why networks cannot be a cluster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworksError {
    /// Bits are set behind the prefix.
    #[error("the {what} network {net} is no network address: write {}", net.trunc())]
    Host {
        /// "cluster" or "service".
        what: &'static str,
        /// As given.
        net: Ipv4Net,
    },
    /// It is too large or too small.
    #[error("the {what} network {net} must have a prefix from /{least} to /{most}")]
    Size {
        /// "cluster" or "service".
        what: &'static str,
        /// As given.
        net: Ipv4Net,
        /// The shortest prefix.
        least: u8,
        /// The longest prefix.
        most: u8,
    },
    /// Its addresses have another meaning.
    #[error(
        "the {what} network {net} has addresses that lead to no machine of a network (loopback, link-local, multicast)"
    )]
    Unusable {
        /// "cluster" or "service".
        what: &'static str,
        /// As given.
        net: Ipv4Net,
    },
    /// A packet could be meant for either.
    #[error("the cluster network {cluster} and the service network {services} overlap")]
    Overlap {
        /// The cluster network.
        cluster: Ipv4Net,
        /// The service network.
        services: Ipv4Net,
    },
    /// No slice of this size is a node's.
    #[error("a node's network is a /{} to a /{}, not a /{prefix}", PodCidr::PREFIXES.start(), PodCidr::PREFIXES.end())]
    NodePrefix {
        /// As given.
        prefix: u8,
    },
    /// No member has the first slice.
    #[error(
        "the cluster network {cluster} holds no two networks of nodes (/{node_prefix}), of which the first is left free"
    )]
    TooSmall {
        /// The cluster network.
        cluster: Ipv4Net,
        /// The prefix of a node's.
        node_prefix: u8,
    },
}

impl Networks {
    /// The prefixes that a cluster network may have.
    const CLUSTER: (u8, u8) = (8, 27);
    /// The prefixes that a service network may have: up to a million services, as on Kubernetes.
    const SERVICES: (u8, u8) = (12, 24);

    /// Checks the networks, each by itself and against each other.
    ///
    /// # Errors
    /// When they cannot be a cluster's; the text says which and why.
    pub fn new(cluster: Ipv4Net, services: Ipv4Net, node_prefix: u8) -> Result<Self, NetworksError> {
        if !PodCidr::PREFIXES.contains(&node_prefix) {
            return Err(NetworksError::NodePrefix { prefix: node_prefix });
        }
        check("cluster", cluster, Self::CLUSTER)?;
        check("service", services, Self::SERVICES)?;
        if overlap(cluster, services) {
            return Err(NetworksError::Overlap { cluster, services });
        }
        if cluster.prefix_len() >= node_prefix {
            return Err(NetworksError::TooSmall { cluster, node_prefix });
        }
        Ok(Self { cluster, services, node_prefix })
    }

    /// All members' slices.
    pub fn cluster(&self) -> Ipv4Net {
        self.cluster
    }
    /// All service addresses.
    pub fn services(&self) -> Ipv4Net {
        self.services
    }
    /// The prefix length of one member's slice.
    pub fn node_prefix(&self) -> u8 {
        self.node_prefix
    }
    /// How many members there can be.
    pub fn members(&self) -> u32 {
        members(self.cluster, self.node_prefix)
    }
    /// Where every node's DNS server listens.
    pub fn dns_address(&self) -> Ipv4Addr {
        dns_address(self.services)
    }
}

/// Where the DNS servers of a cluster with this service network listen: at its tenth address.
pub fn dns_address(services: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(services.network()).saturating_add(10))
}

/// Whether a packet could be meant for either network.
pub fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

fn members(cluster: Ipv4Net, node_prefix: u8) -> u32 {
    let slices = 1_u32.checked_shl(u32::from(node_prefix.saturating_sub(cluster.prefix_len())));
    slices.map_or(0, |slices| slices - 1)
}

fn check(what: &'static str, net: Ipv4Net, (least, most): (u8, u8)) -> Result<(), NetworksError> {
    if net.trunc() != net {
        return Err(NetworksError::Host { what, net });
    }
    if !(least..=most).contains(&net.prefix_len()) {
        return Err(NetworksError::Size { what, net, least, most });
    }
    let first = net.network();
    let reserved = first.octets()[0] == 0 || first.octets()[0] >= 224;
    let link_local = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);
    if reserved || first.is_loopback() || net.contains(&link_local) || link_local.contains(&net) {
        return Err(NetworksError::Unusable { what, net });
    }
    Ok(())
}

impl Default for Networks {
    fn default() -> Self {
        Self {
            cluster: Ipv4Net::new_assert(Ipv4Addr::new(10, 42, 0, 0), 16),
            services: Ipv4Net::new_assert(Ipv4Addr::new(10, 43, 0, 0), 16),
            node_prefix: 24,
        }
    }
}

impl TryFrom<Stored> for Networks {
    type Error = NetworksError;
    fn try_from(stored: Stored) -> Result<Self, NetworksError> {
        Self::new(stored.cluster_network, stored.service_network, stored.node_network_prefix)
    }
}

impl From<Networks> for Stored {
    fn from(networks: Networks) -> Self {
        Self {
            cluster_network: networks.cluster,
            service_network: networks.services,
            node_network_prefix: networks.node_prefix,
        }
    }
}

/// The cluster's addresses and domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// All members' slices.
    pub cluster_cidr: Ipv4Net,
    /// The prefix length of one member's slice.
    pub node_prefix: u8,
    /// All service addresses.
    pub service_cidr: Ipv4Net,
    /// Where every node's DNS server listens.
    pub dns_address: Ipv4Addr,
    /// The DNS suffix.
    pub domain: String,
    /// The certificates (PEM) by which clients in pods know the API; every namespace gets them. Empty: none does.
    pub ca_pem: String,
}

impl ClusterConfig {
    /// A cluster with these networks.
    pub fn of(networks: Networks) -> Self {
        Self {
            cluster_cidr: networks.cluster(),
            node_prefix: networks.node_prefix(),
            service_cidr: networks.services(),
            dns_address: networks.dns_address(),
            domain: "cluster.local".to_owned(),
            ca_pem: String::new(),
        }
    }

    /// How many members there can be.
    pub fn members(&self) -> u32 {
        members(self.cluster_cidr, self.node_prefix)
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self::of(Networks::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(cluster: &str, services: &str, prefix: u8) -> Result<Networks, String> {
        let net = |text: &str| text.parse().expect("a network");
        Networks::new(net(cluster), net(services), prefix).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_pass_their_own_check() {
        let default = Networks::default();
        assert_eq!(Networks::new(default.cluster(), default.services(), default.node_prefix()), Ok(default));
        assert_eq!((default.members(), default.dns_address().to_string()), (255, "10.43.0.10".to_owned()));
    }

    #[test]
    fn more_members_come_by_a_larger_network_or_smaller_slices() {
        let members = |cluster, prefix| networks(cluster, "10.43.0.0/16", prefix).expect("fit").members();
        assert_eq!(members("10.64.0.0/11", 24), 8_191);
        assert_eq!(members("10.48.0.0/12", 25), 8_191);
        assert_eq!(members("10.42.0.0/16", 28), 4_095);
    }

    #[test]
    fn a_bad_network_is_named_with_its_fault() {
        for (cluster, services, prefix, said) in [
            ("10.42.0.1/16", "10.43.0.0/16", 24, "write 10.42.0.0/16"),
            ("10.42.0.0/16", "10.43.1.0/16", 24, "the service network 10.43.1.0/16 is no network address"),
            ("10.0.0.0/7", "192.168.0.0/16", 24, "from /8 to /27"),
            ("10.42.0.0/16", "10.43.0.0/25", 24, "from /12 to /24"),
            ("10.32.0.0/12", "10.43.0.0/16", 24, "overlap"),
            ("10.43.128.0/17", "10.43.0.0/16", 24, "overlap"),
            ("10.42.0.0/16", "10.43.0.0/16", 19, "a /20 to a /28, not a /19"),
            ("10.42.0.0/16", "10.43.0.0/16", 29, "a /20 to a /28, not a /29"),
            ("10.42.0.0/24", "10.43.0.0/16", 24, "holds no two"),
            ("127.0.0.0/8", "10.43.0.0/16", 24, "loopback"),
            ("169.254.0.0/16", "10.43.0.0/16", 24, "link-local"),
            ("10.42.0.0/16", "224.0.0.0/16", 24, "multicast"),
        ] {
            let error = networks(cluster, services, prefix).expect_err(cluster);
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn networks_survive_the_store(octet in 1u8..=200, length in 8u8..=27, prefix in 0u8..=32) {
            let cluster = Ipv4Net::new_assert(Ipv4Addr::new(octet, 64, 0, 0), length).trunc();
            let services = Ipv4Net::new_assert(Ipv4Addr::new(201, 0, 0, 0), 16);
            if let Ok(networks) = Networks::new(cluster, services, prefix) {
                let stored = serde_json::to_value(networks).expect("JSON");
                prop_assert_eq!(serde_json::from_value::<Networks>(stored).expect("the same"), networks);
                prop_assert!(networks.members() > 0);
            }
        }
    }
}
