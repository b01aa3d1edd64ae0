//! Port-forward: each connection of the client is a session of its own with the node, so one that stands still
//! does not hold up the others there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::response::Response;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future::BoxFuture};
use http::request::Parts;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use warren_proto::control::{PortForwardRequest, SessionFrame, session_open::Kind};

use super::{
    PATIENCE, Pod, Switch, pieces,
    spdy::{Frame, Headers, PROTOCOL_ERROR, REFUSED_STREAM, SpdyError, header},
    upgrade::{Transport, negotiate},
    wire::{self, FAREWELL, KEEP_ALIVE, Reader, Writer},
};
use crate::{Session, query::Query, status::Status};

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";
/// Connections of one client at a time.
const MOST_CONNECTIONS: usize = 1_000;
/// Ports of one WebSocket: channels are numbered by a byte, two for each.
const MOST_PORTS: usize = 127;
/// Pieces that may wait for a slow pod; then the client's whole connection waits, as SPDY has no better way here.
const PIECES: usize = 32;
/// How long a connection's second stream may take to follow the first.
const STREAMS_OPEN: Duration = Duration::from_secs(30);
/// How a v5 client says that it sends nothing more.
const CLOSE_CHANNEL: u8 = 255;

/// Opens a connection to a port of the pod.
pub(super) type Dial = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<Session, String>> + Send + Sync>;

/// Opens port-forwarding for a request.
pub(super) fn open(
    pod: &Pod<'_>,
    parts: &Parts,
    query: &Query,
    slot: OwnedSemaphorePermit,
) -> Result<Response, Status> {
    if pod.object["status"]["phase"] != "Running" {
        let phase = pod.object["status"]["phase"].as_str().unwrap_or("Unknown");
        let message = format!("unable to forward port because pod is not running. Current status={phase}");
        return Err(Status::bad_request(message));
    }
    let transport = negotiate(&parts.headers, &[PROTOCOL], &[TUNNEL, V5, V4])?;
    let dial = dial(pod);
    let connections = &pod.api.connections;
    let switch = Switch { parts, transport: &transport, kind: "portforward", connections, slot };
    match transport {
        Transport::Spdy { .. } => switch.serve(move |io| async move {
            let (read, write) = tokio::io::split(io);
            serve_spdy(read, write, dial).await;
        }),
        Transport::WebSocket { protocol: TUNNEL, .. } => switch.serve(move |io| async move {
            let (read, write) = wire::tunnel(wire::websocket(io).await);
            serve_spdy(read, write, dial).await;
        }),
        Transport::WebSocket { .. } => {
            let ports = ports(query)?;
            switch.serve(move |io| async move {
                serve_websocket(wire::websocket(io).await, &ports, dial).await;
            })
        }
    }
}

fn dial(pod: &Pod<'_>) -> Dial {
    let (streams, pod) = (Arc::clone(&pod.api.streams), pod.reference.clone());
    Arc::new(move |port| {
        let (streams, pod) = (Arc::clone(&streams), pod.clone());
        Box::pin(async move {
            let kind = Kind::PortForward(PortForwardRequest { port: port.into() });
            match timeout(PATIENCE, streams.open(&pod, "", kind)).await {
                Ok(opened) => opened.map_err(|error| error.to_string()),
                Err(_) => Err(format!("node {} did not answer within {} s", pod.node, PATIENCE.as_secs())),
            }
        })
    })
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(0) => Err(format!("port {text:?} must be > 0")),
        Ok(port) => Ok(port),
        Err(error) => Err(format!("unable to parse {text:?} as a port: {error}")),
    }
}

fn ports(query: &Query) -> Result<Vec<u16>, Status> {
    let texts = query.all("ports").into_iter().flat_map(|text| text.split(','));
    let ports: Result<Vec<u16>, String> = texts.filter(|text| !text.is_empty()).map(port).collect();
    let ports = ports.map_err(Status::bad_request)?;
    match ports.len() {
        0 => Err(Status::bad_request("query parameter \"ports\" is required")),
        1..=MOST_PORTS => Ok(ports),
        _ => Err(Status::bad_request(format!("at most {MOST_PORTS} ports may be forwarded at once"))),
    }
}

