//! Sessions: streams into pods through connections that the agent opens.
//!
//! ```text
//!  logs(), session() ──SessionOpen{id}──► agent        (on the Sessions stream, always open)
//!  logs(), session() ◄──frames, bounded── Session(id)  (dialled by the agent in answer)
//!          session() ──frames, bounded──► Session(id)  (exec, attach, port-forward)
//! ```
//!
//! Back-pressure: a reader that is slow fills the channel, the channel stops the reading of the HTTP/2 stream,
//! the stream's window stops the agent; the same in the other direction. A client that has gone ends the agent's
//! call; and because that end waits behind what a process does not take, the agent is told on its Sessions stream, too.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;
use warren_proto::control::{LogsRequest, SessionFrame, SessionOpen, session_open::Kind};

use crate::{Nodes, identity::Caller};

/// How long the agent may take to dial.
const DIAL: Duration = Duration::from_secs(10);
/// How long an agent may be away: longer than its back-off after the controller or its network came back.
const RETURN: Duration = Duration::from_secs(10);
/// How many frames may wait for a slow reader; each is at most as long as the gate lets through, and a node has so
/// many sessions at a time as the gate allows it.
const FRAMES: usize = 2;
/// How many requests may wait on a node's Sessions stream.
const REQUESTS: usize = 64;

/// Why a stream into a pod could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The agent is not there.
    #[error("node {node} is not connected to the controller; its pods cannot be reached until it is")]
    Disconnected {
        /// The node's name.
        node: String,
    },
    /// Too many requests wait.
    #[error("node {node} does not keep up with requests for streams; try again")]
    Busy {
        /// The node's name.
        node: String,
    },
    /// The agent did not dial.
    #[error("node {node} did not open the stream within {} seconds", DIAL.as_secs())]
    TimedOut {
        /// The node's name.
        node: String,
    },
}

/// Both directions of an exec, attach or port-forward. Dropping either half ends the agent's call.
#[derive(Debug)]
pub struct Session {
    /// To the process.
    pub input: mpsc::Sender<SessionFrame>,
    /// From the process. The frame with `end`, or an error, is the last item.
    pub output: mpsc::Receiver<Result<SessionFrame, String>>,
}

type LogOutput = mpsc::Sender<Result<Bytes, String>>;
type FrameOutput = mpsc::Sender<Result<SessionFrame, String>>;

/// What the agent's call is connected to.
enum Client {
    Log(LogOutput),
    Both { input: mpsc::Receiver<SessionFrame>, output: FrameOutput },
}

/// A client that waits for the agent to dial.
struct Waiting {
    node: String,
    client: Client,
    dialled: oneshot::Sender<()>,
}

/// An agent's Sessions stream.
#[derive(Clone)]
struct Agent {
    /// No other stream has this number.
    stream: Uuid,
    requests: mpsc::Sender<Result<SessionOpen, Status>>,
}

/// Open Sessions streams by node, and readers by session.
#[derive(Default)]
pub(crate) struct Sessions {
    agents: Mutex<BTreeMap<String, Agent>>,
    waiting: Mutex<BTreeMap<String, Waiting>>,
    /// Told of every agent that opens its stream.
    arrived: Notify,
}

/// Forgets a reader that stopped waiting, however it stopped.
struct Forget<'a>(&'a Sessions, String);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().remove(&self.1);
    }
}

impl Nodes {
    /// A container's log, as the agent sends it. The stream ends with the log; an error is its last item.
    pub async fn logs(
        &self,
        pod_uid: &str,
        node: &str,
        container: &str,
        request: LogsRequest,
    ) -> Result<ReceiverStream<Result<Bytes, String>>, SessionError> {
        let (output, frames) = mpsc::channel(FRAMES);
        self.open(pod_uid, node, container, Kind::Logs(request), Client::Log(output)).await?;
        Ok(ReceiverStream::new(frames))
    }

    /// Anything but a log: a stream in both directions.
    pub async fn session(
        &self,
        pod_uid: &str,
        node: &str,
        container: &str,
        kind: Kind,
    ) -> Result<Session, SessionError> {
        let (input, to_agent) = mpsc::channel(FRAMES);
        let (from_agent, output) = mpsc::channel(FRAMES);
        let client = Client::Both { input: to_agent, output: from_agent };
        self.open(pod_uid, node, container, kind, client).await?;
        Ok(Session { input, output })
    }

