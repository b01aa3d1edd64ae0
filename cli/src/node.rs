//! `warren node`: joins the cluster once, then supervises the member's daemons.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::ValueEnum as _;
use warren_proto::{
    control::{Consumer, Role},
    vocabulary::NodeName,
};
use warren_runtime::{
    CancellationToken,
    connection::Controller,
    heartbeat::{self, Greeting},
    identity::{self, Identity, JoinError},
};

use crate::{
    args::{JoinedNetworks, Logging, MemberOptions, NodeOptions},
    cgroup, daemon, machine, orphans, preflight, supervisor,
    supervisor::Daemon,
    telemetry,
};

/// The longest wait between two attempts to reach the controller.
const JOIN_RETRY_MAXIMUM: Duration = Duration::from_secs(5);
/// How long a machine that lost its power may take to be forgotten by the controller, so that its next start (or
/// the machine in its place) is let in.
const FORGOTTEN: Duration = Duration::from_secs(10);
const GREETING_RETRY: Duration = Duration::from_millis(500);

pub(crate) fn main(options: NodeOptions, logging: &Logging) -> anyhow::Result<()> {
    telemetry::start_logs("node", "info", logging)?;
    warren_runtime::tls::install_provider();
    options.name.parse::<NodeName>().context("--name")?;
    // Now, while it is ours: an upgrade puts another program there.
    let program = std::env::current_exe().context("cannot find this program")?;
    // One thread, so that the thread that starts the daemons lives as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        telemetry::start_metrics("node", options.metrics);
        daemon::cancel_on_signal(&stop)?;
        let joined = tokio::select! {
            joined = join_once(&options.member, options.token.as_deref(), &options.name, options.gateway, options.networks) => joined,
            () = stop.cancelled() => return Ok(()),
        };
        joined.inspect_err(|error| tracing::error!(error = %format!("{error:#}"), "cannot join"))?;
        let alone = tokio::select! {
            alone = be_the_only_one(&options.member) => alone,
            () = stop.cancelled() => return Ok(()),
        };
        alone.inspect_err(|error| tracing::error!(error = %format!("{error:#}"), "not starting"))?;
        tokio::spawn(orphans::reap());
        supervisor::run(daemons(&options, logging), program, stop).await?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Makes sure that the member has an identity, and that it is this machine's own.
pub(crate) async fn join_once(
    member: &MemberOptions,
    token: Option<&str>,
    name: &str,
    gateway: bool,
    networks: JoinedNetworks,
) -> anyhow::Result<()> {
    let state_dir = &member.state_dir;
    daemon::private_directory(state_dir, "--state-dir")?;
    if let Some(identity) = Identity::load(state_dir)? {
        anyhow::ensure!(
            identity.name == name,
            "{} holds the identity of {:?}, not of {:?}: give --name {} or another --state-dir",
            state_dir.display(),
            identity.name,
            name,
            identity.name
        );
        return machine::check(state_dir);
    }
    preflight::networks_are_free(networks)?;
    let token = token.context(
        "this member has not joined yet and has no token: run `warren token create` at the controller and pass \
         the token by WARREN_TOKEN or --token",
    )?;
    let role = if gateway { Role::Gateway } else { Role::Node };
    let identity = join(&member.controller, token, name, role).await?;
    identity.save(state_dir)?;
    tracing::info!(name, controller = member.controller, "joined");
    machine::check(state_dir)
}

/// Refuses to start while another machine speaks as this member: a clone would start its pods, and take the
/// tunnel of the true one over, from what its disk remembers. Without a controller nobody can tell, and the member
/// starts.
async fn be_the_only_one(member: &MemberOptions) -> anyhow::Result<()> {
    let Some(identity) = Identity::load(&member.state_dir)? else { return Ok(()) };
    let controller = Controller::new(&member.controller, identity, member.state_dir.clone());
    let started = Instant::now();
    loop {
        match heartbeat::greet(&controller, Consumer::Netd).await {
            Greeting::Welcome => return Ok(()),
            Greeting::Unknown(error) => {
                tracing::warn!(error = %format!("{error:#}"), "starting without the controller");
                return Ok(());
            }
            Greeting::Taken(why) if started.elapsed() >= FORGOTTEN => anyhow::bail!(why),
            Greeting::Taken(_) => tokio::time::sleep(GREETING_RETRY).await,
        }
    }
}

/// Joins, however long the controller takes to answer; a refusal is final.
async fn join(controller: &str, token: &str, name: &str, role: Role) -> Result<Identity, JoinError> {
    let mut wait = Duration::from_millis(50);
    loop {
        match identity::join(controller, token, name, role).await {
            Err(error @ JoinError::Unreachable { .. }) => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(JOIN_RETRY_MAXIMUM);
            }
            ended => return ended,
        }
    }
}

