//! Commands that the agent itself runs in containers: probes and hooks.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::TryStreamExt;
use tokio::time::Instant;

use super::{
    super::{EngineError, ExecResult, process as kernel},
    DockerEngine, SHORT,
};

/// How much of a command's output is kept.
const OUTPUT: usize = 10 * 1024;
/// How often the engine is asked whether a command has ended whose output has not.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOK_LONGEST: Duration = Duration::from_secs(2);
/// What may still come of the output of a command that has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long the death of a command that ran out of time is waited for.
const DEATH: Duration = Duration::from_secs(5);
const DEATH_LOOK: Duration = Duration::from_millis(50);

impl DockerEngine {
    /// Runs a command to its end. The engine never ends one by itself, so one that takes too long is killed here.
    pub(super) async fn run_command(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecResult, EngineError> {
        let client = self.client()?;
        let deadline = Instant::now() + timeout;
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let created = self.within(timeout, "create exec", client.create_exec(id, options)).await;
        let exec = created.map_err(|error| of_the_whole(error, timeout))?.id;
        let started = AtomicBool::new(false);
        let work = async {
            let mut output = Vec::new();
            let answer = client.start_exec(&exec, None).await?;
            started.store(true, Ordering::Relaxed);
            if let StartExecResults::Attached { output: mut stream, .. } = answer {
                let reading = async {
                    while let Some(piece) = stream.try_next().await? {
                        let piece = piece.into_bytes();
                        output.extend_from_slice(&piece[..piece.len().min(OUTPUT - output.len())]);
                    }
                    Ok::<(), bollard::errors::Error>(())
                };
                let mut reading = std::pin::pin!(reading);
                // What the command left in the background may hold its output open: its own end counts.
                tokio::select! {
                    read = &mut reading => read?,
                    () = self.ended(&exec) => {
                        let _ = tokio::time::timeout(LAST_WORDS, reading).await;
                    }
                }
            }
            let code = client.inspect_exec(&exec).await?.exit_code.unwrap_or(-1);
            Ok(ExecResult { code, output: String::from_utf8_lossy(&output).into_owned() })
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let result = self.within(left, "exec", work).await.map_err(|error| of_the_whole(error, timeout));
        let may_run = started.load(Ordering::Relaxed) || matches!(result, Err(EngineError::TimedOut { .. }));
        if result.is_err()
            && may_run
            && let Err(error) = self.kill_command(id, &exec).await
        {
            tracing::warn!(container = id, %error, "a command that ran out of time may go on");
        }
        result
    }

    /// Waits until a command has ended, by the engine's own word.
    async fn ended(&self, exec: &str) {
        let mut wait = LOOK_FIRST;
        loop {
            tokio::time::sleep(wait).await;
            if matches!(self.exec_exit_code(exec).await, Ok(Some(_)) | Err(EngineError::NotFound(_))) {
                return;
            }
            wait = (wait * 2).min(LOOK_LONGEST);
        }
    }

    /// Kills a command and everything that it started, and waits until the engine knows it.
    async fn kill_command(&self, container: &str, exec: &str) -> Result<(), EngineError> {
        let deadline = Instant::now() + DEATH;
        loop {
            let state = match self.within(SHORT, "inspect exec", self.client()?.inspect_exec(exec)).await {
                Err(EngineError::NotFound(_)) => return Ok(()),
                state => state?,
            };
            let running = state.running == Some(true);
            if !running && state.exit_code.is_some() {
                return Ok(());
            }
            // The engine knows the number a moment after the command was started.
            let pid = state.pid.unwrap_or_default();
            if running && pid > 0 {
                let name = container.to_owned();
                let killed = tokio::task::spawn_blocking(move || kernel::kill_tree(pid, &name)).await;
                let killed = killed.map_err(|error| EngineError::Other(error.to_string()))?;
                killed.map_err(|error| {
                    EngineError::Other(format!("a command that ran out of time cannot be killed: {error}"))
                })?;
            }
            if Instant::now() >= deadline {
                // One that the engine never began has no code and never will.
                let problem = format!("the command does not end within {} s of its kill", DEATH.as_secs());
                return if running { Err(EngineError::Other(problem)) } else { Ok(()) };
            }
            tokio::time::sleep(DEATH_LOOK).await;
        }
    }
}

/// Each step has what the steps before it left; people think of the whole.
fn of_the_whole(error: EngineError, timeout: Duration) -> EngineError {
    match error {
        EngineError::TimedOut { .. } => EngineError::TimedOut { call: "exec", seconds: timeout.as_secs() },
        error => error,
    }
}
