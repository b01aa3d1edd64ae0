//! The heartbeat: on a thread, a runtime and a connection of its own, so that nothing else delays it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use warren_proto::control::{Consumer, HeartbeatRequest, control_client::ControlClient};

use crate::connection::Controller;

const PERIOD: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(250);

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
