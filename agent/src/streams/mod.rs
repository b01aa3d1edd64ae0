//! Streams into pods: the controller asks on one stream, the agent dials one call for each.

mod logs;
mod port_forward;
mod process;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use warren_proto::control::{
    SessionFrame, SessionOpen, SessionsRequest, control_client::ControlClient, session_open::Kind,
};
use warren_runtime::{CancellationToken, connection::Controller};

use crate::{driver::Driver, netd::Links, runtime::Engine};

pub use logs::{LogBytes, open as open_logs};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
/// Frames under way; beyond this the engine's log is not read further.
const WINDOW: usize = 8;
/// Larger pieces are cut: a message has a limit.
const FRAME: usize = 256 * 1024;

/// Answers the controller's requests until `stop`.
pub(crate) async fn run<E: Engine, L: Links>(
    driver: Arc<Driver<E, L>>,
    controller: Controller,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut wait = RETRY_FIRST;
    loop {
        let outcome = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            outcome = follow(&driver, &controller, &mut wait) => outcome,
        };
        if let Err(error) = outcome {
            tracing::debug!(error = format!("{error:#}"), "no session stream; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RETRY_LONGEST);
    }
}

async fn follow<E: Engine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    controller: &Controller,
    wait: &mut Duration,
) -> anyhow::Result<()> {
    let channel = tokio::time::timeout(CONNECT, controller.channel()).await??;
    let mut client = ControlClient::new(channel.clone());
    let mut requests =
        tokio::time::timeout(CONNECT, client.sessions(SessionsRequest {})).await??.into_inner();
    *wait = RETRY_FIRST;
    // Whoever answers now may not know what was reported to its predecessor.
    driver.outbox().forget_sent();
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            request = requests.message() => match request? {
                Some(open) => {
                    let (driver, controller) = (Arc::clone(driver), controller.clone());
                    sessions.spawn(async move {
                        let id = open.id.clone();
                        if let Err(error) = dial(&driver, &controller, open).await {
                            tracing::debug!(session = id, error = format!("{error:#}"), "a session broke");
                        }
                    });
                }
                None => return Ok(()),
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// A connection for this session alone: all streams of an HTTP/2 connection share one window, so a reader that
/// stands still would in the end hold up all others.
async fn dial<E: Engine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    controller: &Controller,
    open: SessionOpen,
) -> anyhow::Result<()> {
    let channel = tokio::time::timeout(CONNECT, controller.channel()).await??;
    serve(driver, channel, open).await
}

/// How a session ended.
#[derive(Debug, Default)]
struct End {
    /// What went wrong; empty on success.
    error: String,
    /// Of a command.
    exit_code: Option<i32>,
}

/// One session: our first frame says which, then data, then the end.
pub async fn serve<E: Engine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    channel: Channel,
    open: SessionOpen,
) -> anyhow::Result<()> {
    metrics::counter!("warren_agent_sessions_total").increment(1);
    let (frames, outgoing) = mpsc::channel(WINDOW);
    frames.send(SessionFrame { id: open.id.clone(), ..SessionFrame::default() }).await?;
    let mut client = ControlClient::new(channel);
    let call = client.session(ReceiverStream::new(outgoing));
    let (arrived, incoming) = mpsc::channel(WINDOW);
    let work = async {
        let end = answer(driver, &open, &frames, incoming).await;
        let end = end.unwrap_or_else(|error| End { error, exit_code: None });
        let End { error, exit_code } = end;
        let _ = frames.send(SessionFrame { end: true, error, exit_code, ..SessionFrame::default() }).await;
    };
    let answers = async {
        let mut answers = call.await?.into_inner();
        while let Some(frame) = answers.message().await? {
            // What comes after the process has ended goes nowhere.
            let _ = arrived.send(frame).await;
        }
        anyhow::Ok(())
    };
    // When the other side goes away, nothing is read any further and connections to processes are closed. While
    // a process takes no input, that shows in the frames' stream alone.
    let mut answers = std::pin::pin!(answers);
    tokio::select! {
        ended = &mut answers => return ended,
        () = frames.closed() => return Ok(()),
        () = work => {}
    }
    drop(frames);
    answers.await
}

/// Does what is asked, to its end.
async fn answer<E: Engine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    open: &SessionOpen,
    frames: &mpsc::Sender<SessionFrame>,
    incoming: mpsc::Receiver<SessionFrame>,
) -> Result<End, String> {
    match &open.kind {
        Some(Kind::Logs(request)) => {
            let stream = logs::open(driver, &open.pod_uid, &open.container, request).await?;
            Ok(End { error: send(frames, stream).await, exit_code: None })
        }
        Some(Kind::Exec(_) | Kind::Attach(_)) => process::serve(driver, open, frames, incoming).await,
        Some(Kind::PortForward(request)) => {
            let stream = port_forward::connect(driver, &open.pod_uid, request.port).await?;
            port_forward::carry(stream, frames, incoming).await
        }
        None => Err("this agent does not know that kind of session; upgrade the node".to_owned()),
    }
}

/// Sends data as fast as it is taken; answers with what went wrong, or nothing.
async fn send(frames: &mpsc::Sender<SessionFrame>, mut stream: LogBytes) -> String {
    while let Some(piece) = stream.next().await {
        let mut piece: Bytes = match piece {
            Ok(piece) => piece,
            Err(error) => return error,
        };
        while !piece.is_empty() {
            let data = piece.split_to(piece.len().min(FRAME)).to_vec();
            if frames.send(SessionFrame { data, ..SessionFrame::default() }).await.is_err() {
                return String::new();
            }
        }
    }
    String::new()
}
