//! The command line.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::{IpNet, Ipv4Net};
use warren_controller::{Networks, WantedNetworks};

use crate::local::names::ClusterName;

/// The version, the commit and its date.
pub(crate) const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("WARREN_COMMIT"),
    ", ",
    env!("WARREN_COMMIT_DATE"),
    ")"
);

/// Turns Linux machines that have Docker into one computer.
#[derive(Debug, Parser)]
#[command(name = "warren", version = VERSION, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How a process logs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// How log lines are written (to standard error).
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "WARREN_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Which events are logged: a level, or directives such as `info,warren_netd=debug`.
    #[arg(long, global = true, env = "WARREN_LOG")]
    pub(crate) log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Local(LocalCommand),
    /// Run the controller: the Kubernetes API, the planners and the nodes' feeds.
    Controller(ControllerOptions),
    /// Look whether this machine is fit to be a node (or a gateway), and join it to a cluster.
    Join(JoinOptions),
    /// Run a node (or a gateway): join the cluster, then supervise its daemons.
    Node(NodeOptions),
    /// Run the network daemon of a member (started by `warren node`).
    #[command(hide = true)]
    Netd(NetdOptions),
    /// Run the pod daemon of a node (started by `warren node`).
    #[command(hide = true)]
    Agent(AgentOptions),
    /// Run the gateway (started by `warren node --gateway`).
    #[command(hide = true)]
    Gateway(GatewayOptions),
    /// Run the who-am-I server of the demonstration.
    Echo(EchoOptions),
    /// Hold a pod's namespaces: process 1 of a sandbox.
    #[command(hide = true)]
    Pause,
    /// Print the version, the commit that this program was built from, and its date.
    Version(OutputOption),
    /// Print what a shell needs to complete warren's command lines.
    ///
    /// bash: source <(warren completion bash). zsh: warren completion zsh > a directory of $fpath/_warren.
    /// fish: warren completion fish > ~/.config/fish/completions/warren.fish.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one per command, into a directory.
    Man {
        /// The directory, which must exist (such as /usr/local/share/man/man1).
        directory: PathBuf,
    },
}

/// In which form a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputOption {
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// A span of time as people write it: `90s`, `5m`, `1h30m`, `7d`; a bare number is seconds.
///
/// # Errors
/// When it is no span of time, or a negative one; the text says what is expected.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a span of time such as 90s, 5m, 1h30m or 7d";
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    // A day is 24 hours here: tokens know no time zones.
    let span: jiff::Span = text.parse().map_err(|_| EXPECTED.to_owned())?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(relative).map_err(|_| EXPECTED.to_owned())?;
    Duration::try_from(duration).map_err(|_| EXPECTED.to_owned())
}

/// How long a join token may live.
fn token_lifetime(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);
    let lifetime = duration(text)?;
    if lifetime < Duration::from_secs(1) || lifetime > LONGEST {
        return Err("a token lives from 1s to 7d".to_owned());
    }
    Ok(lifetime)
}

/// The cluster on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum LocalCommand {
    /// Make (or complete, or restart) a cluster of containers on this machine.
    Up(UpOptions),
    /// Remove every trace of a cluster from this machine.
    Down(ClusterOption),
    /// Print a kubeconfig for the cluster's administrator.
    Kubeconfig(KubeconfigOptions),
    /// Show the cluster's nodes, pods, services and overlay.
    Status(StatusOptions),
    /// Create, list and revoke join tokens.
    Token(TokenOptions),
    /// Save the controller's state (objects, certificates, keys) to a file.
    ///
    /// The file holds everything that a controller is: all objects, the key of the certificate authority, the
    /// administrator's kubeconfig, and the Secrets together with the key that opens them. Whoever can read it has the
    /// cluster. It is written with mode 0600; take it again after `warren secrets rotate`, and destroy older ones.
    Backup(BackupOptions),
    /// Give the controller the state in a backup; the nodes and their pods go on.
    ///
    /// What was created after the backup is gone: its containers are removed. What was deleted since comes back.
    /// Members that joined since must join again. A damaged file is refused, and nothing is changed.
    Restore(RestoreOptions),
    /// Manage the encryption of Secrets at rest.
    Secrets(SecretsOptions),
    /// List the members (nodes and gateways), and remove one for good.
    Member(MembershipOptions),
    /// Remove a cluster's directories; `down` runs it in a container when it lacks the rights itself.
    #[command(hide = true)]
    Erase(ClusterOption),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterOption {
    /// The cluster's name.
    #[arg(long, default_value = "warren")]
    pub(crate) name: ClusterName,
}

/// Options left out keep what a running cluster has.
#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOption,
    /// How many nodes the cluster has at least [default: 3].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: Option<u16>,
    /// The port of the Kubernetes API on 127.0.0.1 [default: 6443].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) api_port: Option<u16>,
    /// The gateway's HTTP port on 127.0.0.1 [default: 8080].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) gateway_http: Option<u16>,
    /// The gateway's HTTPS port on 127.0.0.1 [default: 8443].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) gateway_https: Option<u16>,
    /// Proxies before the gateway whose X-Forwarded-* headers are believed [default: none].
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) trusted_proxies: Option<Vec<IpNet>>,
    #[command(flatten)]
    pub(crate) networks: NetworkOptions,
}

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

