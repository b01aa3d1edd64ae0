//! Sockets and threads: one current_thread runtime for each data core, each with its own listeners
//! (SO_REUSEPORT), its own upstream connections, and its own graceful end.
//!
//! The kernel spreads connections over the sockets of a port, and resets those that wait in a socket that is
//! closed. So the supervisor holds every one of them: the next process takes the same sockets, with their queues.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use hyper::{
    rt::{Read, Write},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_runtime::descriptors::Descriptors;

use crate::{
    current::{Barrier, Routes},
    headers::Client,
    metrics::ActiveConnection,
    pool::{IDLE_TIMEOUT, Pool},
    proxy::{self, Worker},
};

const BACKLOG: i32 = 4096;
/// How long a client may take to send the head of a request, an idle connection included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// At a stop, how long clients on kept connections are told to leave before the connections are closed.
const FAREWELL: Duration = Duration::from_secs(1);
/// At a stop, how long requests and tunnels may go on.
const DRAIN: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(5);
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What to listen on, and with how many threads.
pub struct Listeners {
    /// Plain HTTP: HTTP/1.1 and HTTP/2 with prior knowledge.
    pub http: SocketAddr,
    /// HTTPS, with its certificate.
    pub https: Option<(SocketAddr, Arc<ServerConfig>)>,
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// How long an upstream may take to begin its response, from the end of the request on. Neither side's
    /// body is limited, nor is a tunnel.
    pub response_timeout: Duration,
}

/// A gateway that answers.
pub struct Serving {
    /// The listeners' real addresses: "http", "https".
    pub addresses: Vec<(&'static str, SocketAddr)>,
    workers: Vec<oneshot::Receiver<()>>,
}

impl Serving {
    /// Waits until every worker has drained and ended.
    pub async fn wait(self) -> anyhow::Result<()> {
        for worker in self.workers {
            worker.await.context("a worker thread ended by a panic")?;
        }
        Ok(())
    }
}

/// Listens, and starts the workers. They serve `routes` until `stop`, then drain for up to 10 s.
pub fn serve(
    listeners: Listeners,
    routes: &Arc<Routes>,
    stop: &CancellationToken,
) -> anyhow::Result<Serving> {
    serve_with(listeners, &Descriptors::default(), routes, stop)
}

/// Like [`serve`], on the listening sockets of an earlier process where there are any.
pub fn serve_with(
    listeners: Listeners,
    descriptors: &Descriptors,
    routes: &Arc<Routes>,
    stop: &CancellationToken,
) -> anyhow::Result<Serving> {
    let threads = match listeners.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let mut sockets: Vec<Sockets> = (0..threads).map(|_| Vec::new()).collect();
    let (http, plain) = listen("http", listeners.http, threads, descriptors)?;
    let mut addresses = vec![("http", http)];
    // There are more sockets than threads when an earlier process had more threads.
    for (index, socket) in plain.into_iter().enumerate() {
        sockets[index % threads].push((socket, None));
    }
    if let Some((address, config)) = listeners.https {
        let (https, secure) = listen("https", address, threads, descriptors)?;
        addresses.push(("https", https));
        for (index, socket) in secure.into_iter().enumerate() {
            sockets[index % threads].push((socket, Some(TlsAcceptor::from(config.clone()))));
        }
    }
    let mut workers = Vec::with_capacity(threads);
    for (index, sockets) in sockets.into_iter().enumerate() {
        let worker = Worker {
            routes: routes.clone(),
            pool: Arc::new(Pool::default()),
            connections: TaskTracker::new(),
            draining: AtomicBool::new(false),
            response_timeout: listeners.response_timeout,
        };
        workers.push(start(index, sockets, Arc::new(worker), stop.clone())?);
    }
    Ok(Serving { addresses, workers })
}

type Sockets = Vec<(std::net::TcpListener, Option<TlsAcceptor>)>;

/// At least one listening socket per thread, all on the same port: those of an earlier process, then new ones.
fn listen(
    name: &str,
    address: SocketAddr,
    threads: usize,
    descriptors: &Descriptors,
) -> anyhow::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    let explain = || {
        format!(
            "cannot listen on {address} for {name}: stop the program that has the port, or choose another"
        )
    };
    let mut sockets = BTreeMap::new();
    for (index, socket) in descriptors.take_all(&format!("{name}.")) {
        let socket = std::net::TcpListener::from(socket);
        match (index.parse::<usize>(), socket.local_addr()) {
            (Ok(index), Ok(bound)) if is_meant(address, bound) => {
                sockets.insert(index, socket);
            }
            _ => descriptors.forget(&format!("{name}.{index}")),
        }
    }
    if !sockets.is_empty() {
        tracing::info!(name, sockets = sockets.len(), "took over the listening sockets");
    }
    let mut bound = sockets.values().next().map_or(Ok(address), std::net::TcpListener::local_addr)?;
    for index in 0.. {
        if sockets.len() >= threads {
            break;
        }
        if let Entry::Vacant(vacant) = sockets.entry(index) {
            let socket = bind(bound).with_context(explain)?;
            bound = socket.local_addr()?;
            descriptors.keep(&format!("{name}.{index}"), &socket);
            vacant.insert(socket);
        }
    }
    Ok((bound, sockets.into_values().collect()))
}