/// The daemons of this kind of member, with their command lines.
fn daemons(options: &NodeOptions, logging: &Logging) -> Vec<Daemon> {
    let daemon = |name: &'static str, own: Vec<OsString>| {
        let member = &options.member;
        let mut arguments: Vec<OsString> = vec![name.into()];
        arguments.extend(pair("--controller", &member.controller));
        arguments.extend(pair("--state-dir", &member.state_dir));
        if let Some(format) = logging.log_format.to_possible_value() {
            arguments.extend(pair("--log-format", format.get_name()));
        }
        arguments.extend(logging.log_level.iter().flat_map(|level| pair("--log-level", level)));
        arguments.extend(own);
        // Two gateways may accept from the same sockets; of netd and agent there can be one.
        Daemon { name, arguments, overlaps: name == "gateway" }
    };
    let second = if options.gateway {
        daemon("gateway", gateway_arguments(options))
    } else {
        let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        daemon("agent", agent_arguments(options, cgroup::parent_for_pods(&cgroups)))
    };
    vec![daemon("netd", Vec::new()), second]
}

fn gateway_arguments(options: &NodeOptions) -> Vec<OsString> {
    let mut arguments = pair("--http", options.listeners.http.to_string()).to_vec();
    arguments.extend(options.listeners.https.iter().flat_map(|address| pair("--https", address.to_string())));
    let proxies = &options.listeners.trusted_proxies;
    arguments.extend(proxies.iter().flat_map(|network| pair("--trusted-proxies", network.to_string())));
    arguments
}

fn agent_arguments(options: &NodeOptions, cgroup_parent: Option<String>) -> Vec<OsString> {
    let pods = &options.pods;
    let mut arguments = pair("--docker-socket", &pods.docker_socket).to_vec();
    arguments.extend(pair("--cluster", pods.cluster.to_string()));
    arguments.extend(pods.host_path_prefix.iter().flat_map(|path| pair("--host-path-prefix", path)));
    arguments.extend(pods.sandbox_image.iter().flat_map(|image| pair("--sandbox-image", image)));
    arguments.extend(pair("--pod-pids-limit", pods.pod_pids_limit.to_string()));
    arguments.extend(cgroup_parent.iter().flat_map(|path| pair("--cgroup-parent", path)));
    arguments
}

/// An option and its value as one argument each.
fn pair(option: &str, value: impl Into<OsString>) -> [OsString; 2] {
    [option.into(), value.into()]
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    fn node(line: &[&str]) -> (NodeOptions, Logging) {
        let line = ["warren", "node", "--controller", "c:6443", "--name", "n-1"].iter().chain(line);
        let arguments = Arguments::parse_from(line);
        let Command::Node(options) = arguments.command else { panic!("not a node") };
        (options, arguments.logging)
    }

    #[test]
    fn every_daemon_understands_the_command_line_it_is_given() {
        let lines: [&[&str]; 3] = [
            &[],
            &[
                "--log-format",
                "json",
                "--log-level",
                "debug",
                "--host-path-prefix",
                "/h",
                "--sandbox-image",
                "i:1",
                "--pod-pids-limit",
                "1000",
            ],
            &[
                "--gateway",
                "--http",
                "0.0.0.0:8080",
                "--https",
                "0.0.0.0:8443",
                "--trusted-proxies",
                "10.0.0.0/8,192.0.2.1/32",
            ],
        ];
        for line in lines {
            let (options, logging) = node(line);
            for daemon in daemons(&options, &logging) {
                let arguments = std::iter::once(OsString::from("warren")).chain(daemon.arguments.clone());
                let parsed = Arguments::try_parse_from(arguments).expect(daemon.name);
                assert_eq!(parsed.logging.log_format, logging.log_format);
                assert_eq!(parsed.logging.log_level, logging.log_level);
            }
        }
    }

    #[test]
    fn the_agent_is_told_how_many_processes_a_container_may_have() {
        for (line, expected) in [(&[][..], 256), (&["--pod-pids-limit", "0"][..], 0)] {
            let (options, logging) = node(line);
            let agent = daemons(&options, &logging).into_iter().find(|daemon| daemon.name == "agent");
            let arguments = agent.expect("an agent").arguments;
            let parsed = Arguments::parse_from(std::iter::once(OsString::from("warren")).chain(arguments));
            let Command::Agent(agent) = parsed.command else { panic!("not an agent") };
            assert_eq!(agent.pods.pod_pids_limit, expected);
        }
    }

    #[test]
    fn a_gateway_runs_no_agent() {
        let names = |line| {
            let (options, logging) = node(line);
            daemons(&options, &logging).iter().map(|daemon| daemon.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["netd", "agent"]);
        assert_eq!(names(&["--gateway"]), ["netd", "gateway"]);
    }

    #[test]
    fn the_cgroup_is_passed_on_only_when_there_is_one() {
        let (options, _) = node(&[]);
        let has_parent =
            |arguments: Vec<OsString>| arguments.iter().any(|argument| argument == "--cgroup-parent");
        assert!(!has_parent(agent_arguments(&options, None)));
        assert!(has_parent(agent_arguments(&options, Some("/docker/x".into()))));
    }
}
