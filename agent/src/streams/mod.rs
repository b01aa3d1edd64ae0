//! Streams into pods: the controller asks on one stream, the agent dials one call for each.

mod idle;
mod logs;
mod port_forward;
mod process;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use warren_proto::control::{
    SessionFrame, SessionOpen, SessionsRequest, control_client::ControlClient, session_open::Kind,
};
use warren_runtime::{CancellationToken, connection::Controller};

use crate::{driver::Driver, netd::Links, runtime::ContainerEngine};

pub use logs::{LogBytes, open as open_logs};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
/// Frames under way; beyond this the engine's log is not read further.
const WINDOW: usize = 8;
/// Larger pieces are cut: a message has a limit.
const FRAME: usize = 64 * 1024;
/// Streams into this node's pods at a time: each has a connection to the controller, and most one to the engine.
const MOST_SESSIONS: usize = 512;
/// Beyond these, so many are told that they are too many.
const MOST_REFUSALS: usize = 64;
/// How long sessions may take to end with the agent.
const FAREWELL: Duration = Duration::from_secs(8);
/// A stream on which nothing moves for so long is ended, as by Kubernetes' nodes: while a process takes no input, a
/// client behind a proxy can go away unseen. A log may be silent for as long as it likes.
const MOST_IDLE: Duration = Duration::from_secs(4 * 3_600);
/// Why work for a session was given up; nobody is there to read it.
const GONE: &str = "the client has gone";

/// Answers the controller's requests until `stop`.
pub(crate) async fn run<E: ContainerEngine, L: Links>(
    driver: Arc<Driver<E, L>>,
    controller: Controller,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut wait = RETRY_FIRST;
    // Each has a connection of its own, and ends with it, not with the stream of requests.
    let mut sessions = Sessions::default();
    let serving = async {
        loop {
            if let Err(error) = follow(&driver, &controller, &mut wait, &mut sessions, &stop).await {
                tracing::debug!(error = format!("{error:#}"), "no session stream; trying again");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        never = serving => match never {},
    }
    let ending = async { while sessions.tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, ending).await.is_err() {
        tracing::warn!(sessions = sessions.tasks.len(), "sessions do not end; dropping them");
    }
    Ok(())
}

/// What is served.
#[derive(Default)]
struct Sessions {
    /// Each answers with its session's id.
    tasks: JoinSet<String>,
    /// By id: how each is ended.
    ends: BTreeMap<String, CancellationToken>,
}

async fn follow<E: ContainerEngine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    controller: &Controller,
    wait: &mut Duration,
    sessions: &mut Sessions,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let channel = tokio::time::timeout(CONNECT, controller.channel()).await??;
    let mut client = ControlClient::new(channel.clone());
    let mut requests =
        tokio::time::timeout(CONNECT, client.sessions(SessionsRequest {})).await??.into_inner();
    *wait = RETRY_FIRST;
    // The controller that answers now may not know what was reported to its predecessor.
    driver.outbox().forget_sent();
    loop {
        tokio::select! {
            request = requests.message() => match request? {
                Some(open) => begin(driver, controller, open, sessions, stop),
                None => return Ok(()),
            },
            Some(ended) = sessions.tasks.join_next() => match ended {
                Ok(id) => drop(sessions.ends.remove(&id)),
                Err(error) => tracing::error!(%error, "a session panicked"),
            }
        }
    }
}

fn begin<E: ContainerEngine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    controller: &Controller,
    open: SessionOpen,
    sessions: &mut Sessions,
    stop: &CancellationToken,
) {
    if open.pod_uid.is_empty() {
        return sessions.ends.get(&open.id).map_or((), CancellationToken::cancel);
    }
    // The controller cannot know whether what it asked on an earlier stream has come.
    if sessions.ends.contains_key(&open.id) {
        return;
    }
    let count = sessions.tasks.len();
    let full = count >= MOST_SESSIONS;
    if count >= MOST_SESSIONS + MOST_REFUSALS {
        // Its client is told by the controller, which waits for us in vain.
        return tracing::warn!(sessions = count, "too many streams: a request is not answered");
    }
    let (driver, controller, end) = (Arc::clone(driver), controller.clone(), stop.child_token());
    sessions.ends.insert(open.id.clone(), end.clone());
    sessions.tasks.spawn(async move {
        let id = open.id.clone();
        if let Err(error) = dial(&driver, &controller, open, full, &end).await {
            tracing::debug!(session = id, error = format!("{error:#}"), "a session broke");
        }
        id
    });
}

