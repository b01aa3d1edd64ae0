//! What every daemon does around its `run`: logs, a runtime, metrics, and an orderly end.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use warren_runtime::{CancellationToken, descriptors::Descriptors, tasks::Bound};

use crate::{args::Logging, telemetry};

/// Runs a daemon until it ends or SIGTERM or SIGINT asks it to.
pub(crate) fn main<F>(
    process: &'static str,
    logging: &Logging,
    metrics: SocketAddr,
    run: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Bound>>,
{
    telemetry::start_logs(process, "info", logging)?;
    warren_runtime::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(process)
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        telemetry::start_metrics(process, metrics);
        let stop = CancellationToken::new();
        cancel_on_signal(&stop)?;
        let bound = run(stop).await.with_context(|| format!("cannot start the {process}"))?;
        for (listener, address) in &bound.addresses {
            tracing::info!(listener, %address, "listening");
        }
        Descriptors::inherited().ready();
        bound.tasks.wait().await
    });
    // Blocking work that hangs (a dead disk, a silent engine) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match &ended {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(error = %format!("{error:#}"), "failed"),
    }
    ended
}

/// Cancels `stop` at the first SIGTERM or SIGINT.
pub(crate) fn cancel_on_signal(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal, "stopping");
        stop.cancel();
    });
    Ok(())
}

/// Makes sure that `path` exists and that its owner alone can look into it.
pub(crate) fn private_directory(path: &Path, option: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot use {option} {}", path.display()))
}
