//! Keeps a member's daemons running: starts them, restarts them with back-off, holds the descriptors that must
//! survive them, replaces them one by one after an upgrade, and takes them along when it ends.

use std::{
    ffi::OsString,
    os::{fd::AsRawFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::{
        signal::{self, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    signal::unix::{self, SignalKind},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use warren_runtime::{CancellationToken, descriptors as shared};

use crate::descriptors::{self, Channel, Held, Left};

/// How long a daemon may take to stop before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How long the successor of a running daemon may take until it does its job.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a new program may take to say that it understands our command line.
const CHECK_PATIENCE: Duration = Duration::from_secs(10);

/// A daemon to run: a subcommand of this very binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<OsString>,
    /// Whether its successor may start while it runs; then it is asked to stop only when that one is ready.
    pub(crate) overlaps: bool,
}

/// Runs the daemons until `stop`; SIGHUP replaces the supervisor and then each daemon by what lies at `program`
/// now. Must run on the process's main thread, because a daemon is killed by the kernel when the thread that
/// started it ends.
pub(crate) async fn run(
    daemons: Vec<Daemon>,
    program: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut upgrades = unix::signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let mut left = descriptors::inherited()?;
    descriptors::unblock_signals();
    let mut replace = !left.is_empty();
    loop {
        let tasks = tokio::task::LocalSet::new();
        let ended = supervise(&daemons, left, replace, &program, &mut upgrades, &stop, &tasks);
        left = match tasks.run_until(ended).await {
            None => return Ok(()),
            Some(left) => left,
        };
        tracing::info!(program = %program.display(), "becoming the new version");
        let error = descriptors::become_next(&program, &left);
        tracing::error!(error = format!("{error:#}"), "the upgrade failed; going on with this version");
        replace = false;
    }
}

/// Runs until `stop` (then `None`) or until this process is to become another program.
async fn supervise(
    daemons: &[Daemon],
    mut left: Vec<Left>,
    replace: bool,
    program: &Path,
    upgrades: &mut unix::Signal,
    stop: &CancellationToken,
    tasks: &tokio::task::LocalSet,
) -> Option<Vec<Left>> {
    let mut running = JoinSet::new();
    let mut orders = Vec::new();
    for daemon in daemons {
        let found = left.iter().position(|left| left.daemon == daemon.name).map(|at| left.swap_remove(at));
        let found = found.map(|left| (left.process, left.held, left.own));
        let (process, held, bequest) = found.unwrap_or_default();
        let (sender, inbox) = mpsc::channel(1);
        orders.push(sender);
        let keeper = Keeper { daemon: daemon.clone(), held, bequest, orders: inbox, stop: stop.clone() };
        running.spawn_local_on(keeper.run(process), tasks);
    }
    // Daemons that this version does not have.
    for (pid, _) in left.into_iter().filter_map(|left| left.process) {
        let _ = signal::kill(pid, Signal::SIGTERM);
    }
    let rolling = async {
        for (order, daemon) in orders.iter().zip(daemons).filter(|_| replace) {
            let (done, replaced) = oneshot::channel();
            // A supervisor whose receiver is gone is being stopped.
            let _ = order.send(Order::Replace(done)).await;
            let _ = replaced.await;
            tracing::info!(daemon = daemon.name, "replaced");
        }
        loop {
            upgrades.recv().await;
            match check(program).await {
                Ok(()) => return,
                Err(error) => tracing::error!(error = format!("{error:#}"), "not upgrading"),
            }
        }
    };
    tokio::select! {
        () = rolling => {}
        () = stop.cancelled() => {}
    }
    if stop.is_cancelled() {
        while running.join_next().await.is_some() {}
        return None;
    }
    drop(orders);
    let mut left = Vec::new();
    while let Some(ended) = running.join_next().await {
        left.extend(ended.ok().flatten());
    }
    // A stop that came meanwhile has ended some of them; the next version would start them again.
    if stop.is_cancelled() { None } else { Some(left) }
}

/// Whether the program can be run and understands our command line: what cannot be taken back is tried first.
async fn check(program: &Path) -> anyhow::Result<()> {
    #[allow(clippy::disallowed_methods)] // the supervisor's own next version
    let mut command = tokio::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--help").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let status = timeout(CHECK_PATIENCE, command.status())
        .await
        .context("it does not answer")
        .and_then(|status| Ok(status?))
        .with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(status.success(), "{} does not understand our command line", program.display());
    Ok(())
}

enum Order {
    /// Put a new process in the place of the running one.
    Replace(oneshot::Sender<()>),
}

enum Life {
    Ended,
    Stopped,
    /// The supervisor is to become another program: the process goes on.
    Left(Process),
}

struct Keeper {
    daemon: Daemon,
    held: Held,
    /// What belonged to the process that died last: its successor gets it.
    bequest: Held,
    orders: mpsc::Receiver<Order>,
    stop: CancellationToken,
}

impl Keeper {
    /// Keeps one process of the daemon running. `None` after a stop; what is there when the orders end.
    async fn run(mut self, adopted: Option<(Pid, Channel)>) -> Option<Left> {
        let mut backoff = Backoff::default();
        let mut adopted = adopted.and_then(|(pid, channel)| {
            let own = std::mem::take(&mut self.bequest);
            Process::adopt(pid, channel, own).ok()
        });
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let process = match adopted.take() {
                Some(process) => Ok(process),
                None => Process::start(&self.daemon, &self.held, &mut self.bequest),
            };
            match process {
                Ok(process) => match self.watch(process).await {
                    Life::Ended => {}
                    Life::Stopped => return None,
                    Life::Left(process) => return Some(self.leave(Some(process))),
                },
                Err(error) => tracing::error!(daemon = self.daemon.name, %error, "cannot start"),
            }
            let wait = backoff.after(started.elapsed());
            metrics::counter!("warren_daemon_restarts_total", "daemon" => self.daemon.name).increment(1);
            tracing::warn!(daemon = self.daemon.name, wait_ms = wait.as_millis() as u64, "restarting");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
                order = self.orders.recv() => match order {
                    Some(Order::Replace(done)) => { let _ = done.send(()); }
                    None => return Some(self.leave(None)),
                },
            }
        }
        None
    }

    fn leave(self, process: Option<Process>) -> Left {
        let Self { daemon, held, bequest, .. } = self;
        let (process, own) = match process {
            Some(Process { pid, channel, own, .. }) => (Some((pid, channel)), own),
            None => (None, bequest),
        };
        Left { daemon: daemon.name.to_owned(), process, held, own }
    }

    /// Waits until the process has ended: by itself, or because `stop` asked it to.
    async fn watch(&mut self, mut process: Process) -> Life {
        loop {
            tokio::select! {
                status = process.deaths.of(process.pid) => {
                    self.buried(&mut process, status).await;
                    self.bequest = process.own;
                    return Life::Ended;
                }
                (message, descriptor) = process.channel.next() => {
                    self.held.note(&mut process.own, message, descriptor);
                }
                () = self.stop.cancelled() => {
                    self.terminate(process).await;
                    return Life::Stopped;
                }
                order = self.orders.recv() => match order {
                    None => return Life::Left(process),
                    Some(Order::Replace(done)) => {
                        let replaced = self.replace(process).await;
                        let _ = done.send(());
                        match replaced {
                            Some(successor) => process = successor,
                            None => return Life::Ended,
                        }
                    }
                },
            }
        }
    }

    /// Puts a new process in the place of `old`; `None` when there is none now.
    async fn replace(&mut self, old: Process) -> Option<Process> {
        if !self.daemon.overlaps {
            self.terminate(old).await;
        } else {
            match self.successor().await {
                Ok(new) => {
                    // From here on the new one accepts; the old one finishes what it has begun.
                    self.terminate(old).await;
                    return Some(new);
                }
                Err(error) => {
                    tracing::error!(daemon = self.daemon.name, %error, "keeping the old process");
                    return Some(old);
                }
            }
        }
        self.successor()
            .await
            .inspect_err(|error| {
                tracing::error!(daemon = self.daemon.name, %error, "no successor");
            })
            .ok()
    }

    /// A new process that does its job.
    async fn successor(&mut self) -> anyhow::Result<Process> {
        // What belongs to the old process stays with it while it lives.
        let mut new = Process::start(&self.daemon, &self.held, &mut Held::default())?;
        let patience = tokio::time::sleep(READY_PATIENCE);
        tokio::pin!(patience);
        let failure = loop {
            tokio::select! {
                (message, descriptor) = new.channel.next() => if self.held.note(&mut new.own, message, descriptor) {
                    return Ok(new);
                },
                status = new.deaths.of(new.pid) => {
                    self.buried(&mut new, status).await;
                    anyhow::bail!("the new process ended");
                }
                () = &mut patience => break "the new process did not get ready in time",
                () = self.stop.cancelled() => break "stopping",
            }
        };
        self.terminate(new).await;
        anyhow::bail!(failure)
    }

    /// Asks the process to stop, and kills it when it takes too long.
    async fn terminate(&mut self, mut process: Process) {
        // Not reaped yet, so the identifier cannot belong to another process.
        let _ = signal::kill(process.pid, Signal::SIGTERM);
        let status = match timeout(STOP_GRACE, process.deaths.of(process.pid)).await {
            Ok(status) => status,
            Err(_) => {
                tracing::warn!(daemon = self.daemon.name, "did not stop in time; killing it");
                let _ = signal::kill(process.pid, Signal::SIGKILL);
                process.deaths.of(process.pid).await
            }
        };
        self.buried(&mut process, status).await;
    }

    /// Takes what the ended process has said last, and says how it ended.
    async fn buried(&mut self, process: &mut Process, status: Option<WaitStatus>) {
        for (message, descriptor) in process.channel.rest().await {
            self.held.note(&mut process.own, message, descriptor);
        }
        let (daemon, pid) = (self.daemon.name, process.pid.as_raw());
        match status {
            Some(WaitStatus::Exited(_, 0)) => tracing::info!(daemon, pid, "ended"),
            Some(status) => tracing::error!(daemon, pid, ?status, "ended"),
            None => tracing::error!(daemon, pid, "is not a child of this process any more"),
        }
    }
}

/// One process of a daemon. It is waited for by its identifier, because it may have been started by an earlier
/// version of this process.
struct Process {
    pid: Pid,
    channel: Channel,
    deaths: Deaths,
    /// What belongs to it alone, and after its death to its successor.
    own: Held,
}

impl Process {
    fn adopt(pid: Pid, channel: Channel, own: Held) -> std::io::Result<Self> {
        Ok(Self { pid, channel, deaths: Deaths::new()?, own })
    }

    /// Starts a process that has `held`, and takes over `own`.
    fn start(daemon: &Daemon, held: &Held, own: &mut Held) -> std::io::Result<Self> {
        let deaths = Deaths::new()?;
        let (channel, theirs) = Channel::open()?;
        // Not a path on disk: an upgrade that replaced the file must not mix two versions in one node.
        #[allow(clippy::disallowed_methods)] // the one place that starts processes
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg0("warren").args(&daemon.arguments).stdin(Stdio::null());
        // The join token is a secret that only the supervisor needs.
        command.env_remove("WARREN_TOKEN").env_remove(descriptors::CHILDREN);
        command.env(shared::INHERITED, held.format(own));
        command.env(shared::SUPERVISOR, theirs.as_raw_fd().to_string());
        let numbers = held.numbers().chain(own.numbers()).chain([theirs.as_raw_fd()]);
        before_exec(&mut command, numbers.collect());
        let pid = command.spawn()?.id();
        tracing::info!(daemon = daemon.name, pid, "started");
        let pid = Pid::from_raw(i32::try_from(pid).map_err(std::io::Error::other)?);
        Ok(Self { pid, channel, deaths, own: std::mem::take(own).handed_over() })
    }
}

/// Hears that children ended.
struct Deaths(unix::Signal);

impl Deaths {
    fn new() -> std::io::Result<Self> {
        unix::signal(SignalKind::child()).map(Self)
    }

    /// Waits until the child has ended, and reaps it. `None` when it is no child of ours.
    async fn of(&mut self, pid: Pid) -> Option<WaitStatus> {
        loop {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive | WaitStatus::Stopped(..) | WaitStatus::Continued(_)) => {}
                Ok(status) => return Some(status),
                Err(Errno::EINTR) => continue,
                Err(_) => return None,
            }
            self.0.recv().await;
        }
    }
}