/// A connection for this session alone: all streams of an HTTP/2 connection share one window, so a reader that
/// stands still would in the end hold up all others.
async fn dial<E: ContainerEngine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    controller: &Controller,
    open: SessionOpen,
    full: bool,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let channel = tokio::time::timeout(CONNECT, controller.session_channel()).await??;
    if full {
        return tokio::time::timeout(CONNECT, refuse(channel, open.id)).await?;
    }
    serve(driver, channel, open, stop).await
}

/// Tells the client that there are too many.
async fn refuse(channel: Channel, id: String) -> anyhow::Result<()> {
    let error = format!("this node serves {MOST_SESSIONS} streams into its pods already; end some of them");
    let frames = [
        SessionFrame { id, ..SessionFrame::default() },
        SessionFrame { end: true, error, ..SessionFrame::default() },
    ];
    let mut answers =
        ControlClient::new(channel).session(futures_util::stream::iter(frames)).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

/// How a session ended.
#[derive(Debug, Default)]
struct End {
    /// What went wrong; empty on success.
    error: String,
    /// Of a command.
    exit_code: Option<i32>,
}

/// One session: our first frame says which, then data, then the end. It ends early with the controller's side of
/// it, and when `stop` is cancelled.
pub async fn serve<E: ContainerEngine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    channel: Channel,
    open: SessionOpen,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    metrics::counter!("warren_agent_sessions_total").increment(1);
    let (frames, outgoing) = mpsc::channel(WINDOW);
    frames.send(SessionFrame { id: open.id.clone(), ..SessionFrame::default() }).await?;
    let mut client = ControlClient::new(channel);
    let moved = idle::Moved::default();
    let noting = moved.clone();
    let call = client.session(ReceiverStream::new(outgoing).inspect(move |_| noting.note()));
    let (arrived, incoming) = mpsc::channel(WINDOW);
    let gone = stop.child_token();
    let (open, output, given_up) = (&open, frames.clone(), gone.clone());
    let (accepted, wanted) = oneshot::channel();
    let work = async move {
        // Another agent may be asked the same if this one goes now: nothing is begun twice.
        tokio::select! {
            Ok(()) = wanted => {}
            () = given_up.cancelled() => return,
        }
        let end = answer(driver, open, &output, incoming, &given_up).await;
        let end = end.unwrap_or_else(|error| End { error, exit_code: None });
        let End { error, exit_code } = end;
        let last = SessionFrame { end: true, error, exit_code, ..SessionFrame::default() };
        tokio::select! {
            _ = output.send(last) => {}
            // Nobody takes it.
            () = given_up.cancelled() => {}
        }
    };
    let answers = async {
        let mut answers = call.await?.into_inner();
        let _ = accepted.send(());
        while let Some(frame) = answers.message().await? {
            moved.note();
            // What comes after the process has ended goes nowhere.
            let _ = arrived.send(frame).await;
        }
        anyhow::Ok(())
    };
    let (mut answers, mut work) = (std::pin::pin!(answers), std::pin::pin!(work));
    // While a process takes no input, that the other side has gone shows in the frames' stream alone.
    let ended = tokio::select! {
        ended = &mut answers => Some(ended),
        () = frames.closed() => Some(Ok(())),
        () = stop.cancelled() => Some(Ok(())),
        () = moved.stopped_for(MOST_IDLE), if !matches!(open.kind, Some(Kind::Logs(_))) => Some(Ok(())),
        () = &mut work => None,
    };
    if let Some(ended) = ended {
        // What was begun for it ends with it. Every step of that has a time-out.
        gone.cancel();
        work.await;
        return ended;
    }
    drop(frames);
    answers.await
}

/// Does what is asked, to its end or until the other side has gone.
async fn answer<E: ContainerEngine, L: Links>(
    driver: &Arc<Driver<E, L>>,
    open: &SessionOpen,
    frames: &mpsc::Sender<SessionFrame>,
    incoming: mpsc::Receiver<SessionFrame>,
    gone: &CancellationToken,
) -> Result<End, String> {
    if let Some(Kind::Exec(_) | Kind::Attach(_)) = &open.kind {
        return process::serve(driver, open, frames, incoming, gone).await;
    }
    let work = async {
        match &open.kind {
            Some(Kind::Logs(request)) => {
                let stream = logs::open(driver, &open.pod_uid, &open.container, request).await?;
                Ok(End { error: send(frames, stream).await, exit_code: None })
            }
            Some(Kind::PortForward(request)) => {
                let stream = port_forward::connect(driver, &open.pod_uid, request.port).await?;
                port_forward::carry(stream, frames, incoming).await
            }
            _ => Err("this agent does not know that kind of session; upgrade the node".to_owned()),
        }
    };
    tokio::select! {
        end = work => end,
        () = gone.cancelled() => Err(GONE.to_owned()),
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
