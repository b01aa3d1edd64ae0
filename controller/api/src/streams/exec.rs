//! exec and attach: up to five streams of one process over one connection.

use std::{future::pending, time::Duration};

use axum::response::Response;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use warren_proto::control::{ContainerStreams, ExecRequest, SessionFrame, TerminalSize, session_open::Kind};

use super::{
    Pod, Switch, pieces,
    spdy::{Frame, Headers, PROTOCOL_ERROR, SpdyError, header},
    upgrade::{Transport, negotiate},
    wire::{self, FAREWELL, KEEP_ALIVE, Reader, Writer},
};
use crate::{Session, query::Query, status::Status};

const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";
/// Of clients that read what a process writes and nothing else: how it ended is said of failures alone, in words.
const V1: &str = "channel.k8s.io";
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// Channels of a WebSocket that are not the process's.
const STATUS_CHANNEL: u8 = 3;
const RESIZE_CHANNEL: u8 = 4;
const CLOSE_CHANNEL: u8 = 255;
/// How long the client may take to open the streams that it asked for.
const STREAMS_OPEN: Duration = Duration::from_secs(30);
/// Sizes are short; a client that sends anything else is not listened to.
const MOST_RESIZE: usize = 4096;

/// Opens exec (or attach) for a request.
pub(super) async fn open(
    pod: &Pod<'_>,
    parts: &Parts,
    query: &Query,
    exec: bool,
    slot: OwnedSemaphorePermit,
) -> Result<Response, Status> {
    let streams = wanted(query)?;
    let command: Vec<String> = query.all("command").into_iter().map(str::to_owned).collect();
    if exec && command.iter().all(String::is_empty) {
        return Err(Status::bad_request("you must specify at least one command for the container"));
    }
    let verb = if exec { "exec into" } else { "attach to" };
    let container = pod.running_container(query.text("container"), verb)?;
    let transport = negotiate(&parts.headers, &[V4], &[V5, V4, V1])?;
    super::upgrade::upgradable(parts)?;
    let kind = if exec {
        Kind::Exec(ExecRequest { command, streams: Some(streams) })
    } else {
        Kind::Attach(streams)
    };
    let session = pod.session(&container, kind).await?;
    let kind = if exec { "exec" } else { "attach" };
    let switch = Switch { parts, transport: &transport, kind, connections: &pod.api.connections, slot };
    match transport {
        Transport::Spdy { .. } => switch.serve(move |io| serve_spdy(io, session, streams)),
        Transport::WebSocket { protocol, .. } => switch.serve(move |io| async move {
            serve_websocket(wire::websocket(io).await, session, streams, protocol == V1).await;
        }),
    }
}

