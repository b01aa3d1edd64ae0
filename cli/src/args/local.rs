//! What is asked of the cluster on this machine, and of a controller by its administrator.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::{NetworkOptions, OutputOption, token_lifetime};
use crate::local::names::ClusterName;

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
    /// Tell why a pod is on its node, or on none: what each node thinks of it.
    ///
    /// A node's cost says how full it would be, in percent of its fullest dimension, and what counts beside that; less is
    /// better.
    Why(WhyOptions),
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
pub(crate) struct WhyOptions {
    /// The pod's name.
    pub(crate) pod: String,
    /// The pod's namespace.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
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
