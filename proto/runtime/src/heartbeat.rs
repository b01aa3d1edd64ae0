//! The heartbeat: on a thread, a runtime and a connection of its own, so that nothing else delays it. And the one
//! beat by which a member that starts asks whether it may speak at all.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use warren_proto::control::{Consumer, HeartbeatRequest, control_client::ControlClient};

use crate::connection::Controller;

const PERIOD: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(250);
/// How long the answer to a greeting may take. A member starts without a controller, too.
const GREETING: Duration = Duration::from_secs(3);

/// What came of a greeting.
#[derive(Debug)]
pub enum Greeting {
    /// The member may speak from this machine.
    Welcome,
    /// Another machine speaks as this member; why, and what to do.
    Taken(String),
    /// There was no answer, or one about something else.
    Unknown(anyhow::Error),
}

/// Asks the controller by one beat whether the member may speak from this machine.
pub async fn greet(controller: &Controller, consumer: Consumer) -> Greeting {
    let asked = async {
        let mut client = ControlClient::new(controller.channel().await?);
        let beat = HeartbeatRequest { consumer: consumer.into(), sequence: 0 };
        // The stream stays open until the answer is here.
        let (beats, outgoing) = mpsc::channel(1);
        beats.send(beat).await?;
        let mut answers = client.heartbeat(ReceiverStream::new(outgoing)).await?.into_inner();
        answers.message().await?;
        anyhow::Ok(())
    };
    let answered = tokio::time::timeout(GREETING, asked).await;
    match answered.unwrap_or_else(|_| Err(anyhow::anyhow!("the controller does not answer"))) {
        Ok(()) => Greeting::Welcome,
        Err(error) => match error.downcast_ref::<tonic::Status>() {
            Some(status) if status.code() == Code::AlreadyExists => {
                Greeting::Taken(status.message().to_owned())
            }
            _ => Greeting::Unknown(error),
        },
    }
}

/// Beats once a second until `stop` is cancelled; reconnects for ever.
pub fn start(controller: Controller, consumer: Consumer, stop: CancellationToken) {
    let run = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "cannot start the heartbeat's runtime; stopping");
                return stop.cancel();
            }
        };
        runtime.block_on(beat(controller, consumer, stop));
    };
    std::thread::Builder::new()
        .name("heartbeat".into())
        .spawn(run)
        .expect("a thread can be started while the process starts");
}

async fn beat(controller: Controller, consumer: Consumer, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            outcome = session(&controller, consumer) => if let Err(error) = outcome {
                tracing::debug!(error = format!("{error:#}"), "the heartbeat's stream broke");
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn session(controller: &Controller, consumer: Consumer) -> anyhow::Result<()> {
    let mut client = ControlClient::new(controller.channel().await?);
    let (beats, outgoing) = mpsc::channel(1);
    let beat = |sequence| HeartbeatRequest { consumer: consumer.into(), sequence };
    beats.send(beat(0)).await?;
    let mut answers = client.heartbeat(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut sequence = 0;
    loop {
        tokio::select! {
            answer = answers.message() => if answer?.is_none() {
                return Ok(());
            },
            _ = ticks.tick() => {
                sequence += 1;
                tokio::time::timeout(PERIOD * 4, beats.send(beat(sequence))).await??;
            }
        }
    }
}
