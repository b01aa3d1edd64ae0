//! What each process of a cluster must be told.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{ArgAction, Args};
use ipnet::IpNet;

use super::{JoinedNetworks, NetworkOptions};
use crate::local::names::ClusterName;

#[derive(Debug, Args)]
pub(crate) struct ControllerOptions {
    /// Where the store, the CA and the administrator's kubeconfig are kept.
    #[arg(long, default_value = "/var/lib/warren/controller")]
    pub(crate) data_dir: PathBuf,
    /// The address of the one TLS port (Kubernetes API and node gRPC).
    #[arg(long, default_value = "0.0.0.0:6443")]
    pub(crate) listen: SocketAddr,
    /// Begin with the state in this backup; the data directory must hold none.
    #[arg(long, value_name = "FILE")]
    pub(crate) restore: Option<PathBuf>,
    /// Set an object aside (RESOURCE/NAMESPACE/NAME): it is kept and can be read and deleted, but nothing is done for
    /// it, and members do not learn of it. For an object at which the controller ends while it starts, as its log
    /// says; may be given several times.
    #[arg(long, value_name = "KEY", action = ArgAction::Append)]
    pub(crate) quarantine: Vec<warren_controller::Key>,
    /// A name or address under which clients reach the controller; may be given several times.
    #[arg(long, action = ArgAction::Append)]
    pub(crate) tls_san: Vec<String>,
    /// The address by which pods reach the controller [default: the one that is listened on, or that of the default route].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) advertise_address: Option<Ipv4Addr>,
    #[command(flatten)]
    pub(crate) networks: NetworkOptions,
    /// Where Prometheus metrics are served.
    #[arg(long, default_value = "127.0.0.1:9401")]
    pub(crate) metrics: SocketAddr,
}

/// What every daemon of a member needs.
#[derive(Debug, Clone, Args)]
pub(crate) struct MemberOptions {
    /// The controller, as HOST:PORT.
    #[arg(long, visible_alias = "join", env = "WARREN_CONTROLLER")]
    pub(crate) controller: String,
    /// Where the member keeps its identity, keys and last accepted state.
    #[arg(long, default_value = "/var/lib/warren/node")]
    pub(crate) state_dir: PathBuf,
}

/// What the agent alone needs; `warren node` passes it on.
#[derive(Debug, Clone, Args)]
pub(crate) struct PodOptions {
    /// The Docker engine's socket.
    #[arg(long, default_value = "/var/run/docker.sock")]
    pub(crate) docker_socket: String,
    /// The cluster's name, as containers are labelled with it.
    #[arg(long, default_value = "warren")]
    pub(crate) cluster: ClusterName,
    /// A directory under which pods' hostPath volumes lie (for nodes that are containers).
    #[arg(long)]
    pub(crate) host_path_prefix: Option<PathBuf>,
    /// The image of pod sandboxes [default: made from this binary].
    #[arg(long)]
    pub(crate) sandbox_image: Option<String>,
    /// How many processes and threads each container may have at once; 0 for any number. A pod's annotation
    /// warren.dev/pids-limit goes first.
    #[arg(long, default_value_t = 256, env = "WARREN_POD_PIDS_LIMIT")]
    pub(crate) pod_pids_limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    #[command(flatten)]
    pub(crate) member: MemberOptions,
    /// The member's name in the cluster.
    #[arg(long, env = "WARREN_NAME")]
    pub(crate) name: String,
    /// The token to join with, as `warren token create` prints it; not needed once joined.
    #[arg(long, env = "WARREN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Run a gateway instead of pods.
    #[arg(long)]
    pub(crate) gateway: bool,
    #[command(flatten)]
    pub(crate) listeners: Listeners,
    #[command(flatten)]
    pub(crate) networks: JoinedNetworks,
    #[command(flatten)]
    pub(crate) pods: PodOptions,
    /// Where Prometheus metrics of the supervisor are served.
    #[arg(long, default_value = "127.0.0.1:9400")]
    pub(crate) metrics: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct JoinOptions {
    #[command(flatten)]
    pub(crate) member: MemberOptions,
    /// The member's name in the cluster [default: this machine's].
    #[arg(long, env = "WARREN_NAME")]
    pub(crate) name: Option<String>,
    /// The token to join with, as `warren token create` prints it.
    #[arg(long, env = "WARREN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Join as a gateway.
    #[arg(long)]
    pub(crate) gateway: bool,
    /// Only look, and print what was found; exits with 1 when something forbids to join.
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) listeners: Listeners,
    #[command(flatten)]
    pub(crate) networks: JoinedNetworks,
    /// The Docker engine's socket.
    #[arg(long, default_value = "/var/run/docker.sock")]
    pub(crate) docker_socket: String,
}

/// The gateway's listeners.
#[derive(Debug, Clone, Args)]
pub(crate) struct Listeners {
    /// The address the gateway answers HTTP on.
    #[arg(long, default_value = "0.0.0.0:80")]
    pub(crate) http: SocketAddr,
    /// The address the gateway answers HTTPS on.
    #[arg(long)]
    pub(crate) https: Option<SocketAddr>,
    /// Proxies before the gateway whose X-Forwarded-*, X-Real-IP and Forwarded headers are believed; those of all other
    /// peers are replaced.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) trusted_proxies: Vec<IpNet>,
}

#[derive(Debug, Args)]
pub(crate) struct NetdOptions {
    #[command(flatten)]
    pub(crate) member: MemberOptions,
    /// The name of the overlay's interface.
    #[arg(long, default_value = "warren0")]
    pub(crate) interface: String,
    /// WireGuard's UDP port.
    #[arg(long, default_value_t = warren_proto::WIREGUARD_PORT)]
    pub(crate) port: u16,
    /// Where Prometheus metrics are served.
    #[arg(long, default_value = "127.0.0.1:9402")]
    pub(crate) metrics: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct AgentOptions {
    #[command(flatten)]
    pub(crate) member: MemberOptions,
    #[command(flatten)]
    pub(crate) pods: PodOptions,
    /// The cgroup under which pods are placed (for nodes that are containers).
    #[arg(long)]
    pub(crate) cgroup_parent: Option<String>,
    /// Where Prometheus metrics are served.
    #[arg(long, default_value = "127.0.0.1:9403")]
    pub(crate) metrics: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayOptions {
    #[command(flatten)]
    pub(crate) member: MemberOptions,
    #[command(flatten)]
    pub(crate) listeners: Listeners,
    /// How many threads serve requests [default: one per core].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Where Prometheus metrics are served.
    #[arg(long, default_value = "127.0.0.1:9404")]
    pub(crate) metrics: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct EchoOptions {
    /// The port to serve HTTP on.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
}