/// Joins one connection: what is `received` ends when the client sends nothing more. What comes from the pod goes to `take`,
/// which is told once of the end, with a reason if it is a bad one.
async fn join<Taken: Future<Output = bool>>(
    session: Result<Session, String>,
    mut received: mpsc::Receiver<Bytes>,
    mut take: impl FnMut(Result<Bytes, Option<String>>) -> Taken,
) {
    let Session { input, mut output } = match session {
        Ok(session) => session,
        Err(why) => {
            take(Err(Some(why))).await;
            return;
        }
    };
    let upwards = async {
        while let Some(data) = received.recv().await {
            for data in pieces(data) {
                // An agent's call that has ended says how in the other direction.
                let _ = input.send(SessionFrame { data: data.into(), ..SessionFrame::default() }).await;
            }
        }
        let _ = input.send(SessionFrame { close: true, ..SessionFrame::default() }).await;
        // Not dropped: that would end the other direction, too.
        std::future::pending::<()>().await;
    };
    let downwards = async {
        let mut told = false;
        loop {
            let frame = match output.recv().await {
                Some(Ok(frame)) => frame,
                Some(Err(why)) => SessionFrame { end: true, error: why, ..SessionFrame::default() },
                None => SessionFrame { end: true, ..SessionFrame::default() },
            };
            if !frame.data.is_empty() && !take(Ok(frame.data.into())).await {
                return;
            }
            if (frame.close || frame.end) && !told {
                take(Err(Some(frame.error).filter(|error| !error.is_empty()))).await;
                told = true;
            }
            if frame.end {
                return;
            }
        }
    };
    tokio::select! {
        () = upwards => {}
        () = downwards => {}
    }
}

// ---- SPDY --------------------------------------------------------------------------------------

/// A connection whose two streams have not both come.
struct Half {
    error: Option<u32>,
    data: Option<Data>,
    since: Instant,
}

impl Half {
    /// Its streams, as far as they have come.
    fn streams(&self) -> impl Iterator<Item = u32> {
        self.error.into_iter().chain(self.data.as_ref().map(|data| data.stream))
    }
}

/// The client's side of a data stream.
struct Data {
    stream: u32,
    pieces: mpsc::Receiver<Bytes>,
    /// Resolves when the client resets the stream.
    reset: oneshot::Receiver<()>,
}

/// A connection under way.
struct Joined {
    pieces: Option<mpsc::Sender<Bytes>>,
    /// Dropped with it: the connection is reset.
    _reset: oneshot::Sender<()>,
}

/// All connections of one client.
struct Forwarding<W> {
    writer: Writer<W>,
    dial: Dial,
    halves: BTreeMap<String, Half>,
    /// By data stream.
    connections: BTreeMap<u32, Joined>,
    errors: BTreeSet<u32>,
    tasks: JoinSet<(u32, u32)>,
}

/// Port-forwarding over SPDY, whatever carries it.
pub(super) async fn serve_spdy<R, W>(read: R, write: W, dial: Dial)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let writer = Writer::new(write);
    let mut forwarding = Forwarding {
        writer: writer.clone(),
        dial,
        halves: BTreeMap::new(),
        connections: BTreeMap::new(),
        errors: BTreeSet::new(),
        tasks: JoinSet::new(),
    };
    tokio::select! {
        gone = forwarding.run(Reader::new(read)) => tracing::debug!(?gone, "the client of a port-forward has gone"),
        lost = writer.keep_alive() => tracing::debug!(?lost, "the client of a port-forward is lost"),
    }
    forwarding.tasks.shutdown().await;
    writer.close().await;
}