/// Gives the child its descriptors, and lets the kernel kill it when its supervisor dies, however it dies.
#[allow(unsafe_code)]
fn before_exec(command: &mut std::process::Command, numbers: Vec<i32>) {
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the request was in force.
        if nix::unistd::getppid() != parent {
            return Err(std::io::Error::other("the supervisor is gone"));
        }
        descriptors::pass_on(&numbers)
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only, and allocates only
    // on the path on which the child does not exec.
    unsafe { command.pre_exec(before_exec) };
}

/// Grows the wait between restarts from nothing over 0.1 s to 5 s, and forgets when a daemon lived for 10 s.
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
        let failures = self.failures;
        self.failures += 1;
        match failures {
            // Who lived well is missed: clients wait in its sockets' queues.
            0 => Duration::ZERO,
            more => Self::FIRST.saturating_mul(1 << (more - 1).min(10)).min(Self::LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_a_long_life_resets_them() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(5);
        let waits: Vec<u128> = (0..9).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for _ in 0..100 {
            assert_eq!(backoff.after(short), Backoff::LONGEST);
        }
        assert_eq!(backoff.after(Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(backoff.after(short), Backoff::FIRST);
    }

    #[tokio::test]
    async fn a_program_that_cannot_run_is_noticed_before_the_exec() {
        let error = check(Path::new("/nonexistent/warren")).await.expect_err("there is no such program");
        assert!(format!("{error:#}").contains("/nonexistent/warren"), "{error:#}");
        let error = check(Path::new("/bin/false")).await.expect_err("it fails");
        assert!(error.to_string().contains("command line"), "{error:#}");
    }

    #[tokio::test]
    async fn what_is_no_child_is_not_waited_for() {
        let mut deaths = Deaths::new().expect("signals");
        assert_eq!(deaths.of(nix::unistd::getpid()).await, None);
    }
}
