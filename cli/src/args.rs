//! The command line.

mod local;
mod networks;
mod processes;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use local::*;
pub(crate) use networks::{JoinedNetworks, NetworkOptions};
pub(crate) use processes::*;

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
        let lines: [&[&str]; 6] = [
            &["status"],
            &["why", "web"],
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
