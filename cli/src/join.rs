//! `warren join`: looks whether this machine is fit, then gives it an identity; `warren node` needs no token
//! afterwards.

use anyhow::Context as _;
use warren_proto::vocabulary::NodeName;

use crate::{
    args::{JoinOptions, Logging},
    node, output,
    preflight::{
        self,
        facts::{self, Candidate},
    },
    telemetry,
};

pub(crate) fn main(options: JoinOptions, logging: &Logging) -> anyhow::Result<()> {
    // A person reads this terminal; only what is wrong is logged unless asked for.
    telemetry::start_logs("join", "error", logging)?;
    warren_runtime::tls::install_provider();
    let name = options.name.clone().map_or_else(host_name, Ok)?;
    name.parse::<NodeName>().context("--name")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(options, name))
}

async fn run(options: JoinOptions, name: String) -> anyhow::Result<()> {
    let candidate = Candidate {
        name: name.clone(),
        gateway: options.gateway,
        controller: options.member.controller.clone(),
        state_dir: options.member.state_dir.clone(),
        docker_socket: options.docker_socket.into(),
        networks: options.networks,
        listeners: [Some(options.listeners.http), options.listeners.https].into_iter().flatten().collect(),
    };
    let checks = preflight::judge(&facts::collect(&candidate).await);
    output::print(preflight::table(&checks));
    anyhow::ensure!(preflight::passed(&checks), "this machine cannot join yet: mend what FAILED above");
    if options.check {
        return Ok(());
    }
    node::join_once(&options.member, options.token.as_deref(), &name, options.gateway, options.networks)
        .await?;
    output::print(format_args!("\n{name} has joined; start it with: systemctl enable --now warren-node\n"));
    Ok(())
}

/// This machine's name, as the cluster may know it.
fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("this machine has no name; give --name")?;
    Ok(name.trim().to_ascii_lowercase())
}