/// Whether a socket bound there is what the configuration asks for.
fn is_meant(wanted: SocketAddr, bound: SocketAddr) -> bool {
    wanted.ip() == bound.ip() && (wanted.port() == 0 || wanted.port() == bound.port())
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts one worker thread; the receiver ends with it.
fn start(
    index: usize,
    sockets: Sockets,
    worker: Arc<Worker>,
    stop: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Registered before anything is accepted: no request escapes the barrier.
    let barriers = worker.routes.register();
    let (done, ended) = oneshot::channel();
    let work = move || {
        runtime.block_on(work(sockets, worker, barriers, stop));
        let _ = done.send(());
    };
    std::thread::Builder::new()
        .name(format!("gateway-{index}"))
        .spawn(work)
        .context("cannot start a worker thread")?;
    Ok(ended)
}

async fn work(
    sockets: Sockets,
    worker: Arc<Worker>,
    barriers: mpsc::UnboundedReceiver<Barrier>,
    stop: CancellationToken,
) {
    tokio::spawn(pass_barriers(worker.pool.clone(), barriers));
    tokio::spawn(sweep(worker.pool.clone()));
    let acceptors = TaskTracker::new();
    for (socket, tls) in sockets {
        acceptors.spawn(accept(worker.clone(), socket, tls, stop.clone()));
    }
    stop.cancelled().await;
    worker.draining.store(true, Ordering::Relaxed);
    acceptors.close();
    acceptors.wait().await;
    worker.connections.close();
    if timeout(DRAIN, worker.connections.wait()).await.is_err() {
        tracing::warn!(
            connections = worker.connections.len(),
            "connections did not end in time; closing them"
        );
    }
}

/// Answers each barrier once this thread has passed the swap of the table (see `current`).
async fn pass_barriers(pool: Arc<Pool>, mut barriers: mpsc::UnboundedReceiver<Barrier>) {
    while let Some(barrier) = barriers.recv().await {
        pool.close_retired();
        // Requests that were handed to a connection before this moment are written by the connection's
        // task, which is in this runtime's queue before us.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let _ = barrier.send(());
    }
}

async fn sweep(pool: Arc<Pool>) {
    const { assert!(SWEEP.as_secs() < IDLE_TIMEOUT.as_secs()) };
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        pool.sweep();
    }
}

async fn accept(
    worker: Arc<Worker>,
    socket: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot use a listening socket; stopping");
            return stop.cancel();
        }
    };
    let admit = |accepted: io::Result<(TcpStream, SocketAddr)>| match accepted {
        Ok((stream, peer)) => {
            let serving = connection(worker.clone(), stream, peer, tls.clone(), stop.clone());
            worker.connections.spawn(serving);
            true
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            false
        }
    };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => if !admit(accepted) {
                // Out of descriptors, most likely: give connections time to end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Those who have connected already are served; a closed socket would reset them.
    while let Ok(accepted) = timeout(Duration::ZERO, listener.accept()).await {
        if !admit(accepted) {
            return;
        }
    }
}

async fn connection(
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    let _active = ActiveConnection::new();
    let _ = stream.set_nodelay(true);
    // A client that vanished is noticed, also when it only listens.
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
    let client = Arc::new(Client::new(peer.ip(), tls.is_some()));
    let outcome = match tls {
        None => match timeout(HEADER_TIMEOUT, speaks_http2(&stream, &stop)).await {
            Ok(Some(true)) => serve_http2(worker, client, TokioIo::new(stream), &stop).await,
            Ok(Some(false)) => serve_http1(worker, client, TokioIo::new(stream), &stop).await,
            Ok(None) | Err(_) => return,
        },
        Some(acceptor) => {
            let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_http2(worker, client, TokioIo::new(stream), &stop).await
            } else {
                serve_http1(worker, client, TokioIo::new(stream), &stop).await
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
        loop {
            let read = stream.peek(&mut start).await.ok().filter(|read| *read > 0)?;
            if start[..read] != PREFACE[..read] {
                return Some(false);
            }
            if read == PREFACE.len() {
                return Some(true);
            }
            // A part of the preface: the rest is on its way, and the socket stays readable meanwhile.
            tokio::time::sleep(Duration::from_millis(5)).await;
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
    stop: &CancellationToken,
) -> hyper::Result<()>
where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| proxy::handle(worker.clone(), client.clone(), request));
    // No `pipeline_flush`: with it, hyper holds answers back while the read buffer is not empty, and never
    // sends the 400 to a malformed request.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = builder.serve_connection(io, service).with_upgrades();
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
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(256);
    let connection = builder.serve_connection(io, service);
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
