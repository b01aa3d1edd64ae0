//! What the controller costs at 100, 1,000 and 5,000 nodes: `WARREN_BIN=bin/warren cargo run --release -p warren-tests
//! --bin scale`, or `make bench`. The nodes are simulated, and speak the true protocol from a process of their own.
//!
//! `settings.rs` says what the environment can choose.

mod controller;
mod fleet;
mod measure;
mod member;
mod plot;
mod report;
mod settings;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Settings;

fn main() -> anyhow::Result<()> {
    let settings = Settings::from_environment()?;
    warren_runtime::tls::install_provider();
    let most = settings.sizes.iter().max().copied().unwrap_or_default();
    let descriptors = (most * settings.connections + 1_000) as u64;
    // The controller inherits it.
    let allowed = getrlimit(Resource::Nofile).maximum;
    anyhow::ensure!(
        allowed.is_none_or(|allowed| allowed >= descriptors),
        "{descriptors} open files are needed, and {} are allowed (ulimit -Hn)",
        allowed.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum: allowed })
        .context("cannot raise the number of open files")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut all = Vec::new();
    for size in &settings.sizes {
        println!("{size} nodes, {} pods", size * settings.pods);
        all.push(runtime.block_on(measure::measure(&settings, *size))?);
        println!("{}", report::table(&all));
        if let Some(directory) = &settings.output {
            report::write(directory, &settings, &all)?;
        }
    }
    Ok(())
}
