//! New connections to upstreams, and what can go wrong with an upstream.

use std::{error::Error as _, io, net::SocketAddr, time::Duration};

use http::StatusCode;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::{body::BodyError, headers::MAX_FIELDS, pool::Sender};

/// The longest head of a response, and what is read of a body before the client has taken it.
const BUFFER: usize = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing for so long is gone: its machine died, for a living kernel answers
/// probes even when its process is busy. The request is then repeated elsewhere, if that is safe. If not,
/// it used a connection that was alive a second ago: it fails within 4 s of the machine's end.
const SILENCE: Duration = Duration::from_millis(2_500);
/// The same for tunnels (WebSocket), which cannot be repeated.
const TUNNEL_SILENCE: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a connection for many requests is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why an attempt came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No process listens.
    Refused,
    /// No way there.
    Unreachable,
    /// No answer to the connection within [`CONNECT_TIMEOUT`].
    ConnectTimeout,
    /// This machine could not connect (out of descriptors or ports); the endpoint is not to blame.
    Local,
    /// The connection ended before any response.
    Closed,
    /// The connection died of silence before any response.
    Silent,
    /// It has had the whole request for too long without beginning a response.
    Overdue,
    /// What came back is not HTTP/1.1.
    Malformed,
    /// It takes nothing of the request.
    Stuck,
    /// The client's request body broke off.
    Client,
    /// The client sends its body too slowly.
    Slow,
    /// The request's body is longer than the route allows.
    TooLong(u64),
}

impl Failure {
    /// For metrics.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::Local => "local",
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Overdue => "overdue",
            Self::Malformed => "malformed",
            Self::Stuck => "stuck",
            Self::Client => "client",
            Self::Slow => "slow_client",
            Self::TooLong(_) => "too_long",
        }
    }

    /// Whether the client is to blame.
    pub(crate) fn is_clients(self) -> bool {
        matches!(self, Self::Client | Self::Slow | Self::TooLong(_))
    }

    /// Whether another attempt would do no better, or harm.
    pub(crate) fn is_final(self) -> bool {
        self.is_clients() || matches!(self, Self::Malformed | Self::Overdue | Self::Stuck)
    }

    /// What the client is told: the code, and what the backend did.
    pub(crate) fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused => (StatusCode::BAD_GATEWAY, "refused the connection"),
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "is unreachable"),
            Self::ConnectTimeout => (StatusCode::GATEWAY_TIMEOUT, "did not accept the connection in time"),
            Self::Local => {
                (StatusCode::BAD_GATEWAY, "could not be connected to: the gateway is out of resources")
            }
            Self::Closed => (StatusCode::BAD_GATEWAY, "closed the connection without a response"),
            Self::Silent => (StatusCode::GATEWAY_TIMEOUT, "stopped answering"),
            Self::Overdue => (StatusCode::GATEWAY_TIMEOUT, "did not begin to answer in time"),
            Self::Malformed => (StatusCode::BAD_GATEWAY, "sent a malformed response"),
            Self::Stuck => (StatusCode::GATEWAY_TIMEOUT, "stopped taking the request"),
            Self::Client => (StatusCode::BAD_REQUEST, "did not get the whole request: its body broke off"),
            Self::Slow => {
                (StatusCode::REQUEST_TIMEOUT, "did not get the whole request: its body came too slowly")
            }
            Self::TooLong(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "did not get the request: its body is too long")
            }
        }
    }

    /// Whether the endpoint as such is in doubt, and not only one connection or request.
    pub(crate) fn blames_endpoint(self) -> bool {
        matches!(self, Self::Refused | Self::Unreachable | Self::ConnectTimeout | Self::Silent)
    }

    fn from_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            _ => Self::Local,
        }
    }

    /// What an error after the request was handed over means.
    pub(crate) fn from_exchange(error: &hyper::Error) -> Self {
        match error.source().and_then(|source| source.downcast_ref::<BodyError>()) {
            Some(BodyError::TooSlow) => return Self::Slow,
            Some(BodyError::TooLong(most)) => return Self::TooLong(*most),
            Some(BodyError::Broken(_) | BodyError::Silent) => return Self::Client,
            None => {}
        }
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => Self::Silent,
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => Self::Unreachable,
            _ if error.is_user() => Self::Client,
            _ if error.is_parse() => Self::Malformed,
            _ => Self::Closed,
        }
    }
}

/// A fresh connection, ready for its first request.
pub(crate) async fn connect(
    address: SocketAddr,
    upgrades: bool,
    within: Option<Duration>,
) -> Result<Sender, Failure> {
    let stream = dial(address, within).await?;
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_FIELDS).max_buf_size(BUFFER);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| Failure::from_exchange(&error))?;
    // Errors reach the request that waits; an idle connection may simply end.
    if upgrades {
        tokio::spawn(connection.with_upgrades());
    } else {
        tokio::spawn(connection);
    }
    Ok(Sender::Http1(sender))
}

/// A fresh connection for many requests at a time.
pub(crate) async fn connect_http2(address: SocketAddr, within: Option<Duration>) -> Result<Sender, Failure> {
    let stream = dial(address, within).await?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(BUFFER as u32);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| Failure::from_exchange(&error))?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

async fn dial(address: SocketAddr, within: Option<Duration>) -> Result<TcpStream, Failure> {
    let within = within.unwrap_or(CONNECT_TIMEOUT);
    let stream = match tokio::time::timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "cannot connect to an upstream");
            return Err(Failure::from_connect(&error));
        }
        Err(_) => return Err(Failure::ConnectTimeout),
    };
    watch(&stream, SILENCE);
    Ok(stream)
}

/// No delay for small writes, and death noticed after `silence`. Best effort: a socket that cannot be
/// tuned still works.
fn watch(stream: &TcpStream, silence: Duration) {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PROBE_INTERVAL).with_interval(PROBE_INTERVAL);
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&probes))
        .and_then(|()| socket.set_tcp_user_timeout(Some(silence)));
    if let Err(error) = tuned {
        tracing::debug!(%error, "cannot tune an upstream's socket");
    }
}

/// A tunnel bears a longer silence than a request.
pub(crate) fn relax(stream: &TcpStream) {
    watch(stream, TUNNEL_SILENCE);
}
