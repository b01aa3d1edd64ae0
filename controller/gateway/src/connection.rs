//! One client's connection: which protocol it speaks, and its orderly end.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{io::Interest, net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::within,
    body,
    forwarding::Client,
    headers::MAX_FIELDS,
    metrics::{self, ActiveConnection},
    proxy::{self, Worker},
    resume::{HeldSlot, Progress, Stream, peek, peer_has_ended},
    wire::Wire,
};

/// How long a client may take to send the head of a request, an idle connection included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// At a stop, how long clients on kept connections are told to leave before the connections are closed.
const FAREWELL: Duration = Duration::from_secs(1);
/// The longest head of a request, and what is read of a body before the upstream has taken it.
const BUFFER: usize = 64 << 10;
/// What one HTTP/2 connection may occupy: streams, and for each what an upstream has not taken, and what the client has
/// not.
const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BUFFER: usize = 32 << 10;
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a client's connection to its end. `held_slot` when it outlives this process.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    held_slot: Option<HeldSlot>,
    stop: CancellationToken,
) {
    // Clients behind a proxy share its connections.
    let proxied = within(&worker.proxies, peer.ip());
    let taking = worker.places.take(peer.ip());
    if taking.is_none() && !proxied {
        metrics::refused_connection();
        return drop(Stream::new(stream, held_slot));
    }
    let _active = ActiveConnection::new();
    let _ = stream.set_nodelay(true);
    // A client that vanished is noticed, also when it only listens.
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
    let port = stream.local_addr().map_or(0, |address| address.port());
    let client = Arc::new(Client::new(peer.ip(), tls.is_some(), port, &worker.proxies));
    let outcome = match tls {
        None => match timeout(HEADER_TIMEOUT, speaks_http2(&stream, &stop)).await {
            // Its state is in this process: the stream is an ordinary one.
            Ok(Some(true)) => serve_http2(worker, client, Stream::passing(stream, held_slot), &stop).await,
            Ok(Some(false)) => {
                let stream = Stream::new(stream, held_slot);
                let progress = stream.progress();
                serve_http1(worker, client, stream, progress, &stop).await
            }
            // As if it had been served: an end that the client hears.
            Ok(None) | Err(_) => return drop(Stream::new(stream, held_slot)),
        },
        Some(acceptor) => {
            let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_http2(worker, client, TokioIo::new(stream), &stop).await
            } else {
                serve_http1(worker, client, TokioIo::new(stream), None, &stop).await
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a client's connection broke off");
    }
}

/// Whether the client begins with HTTP/2's preface; nothing is consumed. `None` when it sends nothing.
async fn speaks_http2(stream: &TcpStream, stop: &CancellationToken) -> Option<bool> {
    let look = async {
        let mut start = [0; PREFACE.len()];
        let mut known = 0;
        loop {
            stream.readable().await.ok()?;
            let mut seen = Ok(0);
            let _ = stream.try_io(Interest::READABLE, || {
                seen = peek(stream, &mut start);
                match &seen {
                    // All that there is: the socket counts as ready again only when more has come.
                    Ok(read @ 1..) if start[..*read] == PREFACE[..*read] && *read < PREFACE.len() => {
                        Err(io::ErrorKind::WouldBlock.into())
                    }
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.kind().into()),
                }
            });
            let read = match seen {
                Ok(0) => return None,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return None,
            };
            if start[..read] != PREFACE[..read] {
                return Some(false);
            }
            if read == PREFACE.len() {
                return Some(true);
            }
            // A part of the preface. A client that ends there is always ready, and never has more.
            if read == known && peer_has_ended(stream) {
                return Some(false);
            }
            known = read;
        }
    };
    let leave = async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        seen = look => seen,
        () = leave => None,
    }
}

async fn serve_http1<I>(
    worker: Arc<Worker>,
    client: Arc<Client>,
    io: I,
    progress: Option<Arc<Progress>>,
    stop: &CancellationToken,
) -> hyper::Result<()>
where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (progress, method) = (progress.clone(), request.method().clone());
        let answer = proxy::handle(worker.clone(), client.clone(), request);
        async move { answer.await.map(|response| body::watch(response, &method, progress)) }
    });
    // No `pipeline_flush`: with it, hyper holds answers back while the read buffer is not empty, and never
    // sends the 400 to a malformed request.
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_FIELDS)
        .max_buf_size(BUFFER);
    let connection = builder.serve_connection(Wire::http1(io), service).with_upgrades();
    drive(connection, stop, FAREWELL, |connection| connection.graceful_shutdown()).await
}

async fn serve_http2<I>(
    worker: Arc<Worker>,
    client: Arc<Client>,
    io: I,
    stop: &CancellationToken,
) -> hyper::Result<()>
where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| proxy::handle(worker.clone(), client.clone(), request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(BUFFER as u32)
        .max_send_buf_size(SEND_BUFFER);
    let connection = builder.serve_connection(Wire::http2(io), service);
    // GOAWAY needs no farewell: it says which requests were seen.
    drive(connection, stop, Duration::ZERO, |connection| connection.graceful_shutdown()).await
}

/// Serves a connection to its end. After `stop` the client has `farewell` to see `Connection: close` on a
/// response; then an idle connection is closed, and a busy one after its response.
async fn drive<C>(
    connection: C,
    stop: &CancellationToken,
    farewell: Duration,
    shut_down: impl FnOnce(Pin<&mut C>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => return outcome,
        () = stop.cancelled() => {}
    }
    if let Ok(outcome) = timeout(farewell, connection.as_mut()).await {
        return outcome;
    }
    shut_down(connection.as_mut());
    connection.await
}
