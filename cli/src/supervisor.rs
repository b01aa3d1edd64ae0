//! Keeps a member's daemons running: starts them, restarts them with back-off, and takes them along
//! when it ends.

use std::{
    ffi::OsString,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process, task::JoinSet};
use warren_runtime::CancellationToken;

/// How long a daemon may take to stop before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// A daemon to run: a subcommand of this very binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<OsString>,
}

/// Runs the daemons until `stop`. Must run on the process's main thread, because a daemon is killed
/// by the kernel when the thread that started it ends.
pub(crate) async fn run(daemons: Vec<Daemon>, stop: CancellationToken) {
    let tasks = tokio::task::LocalSet::new();
    let mut running = JoinSet::new();
    for daemon in daemons {
        running.spawn_local_on(keep(daemon, stop.clone()), &tasks);
    }
    tasks.run_until(async { while running.join_next().await.is_some() {} }).await;
}

async fn keep(daemon: Daemon, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let started = Instant::now();
        match start(&daemon) {
            Ok(child) => watch(&daemon, child, &stop).await,
            Err(error) => tracing::error!(daemon = daemon.name, %error, "cannot start"),
        }
        if stop.is_cancelled() {
            return;
        }
        let wait = backoff.after(started.elapsed());
        metrics::counter!("warren_daemon_restarts_total", "daemon" => daemon.name).increment(1);
        tracing::warn!(daemon = daemon.name, wait_ms = wait.as_millis() as u64, "restarting");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Waits until the daemon has ended: by itself, or because `stop` asked it to.
async fn watch(daemon: &Daemon, mut child: process::Child, stop: &CancellationToken) {
    let pid = child.id();
    tracing::info!(daemon = daemon.name, pid, "started");
    tokio::select! {
        ended = child.wait() => return report(daemon, ended),
        () = stop.cancelled() => {}
    }
    // Not reaped yet, so the identifier cannot belong to another process.
    if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    match tokio::time::timeout(STOP_GRACE, child.wait()).await {
        Ok(ended) => report(daemon, ended),
        Err(_) => {
            tracing::warn!(daemon = daemon.name, "did not stop in time; killing it");
            let _ = child.kill().await;
        }
    }
}

fn report(daemon: &Daemon, ended: std::io::Result<ExitStatus>) {
    match ended {
        Ok(status) if status.success() => tracing::info!(daemon = daemon.name, "ended"),
        Ok(status) => tracing::error!(daemon = daemon.name, %status, "ended"),
        Err(error) => tracing::error!(daemon = daemon.name, %error, "cannot wait for it"),
    }
}

fn start(daemon: &Daemon) -> std::io::Result<process::Child> {
    // Not a path on disk: an upgrade that replaced the file must not mix two versions in one node.
    #[allow(clippy::disallowed_methods)] // the one place that starts processes
    let mut command = process::Command::new("/proc/self/exe");
    command.arg0("warren").args(&daemon.arguments).stdin(Stdio::null()).kill_on_drop(true);
    // The join token is a secret that only the supervisor needs.
    command.env_remove("WARREN_TOKEN");
    die_with_parent(&mut command);
    command.spawn()
}

/// Lets the kernel kill the child when its supervisor dies, however it dies.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut process::Command) {
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the request was in force.
        if nix::unistd::getppid() != parent {
            return Err(std::io::Error::other("the supervisor is gone"));
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes two system calls, and allocates only
    // on the path on which the child does not exec.
    unsafe { command.pre_exec(before_exec) };
}

/// Grows the wait between restarts from 0.1 s to 5 s, and forgets when a daemon lived for 10 s.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);
    const HEALTHY: Duration = Duration::from_secs(10);

    /// The wait after a life of `lived`.
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= Self::HEALTHY {
            self.failures = 0;
        }
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        wait.min(Self::LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_a_long_life_resets_them() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(5);
        let waits: Vec<u128> = (0..8).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for _ in 0..100 {
            assert_eq!(backoff.after(short), Backoff::LONGEST);
        }
        assert_eq!(backoff.after(Duration::from_secs(10)), Backoff::FIRST);
        assert_eq!(backoff.after(short), Backoff::FIRST * 2);
    }
}