fn wanted(query: &Query) -> Result<ContainerStreams, Status> {
    let tty = query.flag("tty")?;
    let streams = ContainerStreams {
        stdin: query.flag("stdin")?,
        stdout: query.flag("stdout")?,
        // A terminal has one output.
        stderr: query.flag("stderr")? && !tty,
        tty,
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

// ---- what both transports share ----------------------------------------------------------------

/// Kubernetes' `Status` about how the process ended.
fn outcome(end: Option<Result<SessionFrame, String>>) -> Value {
    let failed = |why: String| Status::internal(why).to_value();
    match end {
        Some(Ok(end)) if !end.error.is_empty() => failed(end.error),
        Some(Ok(SessionFrame { exit_code: Some(code), .. })) if code != 0 => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Some(Ok(_)) => json!({"metadata": {}, "status": "Success"}),
        Some(Err(why)) => failed(why),
        None => failed("the controller is stopping".to_owned()),
    }
}

/// To the process's standard input. A process that has ended takes nothing more, which its end will say.
async fn write(input: &mpsc::Sender<SessionFrame>, data: Bytes) {
    for data in pieces(data) {
        let _ = input.send(SessionFrame { data: data.into(), ..SessionFrame::default() }).await;
    }
}

async fn close_input(input: &mpsc::Sender<SessionFrame>) {
    let _ = input.send(SessionFrame { channel: STDIN, close: true, ..SessionFrame::default() }).await;
}

async fn resize(input: &mpsc::Sender<SessionFrame>, size: Size) {
    let size = TerminalSize { width: size.width.into(), height: size.height.into() };
    let _ = input.send(SessionFrame { resize: Some(size), ..SessionFrame::default() }).await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// Sizes from a stream that may be cut anywhere.
#[derive(Default)]
struct Sizes(Vec<u8>);

impl Sizes {
    fn push(&mut self, data: &[u8]) -> Vec<Size> {
        self.0.extend_from_slice(&data[..data.len().min(MOST_RESIZE)]);
        let mut values = serde_json::Deserializer::from_slice(&self.0).into_iter::<Size>();
        let (mut sizes, mut nonsense) = (Vec::new(), false);
        for value in values.by_ref() {
            match value {
                Ok(size) => sizes.push(size),
                Err(error) => {
                    nonsense = !error.is_eof();
                    break;
                }
            }
        }
        let read = if nonsense { self.0.len() } else { values.byte_offset() };
        self.0.drain(..read);
        if self.0.len() > MOST_RESIZE {
            self.0.clear();
        }
        sizes
    }
}

// ---- SPDY --------------------------------------------------------------------------------------

/// What the client calls its streams.
#[derive(Debug, Clone, Copy, Default)]
struct Streams {
    error: Option<u32>,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

impl Streams {
    /// Notes a stream; false for one that is not expected.
    fn note(&mut self, wanted: ContainerStreams, stream: u32, headers: &Headers) -> bool {
        let (place, expected) = match header(headers, "streamtype") {
            "error" => (&mut self.error, true),
            "stdin" => (&mut self.stdin, wanted.stdin),
            "stdout" => (&mut self.stdout, wanted.stdout),
            "stderr" => (&mut self.stderr, wanted.stderr),
            "resize" => (&mut self.resize, wanted.tty),
            _ => return false,
        };
        let fits = expected && place.is_none();
        if fits {
            *place = Some(stream);
        }
        fits
    }

    fn complete(&self, wanted: ContainerStreams) -> bool {
        self.error.is_some()
            && (self.stdin.is_some() || !wanted.stdin)
            && (self.stdout.is_some() || !wanted.stdout)
            && (self.stderr.is_some() || !wanted.stderr)
            && (self.resize.is_some() || !wanted.tty)
    }

    fn output(&self, channel: u32) -> Option<u32> {
        match channel {
            STDOUT => self.stdout,
            STDERR => self.stderr,
            _ => None,
        }
    }
}

/// One process over SPDY.
pub(super) async fn serve_spdy<S: AsyncRead + AsyncWrite>(io: S, session: Session, wanted: ContainerStreams) {
    let (read, write) = tokio::io::split(io);
    let writer = Writer::new(write);
    let (opened, streams) = oneshot::channel();
    let Session { input, output } = session;
    let receiving = receive(Reader::new(read), writer.clone(), input, wanted, opened);
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        gone = &mut receiving => return tracing::debug!(?gone, "the client of a process has gone"),
        lost = writer.keep_alive() => return tracing::debug!(?lost, "the client of a process is lost"),
        sent = transmit(output, &writer, streams) => {
            if let Err(error) = sent {
                return tracing::debug!(%error, "the client of a process cannot be written to");
            }
        }
    }
    // Read to the end, or the system would throw away what the client has not read yet.
    let _ = timeout(FAREWELL, receiving).await;
    writer.close().await;
}

/// From the client, until it closes. Owns the input: when this ends, so does the session.
async fn receive<R, W>(
    mut reader: Reader<R>,
    writer: Writer<W>,
    input: mpsc::Sender<SessionFrame>,
    wanted: ContainerStreams,
    opened: oneshot::Sender<Streams>,
) -> Result<(), SpdyError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut streams, mut opened, mut sizes) = (Streams::default(), Some(opened), Sizes::default());
    while let Some(frame) = reader.next().await? {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                if !streams.note(wanted, stream, &headers) {
                    writer.send(&Frame::Reset { stream, status: PROTOCOL_ERROR }).await?;
                    continue;
                }
                writer.send(&Frame::SynReply { stream, fin: false, headers: Headers::new() }).await?;
                if fin && streams.stdin == Some(stream) {
                    close_input(&input).await;
                }
                if let Some(opened) = opened.take_if(|_| streams.complete(wanted)) {
                    let _ = opened.send(streams);
                }
            }
            Frame::Data { stream, fin, data } if streams.stdin == Some(stream) => {
                write(&input, data).await;
                if fin {
                    close_input(&input).await;
                }
            }
            Frame::Data { stream, data, .. } if streams.resize == Some(stream) => {
                for size in sizes.push(&data) {
                    resize(&input, size).await;
                }
            }
            Frame::Reset { stream, .. } if streams.stdin == Some(stream) => close_input(&input).await,
            Frame::Ping(id) if id % 2 == 1 => writer.send(&Frame::Ping(id)).await?,
            Frame::GoAway => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// From the process to the client, to the very end.
async fn transmit<W: AsyncWrite + Unpin>(
    mut output: mpsc::Receiver<Result<SessionFrame, String>>,
    writer: &Writer<W>,
    opened: oneshot::Receiver<Streams>,
) -> std::io::Result<()> {
    let streams = match timeout(STREAMS_OPEN, opened).await {
        Ok(Ok(streams)) => streams,
        // The reading side ends at this very moment and says why.
        Ok(Err(_)) => return pending().await,
        Err(_) => {
            return Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the client did not open its streams",
            ));
        }
    };
    let end = loop {
        match output.recv().await {
            Some(Ok(frame)) => {
                if let Some(stream) = streams.output(frame.channel).filter(|_| !frame.data.is_empty()) {
                    writer.data(stream, frame.data.clone(), false).await?;
                }
                if frame.end {
                    break Some(Ok(frame));
                }
            }
            end => break end,
        }
    };
    for stream in [streams.stdout, streams.stderr].into_iter().flatten() {
        writer.data(stream, Bytes::new(), true).await?;
    }
    if let Some(stream) = streams.error {
        writer.data(stream, outcome(end).to_string(), true).await?;
    }
    Ok(())
}