    /// Asks the agent, and waits until it dialled.
    async fn open(
        &self,
        pod_uid: &str,
        node: &str,
        container: &str,
        kind: Kind,
        client: Client,
    ) -> Result<(), SessionError> {
        let id = Uuid::new_v4().to_string();
        let open = SessionOpen {
            id: id.clone(),
            pod_uid: pod_uid.to_owned(),
            container: container.to_owned(),
            kind: Some(kind),
        };
        let (dialled, mut arrival) = oneshot::channel();
        let _forget = Forget(&self.sessions, id.clone());
        self.sessions.waiting.lock().insert(id, Waiting { node: node.to_owned(), client, dialled });
        let disconnected = || SessionError::Disconnected { node: node.to_owned() };
        let dialling = async {
            let mut asked = self.sessions.ask(node, &open).await?;
            let answered = async {
                loop {
                    tokio::select! {
                        dialled = &mut arrival => return dialled.map_err(|_| disconnected()),
                        // The agent may have gone with the request. One that has it already takes it once.
                        () = self.sessions.newer(node, asked) => {
                            asked = self.sessions.ask(node, &open).await?;
                        }
                    }
                }
            };
            let away = SessionError::TimedOut { node: node.to_owned() };
            tokio::time::timeout(DIAL, answered).await.unwrap_or(Err(away))
        };
        tokio::select! {
            dialled = dialling => dialled,
            // No agent comes any more.
            () = self.closing.cancelled() => Err(disconnected()),
        }
    }

    /// The stream on which this node learns of requests. An older stream of the same node ends.
    pub(crate) fn open_sessions(&self, caller: &Caller) -> ReceiverStream<Result<SessionOpen, Status>> {
        let (requests, stream) = mpsc::channel(REQUESTS);
        let agent = Agent { stream: Uuid::new_v4(), requests };
        self.sessions.agents.lock().insert(caller.name.clone(), agent);
        self.sessions.arrived.notify_waiters();
        ReceiverStream::new(stream)
    }

    /// The agent dialled: connects its frames to the waiting reader.
    pub(crate) async fn accept_session(
        &self,
        caller: &Caller,
        mut frames: Streaming<SessionFrame>,
    ) -> Result<ReceiverStream<Result<SessionFrame, Status>>, Status> {
        let first = tokio::time::timeout(DIAL, frames.message()).await.map_err(|_| {
            Status::deadline_exceeded("the first frame of a session must come within ten seconds")
        })??;
        let first =
            first.ok_or_else(|| Status::invalid_argument("a session's first frame must carry its id"))?;
        let waiting = self.sessions.take(caller, &first.id)?;
        // The reader may have given up in this very moment; then the output is closed, and `pump` ends at once.
        let _ = waiting.dialled.send(());
        metrics::counter!("warren_nodes_sessions_total").increment(1);
        let (answers, stream) = mpsc::channel(1);
        let closing = self.closing.clone();
        let over = SessionOpen { id: first.id.clone(), ..SessionOpen::default() };
        // Weak: the agent's next stream must end this one.
        let agent = self.sessions.agents.lock().get(&caller.name).map(|agent| agent.requests.downgrade());
        self.streams.spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                left = connect(waiting.client, first, frames, &answers) => {
                    if let Some(agent) = agent.filter(|_| left).and_then(|agent| agent.upgrade()) {
                        let _ = agent.try_send(Ok(over));
                    }
                }
            }
            // Dropped here: the response ends, and with it the agent's call.
            drop(answers);
        });
        Ok(ReceiverStream::new(stream))
    }
}

impl Sessions {
    /// Ends every node's Sessions stream.
    pub(crate) fn close(&self) {
        self.agents.lock().clear();
    }

