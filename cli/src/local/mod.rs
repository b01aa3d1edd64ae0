//! The cluster on this machine: containers on the local Docker engine, each a `warren node` or a
//! `warren controller`. Whatever belongs to a cluster carries the label `warren.cluster`.
//!
//! ```text
//!  up ──► preflight ──► image ──► plan (pure: desired, observed -> steps) ──► engine (Docker)
//!                                     ▲ containers (pure: what each container is)
//! ```

mod access;
mod backup;
mod containers;
mod down;
pub(crate) mod engine;
pub(crate) mod image;
mod member;
pub(crate) mod names;
mod observe;
mod plan;
mod ports;
mod preflight;
mod progress;
mod secrets;
mod status;
mod token;
mod up;
mod upgrade;
mod wait;
mod why;

use anyhow::Context as _;

use crate::{
    args::{LocalCommand, Logging},
    output, telemetry,
};

pub(crate) fn main(command: LocalCommand, logging: &Logging) -> anyhow::Result<()> {
    // A person reads this terminal; only what is wrong is logged unless asked for.
    telemetry::start_logs("warren", "error", logging)?;
    warren_runtime::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        match command {
            LocalCommand::Up(options) => up::run(options).await,
            LocalCommand::Down(options) => down::run(&options.name).await,
            LocalCommand::Erase(options) => down::erase(&options.name),
            LocalCommand::Status(options) => status::run(&options).await,
            LocalCommand::Why(options) => why::run(&options).await,
            LocalCommand::Backup(options) => {
                backup::save(&options.access, &options.file, options.force).await
            }
            LocalCommand::Restore(options) => backup::restore(&options).await,
            LocalCommand::Secrets(options) => secrets::run(&options.access, options.action).await,
            LocalCommand::Member(options) => member::run(&options.access, options.action).await,
            LocalCommand::Token(options) => token::run(options).await,
            LocalCommand::Kubeconfig(options) => {
                let engine = engine::LocalDocker::connect().await?;
                let text = access::kubeconfig(&engine, &options.cluster.name).await?;
                match options.output {
                    Some(file) => access::write_private(&file, &text)
                        .with_context(|| format!("cannot write {}", file.display()))?,
                    None => output::print(text),
                }
                Ok(())
            }
        }
    })
}