// ---- WebSocket ---------------------------------------------------------------------------------

/// One process over a WebSocket, one byte of channel before each message.
pub(super) async fn serve_websocket<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    session: Session,
    wanted: ContainerStreams,
    is_old: bool,
) {
    let (mut sink, mut stream) = socket.split();
    let Session { input, mut output } = session;
    let receiving = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) => message_in(&input, data).await,
                // Python's client sends texts.
                Message::Text(text) => message_in(&input, text.into()).await,
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        drop(input);
    };
    let transmitting = async {
        // Says that the streams are there, as Kubernetes does.
        let first = if wanted.stdout { 1 } else { STATUS_CHANNEL };
        sink.send(Message::Binary(vec![first].into())).await?;
        let end = loop {
            let item = match timeout(KEEP_ALIVE, output.recv()).await {
                Ok(item) => item,
                Err(_) => {
                    sink.send(Message::Ping(Bytes::new())).await?;
                    continue;
                }
            };
            match item {
                Some(Ok(frame)) => {
                    let asked = (frame.channel == STDOUT && wanted.stdout)
                        || (frame.channel == STDERR && wanted.stderr);
                    if asked && !frame.data.is_empty() {
                        sink.send(message_out(u8::try_from(frame.channel).unwrap_or(1), &frame.data)).await?;
                    }
                    if frame.end {
                        break Some(Ok(frame));
                    }
                }
                end => break end,
            }
        };
        let outcome = outcome(end);
        if !is_old {
            sink.send(message_out(STATUS_CHANNEL, outcome.to_string().as_bytes())).await?;
        } else if let Some(message) = outcome["message"].as_str() {
            sink.send(message_out(STATUS_CHANNEL, message.as_bytes())).await?;
        }
        sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await
    };
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        () = &mut receiving => tracing::debug!("the client of a process has gone"),
        sent = transmitting => match sent {
            Ok(()) => drop(timeout(FAREWELL, receiving).await),
            Err(error) => tracing::debug!(%error, "the client of a process cannot be written to"),
        },
    }
}

fn message_out(channel: u8, data: &[u8]) -> Message {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    Message::Binary(message.into())
}

async fn message_in(input: &mpsc::Sender<SessionFrame>, mut message: Bytes) {
    if message.is_empty() {
        return;
    }
    let data = message.split_off(1);
    match message[0] {
        0 => write(input, data).await,
        RESIZE_CHANNEL => {
            if let Ok(size) = serde_json::from_slice(&data) {
                resize(input, size).await;
            }
        }
        CLOSE_CHANNEL if data.as_ref() == [0] => close_input(input).await,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_be_cut_anywhere() {
        let mut sizes = Sizes::default();
        let text = br#"{"Width":80,"Height":24}
{"Width":100,"Height":30}"#;
        let read: Vec<Size> = text.iter().flat_map(|byte| sizes.push(&[*byte])).collect();
        assert_eq!(read, [Size { width: 80, height: 24 }, Size { width: 100, height: 30 }]);
        assert!(sizes.push(b"nonsense").is_empty() && sizes.0.is_empty());
        assert_eq!(sizes.push(br#"{"Width":1,"Height":2}"#), [Size { width: 1, height: 2 }]);
        for _ in 0..10 {
            sizes.push(&[b' '; 3000]);
        }
        assert!(sizes.0.len() <= 2 * MOST_RESIZE, "{} bytes are kept", sizes.0.len());
    }

    #[test]
    fn an_end_becomes_the_status_that_clients_know() {
        let end = |exit_code: Option<i32>, error: &str| {
            let error = error.to_owned();
            outcome(Some(Ok(SessionFrame { end: true, exit_code, error, ..SessionFrame::default() })))
        };
        assert_eq!(end(Some(0), "")["status"], "Success");
        assert_eq!(end(None, "")["status"], "Success");
        let failed = end(Some(3), "");
        assert_eq!((&failed["status"], &failed["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
        assert_eq!(failed["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
        assert_eq!(end(None, "no such container")["reason"], "InternalError");
        assert_eq!(outcome(None)["status"], "Failure");
    }

    #[test]
    fn only_what_was_asked_for_is_opened() {
        let wanted = wanted(&Query::parse(Some("stdin=True&stdout=1&stderr=true&tty=true"))).unwrap();
        assert!(wanted.stdin && wanted.stdout && wanted.tty && !wanted.stderr);
        let mut streams = Streams::default();
        let named = |kind: &str| vec![("streamtype".to_owned(), kind.to_owned())];
        assert!(streams.note(wanted, 1, &named("error")) && !streams.note(wanted, 3, &named("error")));
        assert!(!streams.note(wanted, 5, &named("stderr")) && !streams.note(wanted, 7, &named("other")));
        for (stream, kind) in [(9, "stdin"), (11, "stdout"), (13, "resize")] {
            assert!(!streams.complete(wanted));
            assert!(streams.note(wanted, stream, &named(kind)));
        }
        assert!(streams.complete(wanted));
        assert!(super::wanted(&Query::parse(Some("tty=true&stderr=true"))).is_err());
    }
}