    /// Asks an agent; one that is away is waited for, so that a restarted controller serves streams as if nothing
    /// had been. The answer says which of its streams it was asked on.
    async fn ask(&self, node: &str, open: &SessionOpen) -> Result<Uuid, SessionError> {
        let asking = async {
            loop {
                // Registered before the look: an agent that comes in between is not missed.
                let mut arrived = std::pin::pin!(self.arrived.notified());
                arrived.as_mut().enable();
                match self.request(node, open.clone()) {
                    Err(SessionError::Disconnected { .. }) => arrived.await,
                    outcome => return outcome,
                }
            }
        };
        let away = SessionError::Disconnected { node: node.to_owned() };
        tokio::time::timeout(RETURN, asking).await.unwrap_or(Err(away))
    }

    /// Waits until an agent has opened another stream than this one.
    async fn newer(&self, node: &str, stream: Uuid) {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if self.agents.lock().get(node).is_some_and(|agent| agent.stream != stream) {
                return;
            }
            arrived.await;
        }
    }

    fn request(&self, node: &str, open: SessionOpen) -> Result<Uuid, SessionError> {
        let agent = self.agents.lock().get(node).cloned();
        let node = node.to_owned();
        let Some(agent) = agent else { return Err(SessionError::Disconnected { node }) };
        match agent.requests.try_send(Ok(open)) {
            Ok(()) => Ok(agent.stream),
            Err(mpsc::error::TrySendError::Full(_)) => Err(SessionError::Busy { node }),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SessionError::Disconnected { node }),
        }
    }

    /// The reader of a session; only its own node may answer.
    fn take(&self, caller: &Caller, id: &str) -> Result<Waiting, Status> {
        let mut waiting = self.waiting.lock();
        match waiting.get(id) {
            Some(reader) if reader.node == caller.name => {}
            _ => return Err(Status::not_found("nobody waits for this session (any more)")),
        }
        waiting.remove(id).ok_or_else(|| Status::not_found("nobody waits for this session"))
    }
}

/// Joins a client and the agent's call until either side is done; whether the client left first.
async fn connect(
    client: Client,
    first: SessionFrame,
    frames: Streaming<SessionFrame>,
    answers: &mpsc::Sender<Result<SessionFrame, Status>>,
) -> bool {
    match client {
        Client::Log(output) => {
            pump(first, frames, &output).await;
            output.is_closed()
        }
        Client::Both { input, output } => {
            tokio::select! {
                () = deliver(frames, &output) => output.is_closed(),
                () = forward(input, answers) => true,
            }
        }
    }
}

/// From the client to the agent, until the client has gone.
async fn forward(
    mut input: mpsc::Receiver<SessionFrame>,
    answers: &mpsc::Sender<Result<SessionFrame, Status>>,
) {
    while let Some(frame) = input.recv().await {
        if answers.send(Ok(frame)).await.is_err() {
            // The agent's call has ended: `deliver` says how.
            return std::future::pending().await;
        }
    }
}

/// From the agent to the client, until the end or until the client has gone.
async fn deliver(mut frames: Streaming<SessionFrame>, output: &FrameOutput) {
    loop {
        let next = tokio::select! {
            () = output.closed() => return,
            next = frames.message() => next,
        };
        let (item, last) = match next {
            Ok(Some(frame)) => {
                let last = frame.end;
                (Ok(frame), last)
            }
            Ok(None) => (Err(broken_because("the node ended the stream early")), true),
            Err(status) => (Err(broken_because(status.message())), true),
        };
        if output.send(item).await.is_err() || last {
            return;
        }
    }
}

/// Hands frames to the reader until the log ends or the reader has gone.
async fn pump(first: SessionFrame, mut frames: Streaming<SessionFrame>, output: &LogOutput) {
    let mut frame = first;
    loop {
        let SessionFrame { data, end, error, .. } = frame;
        if !data.is_empty() && output.send(Ok(Bytes::from(data))).await.is_err() {
            return;
        }
        if end {
            if !error.is_empty() {
                let _ = output.send(Err(error)).await;
            }
            return;
        }
        let next = tokio::select! {
            () = output.closed() => return,
            next = frames.message() => next,
        };
        frame = match next {
            Ok(Some(next)) => next,
            Ok(None) => return broken(output, "the node ended the stream early").await,
            Err(status) => return broken(output, status.message()).await,
        };
    }
}

async fn broken(output: &LogOutput, reason: &str) {
    let _ = output.send(Err(broken_because(reason))).await;
}

fn broken_because(reason: &str) -> String {
    format!("the connection to the node broke: {reason}")
}