impl<W: AsyncWrite + Unpin + Send + 'static> Forwarding<W> {
    async fn run<R: AsyncRead + Unpin>(&mut self, mut reader: Reader<R>) -> Result<(), SpdyError> {
        let mut patience = Instant::now() + STREAMS_OPEN;
        loop {
            tokio::select! {
                frame = reader.next() => match frame? {
                    Some(Frame::GoAway) | None => return Ok(()),
                    Some(frame) => self.take(frame).await?,
                },
                () = tokio::time::sleep_until(patience) => {
                    patience = Instant::now() + STREAMS_OPEN;
                    self.give_up_halves().await?;
                }
                Some(done) = self.tasks.join_next() => {
                    if let Ok((data, error)) = done {
                        self.connections.remove(&data);
                        self.errors.remove(&error);
                    }
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { stream, fin, headers } => return self.open(stream, fin, &headers).await,
            Frame::Data { stream, fin, data } => {
                let Some(joined) = self.connections.get_mut(&stream) else { return Ok(()) };
                if let Some(pieces) = joined.pieces.as_ref().filter(|_| !data.is_empty()) {
                    // A connection that has ended takes nothing more.
                    let _ = pieces.send(data).await;
                }
                if fin {
                    joined.pieces = None;
                }
            }
            Frame::Reset { stream, .. } => {
                self.connections.remove(&stream);
                let lost = |half: &Half| half.streams().any(|known| known == stream);
                for (_, half) in self.halves.extract_if(.., |_, half| lost(half)) {
                    half.error.map(|error| self.errors.remove(&error));
                    half.data.map(|data| self.connections.remove(&data.stream));
                }
            }
            Frame::Ping(id) if id % 2 == 1 => self.writer.send(&Frame::Ping(id)).await?,
            _ => {}
        }
        Ok(())
    }

    /// Streams whose other half has not come for long are reset.
    async fn give_up_halves(&mut self) -> Result<(), SpdyError> {
        let late: Vec<Half> = self
            .halves
            .extract_if(.., |_, half| half.since.elapsed() >= STREAMS_OPEN)
            .map(|(_, half)| half)
            .collect();
        for stream in late.iter().flat_map(Half::streams) {
            self.errors.remove(&stream);
            self.connections.remove(&stream);
            self.writer.send(&Frame::Reset { stream, status: PROTOCOL_ERROR }).await?;
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: &Headers) -> Result<(), SpdyError> {
        let kind = header(headers, "streamtype");
        let known = self.errors.contains(&stream) || self.connections.contains_key(&stream);
        let port = match port(header(headers, "port")) {
            Ok(port) if matches!(kind, "error" | "data") && !known => port,
            _ => return Ok(self.writer.send(&Frame::Reset { stream, status: PROTOCOL_ERROR }).await?),
        };
        if self.connections.len().max(self.halves.len()) >= MOST_CONNECTIONS {
            return Ok(self.writer.send(&Frame::Reset { stream, status: REFUSED_STREAM }).await?);
        }
        // Clients of old number no requests; their data stream follows the error stream.
        let request = match header(headers, "requestid") {
            "" => format!("stream {}", if kind == "data" { stream.saturating_sub(2) } else { stream }),
            id => id.to_owned(),
        };
        let new = || Half { error: None, data: None, since: Instant::now() };
        let half = self.halves.entry(request.clone()).or_insert_with(new);
        let twice = if kind == "error" { half.error.is_some() } else { half.data.is_some() };
        if twice {
            return Ok(self.writer.send(&Frame::Reset { stream, status: PROTOCOL_ERROR }).await?);
        }
        self.writer.send(&Frame::SynReply { stream, fin: false, headers: Headers::new() }).await?;
        if kind == "error" {
            half.error = Some(stream);
            self.errors.insert(stream);
        } else {
            let (sender, pieces) = mpsc::channel(PIECES);
            let (resetting, reset) = oneshot::channel();
            half.data = Some(Data { stream, pieces, reset });
            let joined = Joined { pieces: Some(sender).filter(|_| !fin), _reset: resetting };
            self.connections.insert(stream, joined);
        }
        if half.error.is_some() && half.data.is_some() {
            self.begin(&request, port);
        }
        Ok(())
    }

    /// Both streams are there.
    fn begin(&mut self, request: &str, port: u16) {
        let Some(Half { error: Some(error), data: Some(data), .. }) = self.halves.remove(request) else {
            return;
        };
        let (writer, dial) = (self.writer.clone(), Arc::clone(&self.dial));
        let Data { stream, pieces, reset } = data;
        self.tasks.spawn(async move {
            let told = AtomicBool::new(false);
            let take = |piece: Result<Bytes, Option<String>>| {
                let (writer, told) = (writer.clone(), &told);
                async move {
                    let sent = match piece {
                        Ok(piece) => writer.data(stream, piece, false).await,
                        Err(why) => {
                            told.store(true, Ordering::Relaxed);
                            finish(&writer, stream, error, port, why).await
                        }
                    };
                    sent.is_ok()
                }
            };
            tokio::select! {
                () = async { join(dial(port).await, pieces, take).await } => {}
                // A client that resets the data waits for the end of the error stream all the same.
                _ = reset => if !told.load(Ordering::Relaxed) {
                    let _ = writer.data(error, Bytes::new(), true).await;
                }
            }
            (stream, error)
        });
    }
}

/// Nothing more comes from the pod. kubectl waits for both streams' end.
async fn finish<W: AsyncWrite + Unpin>(
    writer: &Writer<W>,
    data: u32,
    error: u32,
    port: u16,
    why: Option<String>,
) -> std::io::Result<()> {
    let text = why.map(|why| format!("error forwarding port {port}: {why}")).unwrap_or_default();
    writer.data(error, text, true).await?;
    writer.data(data, Bytes::new(), true).await
}

// ---- WebSocket ---------------------------------------------------------------------------------

/// Port-forwarding with a pair of channels for each port, as Python's client and kube-rs do it.
pub(super) async fn serve_websocket<S>(socket: WebSocketStream<S>, ports: &[u16], dial: Dial)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, mut stream) = socket.split();
    let sink = Arc::new(Mutex::new(sink));
    let (mut senders, mut tasks) = (Vec::new(), JoinSet::new());
    for (index, port) in ports.iter().copied().enumerate() {
        let (sender, pieces) = mpsc::channel(PIECES);
        senders.push(Some(sender));
        let channel = u8::try_from(2 * index).unwrap_or(u8::MAX);
        for channel in [channel, channel + 1] {
            let message = message(channel, &port.to_le_bytes());
            if sink.lock().await.send(message).await.is_err() {
                return;
            }
        }
        let (sink, dial) = (Arc::clone(&sink), Arc::clone(&dial));
        tasks.spawn(async move {
            let take = |piece: Result<Bytes, Option<String>>| {
                let sink = Arc::clone(&sink);
                async move {
                    let message = match piece {
                        Ok(piece) => message(channel, &piece),
                        Err(Some(why)) => message(channel + 1, why.as_bytes()),
                        Err(None) => return true,
                    };
                    sink.lock().await.send(message).await.is_ok()
                }
            };
            join(dial(port).await, pieces, take).await;
        });
    }
    let receiving = async {
        while let Some(Ok(message)) = stream.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => text.into(),
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            hand_on(&mut senders, data).await;
        }
    };
    let mut receiving = std::pin::pin!(receiving);
    let ended = async {
        while tasks.join_next().await.is_some() {}
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.lock().await.send(Message::Close(Some(close))).await
    };
    let alive = async {
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            if let Err(error) = sink.lock().await.send(Message::Ping(Bytes::new())).await {
                return error;
            }
        }
    };
    tokio::select! {
        () = &mut receiving => tracing::debug!("the client of a port-forward has gone"),
        lost = alive => tracing::debug!(%lost, "the client of a port-forward is lost"),
        closed = ended => if closed.is_ok() {
            let _ = timeout(FAREWELL, receiving).await;
        },
    }
}

/// A client's message to the connection that it names.
async fn hand_on(senders: &mut [Option<mpsc::Sender<Bytes>>], mut data: Bytes) {
    if data.is_empty() {
        return;
    }
    let rest = data.split_off(1);
    match data[0] {
        CLOSE_CHANNEL => {
            if let Some(sender) = rest.first().and_then(|channel| senders.get_mut(usize::from(channel / 2))) {
                *sender = None;
            }
        }
        channel if channel % 2 == 0 && !rest.is_empty() => {
            if let Some(Some(sender)) = senders.get(usize::from(channel / 2)) {
                let _ = sender.send(rest).await;
            }
        }
        _ => {}
    }
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    Message::Binary(message.into())
}
