//! Named, owned, awaited tasks: one that fails or ends early ends the process visibly.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long tasks may take to end after cancellation before they are dropped.
const GRACE: Duration = Duration::from_secs(15);

/// The tasks of one daemon.
pub struct TaskSet {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl TaskSet {
    /// A set whose tasks end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop }
    }

    /// The token that ends this set.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task. It should run until the token is cancelled; ending earlier is a failure of the daemon.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Waits until all tasks have ended; the first failure cancels the others and is returned.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.next().await {
            let early = !self.stop.is_cancelled();
            let failure = match ended {
                Ok((name, Ok(()))) if early => Some(anyhow::anyhow!("the task {name} ended unexpectedly")),
                Ok((_, Ok(()))) => None,
                Ok((name, Err(error))) => Some(error.context(format!("the task {name} failed"))),
                Err(error) => Some(anyhow::Error::new(error).context("a task panicked")),
            };
            if let Some(error) = failure {
                tracing::error!(error = format!("{error:#}"), "a task failed; stopping");
                if outcome.is_ok() {
                    outcome = Err(error);
                }
            }
            self.stop.cancel();
        }
        outcome
    }

    async fn next(&mut self) -> Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>> {
        if !self.stop.is_cancelled() {
            // Without a task that has ended, only cancellation starts the grace period.
            tokio::select! {
                ended = self.tasks.join_next() => return ended,
                () = self.stop.cancelled() => {}
            }
        }
        match tokio::time::timeout(GRACE, self.tasks.join_next()).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!(tasks = self.tasks.len(), "tasks did not end in time; dropping them");
                self.tasks.abort_all();
                None
            }
        }
    }
}

/// A daemon that listens and runs.
pub struct Bound {
    /// What it listens on, by name; real ports even where the configuration said 0.
    pub addresses: Vec<(&'static str, SocketAddr)>,
    /// Its tasks; await them.
    pub tasks: TaskSet,
}

impl Bound {
    /// The address of the listener called `name`.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(known, _)| *known == name).map(|(_, address)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_task_ends_the_others_and_is_named() {
        let stop = CancellationToken::new();
        let mut tasks = TaskSet::new(stop.clone());
        let waiting = stop.clone();
        tasks.spawn("patient", async move {
            waiting.cancelled().await;
            Ok(())
        });
        tasks.spawn("broken", async { anyhow::bail!("no such thing") });
        let error = tasks.wait().await.expect_err("one task failed");
        assert_eq!(format!("{error:#}"), "the task broken failed: no such thing");
        assert!(stop.is_cancelled());
    }

    #[tokio::test]
    async fn a_stop_is_no_failure() {
        let stop = CancellationToken::new();
        let mut tasks = TaskSet::new(stop.clone());
        let waiting = stop.clone();
        tasks.spawn("patient", async move {
            waiting.cancelled().await;
            Ok(())
        });
        stop.cancel();
        tasks.wait().await.expect("a clean end");
    }
}
