//! A cluster's networks on the command line.

use clap::Args;
use ipnet::Ipv4Net;
use warren_controller::{Networks, WantedNetworks};

/// Decided when a cluster is founded; later on these may be left out, and cannot be changed.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Networks (decided when the cluster is founded)")]
pub(crate) struct NetworkOptions {
    /// The addresses of members and pods [default: 10.42.0.0/16].
    #[arg(long, value_name = "CIDR")]
    pub(crate) cluster_network: Option<Ipv4Net>,
    /// The addresses of services; names are asked for at the tenth [default: 10.43.0.0/16].
    #[arg(long, value_name = "CIDR")]
    pub(crate) service_network: Option<Ipv4Net>,
    /// The prefix of one member's part of the cluster network, from 20 to 28 [default: 24]. It decides how many
    /// addresses for pods a node has (/24: 253, /25: 125, /28: 13) and, with the cluster network, how many members there
    /// can be: 255 by default, 8,191 with --cluster-network 10.64.0.0/11.
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(20..=28))]
    pub(crate) node_network_prefix: Option<u8>,
}

impl NetworkOptions {
    pub(crate) fn wanted(self) -> WantedNetworks {
        WantedNetworks {
            cluster: self.cluster_network,
            services: self.service_network,
            node_prefix: self.node_network_prefix,
        }
    }
}

/// The networks of the cluster to join, with which a machine's own must not overlap.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct JoinedNetworks {
    /// The addresses of the cluster's members and pods, if it has others than by default: `warren token create` prints them.
    #[arg(long, value_name = "CIDR", env = "WARREN_CLUSTER_NETWORK", default_value_t = Networks::default().cluster())]
    pub(crate) cluster_network: Ipv4Net,
    /// The addresses of the cluster's services, likewise.
    #[arg(long, value_name = "CIDR", env = "WARREN_SERVICE_NETWORK", default_value_t = Networks::default().services())]
    pub(crate) service_network: Ipv4Net,
}
