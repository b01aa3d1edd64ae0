//! New connections to upstreams, and what can go wrong with an upstream.

use std::{error::Error as _, io, net::SocketAddr, time::Duration};

use http::StatusCode;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::pool::Sender;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing for so long is gone: its machine died, for a living kernel answers
/// probes even when its process is busy. The request is then repeated elsewhere, if that is safe. If not,
/// it used a connection that was alive a second ago: it fails within 4 s of the machine's end.
const SILENCE: Duration = Duration::from_millis(2_500);
/// The same for tunnels (WebSocket), which cannot be repeated.
const TUNNEL_SILENCE: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Why an attempt came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody listens.
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
    /// The client's request body broke off.
    Client,
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
            Self::Client => "client",
        }
    }

    /// What the client is told: the code, and what the backend did.
    pub(crate) fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused => (StatusCode::BAD_GATEWAY, "refused the connection"),
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "is unreachable"),
            Self::ConnectTimeout => (StatusCode::GATEWAY_TIMEOUT, "did not accept the connection within 1 s"),
            Self::Local => {
                (StatusCode::BAD_GATEWAY, "could not be connected to: the gateway is out of resources")
            }
            Self::Closed => (StatusCode::BAD_GATEWAY, "closed the connection without a response"),
            Self::Silent => (StatusCode::GATEWAY_TIMEOUT, "stopped answering"),
            Self::Overdue => (StatusCode::GATEWAY_TIMEOUT, "did not begin to answer in time"),
            Self::Malformed => (StatusCode::BAD_GATEWAY, "sent a malformed response"),
            Self::Client => (StatusCode::BAD_REQUEST, "did not get the whole request: its body broke off"),
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
pub(crate) async fn connect(address: SocketAddr, upgrades: bool) -> Result<Sender, Failure> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "cannot connect to an upstream");
            return Err(Failure::from_connect(&error));
        }
        Err(_) => return Err(Failure::ConnectTimeout),
    };
    watch(&stream, SILENCE);
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| Failure::from_exchange(&error))?;
    // Errors reach the request that waits; an idle connection may simply end.
    if upgrades {
        tokio::spawn(connection.with_upgrades());
    } else {
        tokio::spawn(connection);
    }
    Ok(sender)
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