/// Which cluster, for what its administrator asks of the controller.
#[derive(Debug, Clone, Args)]
pub(crate) struct AccessOptions {
    /// The cluster's name.
    #[arg(long, default_value = "warren", global = true)]
    pub(crate) name: ClusterName,
    /// The administrator's kubeconfig of a cluster that is not one of containers on this machine
    /// (DATA-DIR/admin.kubeconfig at the controller).
    #[arg(long, global = true, conflicts_with = "name")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KubeconfigOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOption,
    /// Write it to this file, which its owner alone can read, instead of printing it. Whoever can read it has the
    /// cluster.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) access: AccessOptions,
    #[command(flatten)]
    pub(crate) output: OutputOption,
}

#[derive(Debug, Args)]
pub(crate) struct BackupOptions {
    /// The file to write. Whoever can read it has the cluster.
    pub(crate) file: PathBuf,
    /// Overwrite the file if it is there.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) access: AccessOptions,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// A file that `warren backup` wrote.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) cluster: ClusterOption,
    /// The data directory of a controller that is not a container on this machine: run this beside it. It takes the
    /// backup in when it starts next, before anything else.
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Move aside the state that the controller has, if it has any.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SecretsOptions {
    #[command(flatten)]
    pub(crate) access: AccessOptions,
    #[command(subcommand)]
    pub(crate) action: SecretsAction,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum SecretsAction {
    /// Encrypt all Secrets anew by a new key, and forget the old one.
    Rotate,
}

#[derive(Debug, Args)]
pub(crate) struct TokenOptions {
    #[command(flatten)]
    pub(crate) access: AccessOptions,
    #[command(subcommand)]
    pub(crate) action: TokenAction,
}

/// What a join token is good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// A node, which runs pods.
    #[default]
    Node,
    /// The gateway.
    Gateway,
}

impl TokenRole {
    /// As the controller calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// Create a single-use token with which one member can join.
    Create {
        /// What the member that joins with it becomes.
        #[arg(long, value_enum, default_value_t)]
        role: TokenRole,
        /// For how long the token is valid, from 1s to 7d.
        #[arg(long, default_value = "10m", value_parser = token_lifetime)]
        lifetime: Duration,
        /// Print the token alone, not the command with which a machine joins.
        #[arg(long)]
        token_only: bool,
    },
    /// List the tokens that were created and neither used nor revoked.
    List(OutputOption),
    /// Revoke a token.
    Revoke {
        /// The token, or its identifier as listed.
        token: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct MembershipOptions {
    #[command(flatten)]
    pub(crate) access: AccessOptions,
    #[command(subcommand)]
    pub(crate) action: MemberAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberAction {
    /// List the members with their roles, networks and daemons.
    List(OutputOption),
    /// Make the member's certificate useless, free its network and its name. Stop the machine first.
    Remove {
        /// The member's name, as `warren status` shows it.
        member: String,
    },
}

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_bad_cluster_name_is_a_usage_error() {
        let error = Arguments::try_parse_from(["warren", "up", "--name", "Big_One"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("lower case"), "{error}");
    }

    #[test]
    fn a_cluster_is_named_before_or_after_the_action() {
        for line in [["token", "--name", "dev", "list"], ["token", "list", "--name", "dev"]] {
            let arguments = Arguments::try_parse_from(["warren"].iter().chain(&line)).unwrap();
            let Command::Local(LocalCommand::Token(options)) = arguments.command else { panic!("no token") };
            assert_eq!(options.access.name.as_str(), "dev");
        }
    }

    #[test]
    fn what_asks_the_controller_takes_a_kubeconfig_and_not_a_name_too() {
        let lines: [&[&str]; 5] = [
            &["status"],
            &["token", "list"],
            &["secrets", "rotate"],
            &["member", "remove", "n-1"],
            &["backup", "b.tar"],
        ];
        for line in lines {
            let with = |more: &[&str]| {
                Arguments::try_parse_from([&["warren"], line, &["--kubeconfig", "k"], more].concat()).is_ok()
            };
            assert!(with(&[]) && !with(&["--name", "dev"]), "{line:?}");
        }
    }

    #[test]
    fn spans_of_time_are_read_as_people_write_them() {
        for (text, seconds) in
            [("600", 600), ("90s", 90), ("5m", 300), ("1h30m", 5_400), ("1h 30m", 5_400), ("7d", 604_800)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "5 parsecs", "-5m", "99999999999999999999", "99999999999999h", "m5"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["0", "8d", "500ms"] {
            assert!(token_lifetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn inner_commands_are_hidden_and_explain_themselves() {
        let help = Arguments::command().render_help().to_string();
        let shown =
            |command: &str| help.lines().any(|line| line.trim_start().starts_with(&format!("{command} ")));
        for inner in ["pause", "erase", "agent", "netd", "gateway"] {
            assert!(!shown(inner), "{inner} is shown:\n{help}");
            let asked = Arguments::try_parse_from(["warren", inner, "--help"]).unwrap_err();
            assert_eq!(asked.kind(), clap::error::ErrorKind::DisplayHelp, "{inner}");
        }
        assert!(shown("up") && shown("version") && shown("completion"), "{help}");
    }

    #[test]
    fn nodes_are_bounded_and_ports_are_not_zero() {
        for arguments in [["--nodes", "0"], ["--nodes", "101"], ["--api-port", "0"]] {
            let line = ["warren", "up"].into_iter().chain(arguments);
            assert!(Arguments::try_parse_from(line).is_err(), "{arguments:?}");
        }
    }
}
