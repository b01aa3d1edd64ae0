//! Sockets and threads: one current_thread runtime for each data core, each with its own listeners
//! (SO_REUSEPORT), its own upstream connections, and its own graceful end.
//!
//! The kernel spreads connections over the sockets of a port, and resets those that wait in a socket that is
//! closed. So the supervisor holds every one of them: the next process takes the same sockets, with their queues.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_runtime::descriptors::Descriptors;

use crate::{
    budget::{Budget, Limits},
    connection,
    current::{Barrier, Routes},
    pool::{IDLE_TIMEOUT, Pool},
    proxy::{Patience, Worker},
    resume::{self, HeldSlot, Holder, Resumed, witness},
    sockets::{Listener, listen},
};

/// At a stop, how long requests and tunnels may go on.
const DRAIN: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(5);

/// What to listen on, and with how many threads.
pub struct Listeners {
    /// Plain HTTP: HTTP/1.1 and HTTP/2 with prior knowledge.
    pub http: SocketAddr,
    /// HTTPS, with its certificate.
    pub https: Option<(SocketAddr, Arc<ServerConfig>)>,
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// How long is waited for the two sides of a request.
    pub patience: Patience,
    /// Whose word about the clients behind them is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Bytes that connections and requests may occupy: as many are served at a time.
    pub memory: u64,
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

/// Like [`serve`], on the listening sockets of an earlier process where there are any, and with its clients'
/// connections if it died.
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
    let (holder, left) = Holder::start(descriptors);
    let mut inputs: Vec<WorkerInput> =
        (0..threads).map(|_| WorkerInput { holder: holder.clone(), ..WorkerInput::default() }).collect();
    for (index, resumed) in left.resumed.into_iter().enumerate() {
        inputs[index % threads].resumed.push(resumed);
    }
    let (http, plain) = listen("http", listeners.http, threads, descriptors)?;
    let mut addresses = vec![("http", http)];
    // There are more sockets than threads when an earlier process had more threads.
    for (index, socket) in plain.into_iter().enumerate() {
        inputs[index % threads].sockets.push((socket, None));
    }
    let tls = listeners.https.as_ref().map(|(_, config)| TlsAcceptor::from(config.clone()));
    if let Some((address, _)) = listeners.https {
        let (https, secure) = listen("https", address, threads, descriptors)?;
        addresses.push(("https", https));
        for (index, socket) in secure.into_iter().enumerate() {
            inputs[index % threads].sockets.push((socket, tls.clone()));
        }
    }
    let ports: Vec<u16> = addresses.iter().map(|(_, address)| address.port()).collect();
    for (index, stream) in left.new.into_iter().enumerate() {
        let port = stream.local_addr().map_or(0, |address| address.port());
        match ports.iter().position(|known| *known == port) {
            Some(0) => inputs[index % threads].new.push((stream, None)),
            Some(_) => inputs[index % threads].new.push((stream, tls.clone())),
            // An earlier configuration had other ports.
            None => {}
        }
    }
    if holder.is_some() {
        witness::start(descriptors, ports);
    }
    let limits = Limits::of(listeners.memory, threads);
    let proxies: Arc<[IpNet]> = listeners.trusted_proxies.into();
    let mut workers = Vec::with_capacity(threads);
    for (index, input) in inputs.into_iter().enumerate() {
        let worker = Worker {
            routes: routes.clone(),
            pool: Arc::new(Pool::default()),
            connections: TaskTracker::new(),
            draining: AtomicBool::new(false),
            patience: listeners.patience,
            proxies: proxies.clone(),
            places: Budget::new(limits.connections),
            in_flight: Budget::new(limits.requests),
        };
        workers.push(start(index, input, Arc::new(worker), stop.clone())?);
    }
    Ok(Serving { addresses, workers })
}

/// What one worker begins with.
#[derive(Default)]
struct WorkerInput {
    sockets: Vec<(std::net::TcpListener, Option<TlsAcceptor>)>,
    /// Connections that an earlier process left.
    resumed: Vec<Resumed>,
    /// Connections that it had only accepted.
    new: Vec<(std::net::TcpStream, Option<TlsAcceptor>)>,
    /// Where there is a supervisor.
    holder: Option<Arc<Holder>>,
}

/// Starts one worker thread; the receiver ends with it.
fn start(
    index: usize,
    input: WorkerInput,
    worker: Arc<Worker>,
    stop: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Registered before anything is accepted: no request escapes the barrier.
    let barriers = worker.routes.register();
    let (done, ended) = oneshot::channel();
    let work = move || {
        runtime.block_on(work(input, worker, barriers, stop));
        let _ = done.send(());
    };
    std::thread::Builder::new()
        .name(format!("gateway-{index}"))
        .spawn(work)
        .context("cannot start a worker thread")?;
    Ok(ended)
}

async fn work(
    input: WorkerInput,
    worker: Arc<Worker>,
    barriers: mpsc::UnboundedReceiver<Barrier>,
    stop: CancellationToken,
) {
    tokio::spawn(pass_barriers(worker.pool.clone(), barriers));
    tokio::spawn(sweep(worker.pool.clone()));
    let WorkerInput { sockets, resumed, new, holder } = input;
    let hold = |stream: &_| holder.as_ref().and_then(|holder| holder.hold(stream));
    let resumed = resumed.into_iter().map(|Resumed { stream, held_slot }| (stream, None, Some(held_slot)));
    let new = new.into_iter().map(|(stream, tls)| {
        let held_slot = if tls.is_none() { hold(&stream) } else { None };
        (stream, tls, held_slot)
    });
    for (stream, tls, held_slot) in resumed.chain(new) {
        let adopted = stream.peer_addr().and_then(|peer| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        });
        // An error means that the client has left.
        if let Ok((stream, peer)) = adopted {
            let serving = connection::serve(worker.clone(), stream, peer, tls, held_slot, stop.clone());
            worker.connections.spawn(serving);
        }
    }
    if let Some(holder) = &holder {
        tokio::spawn(resume::forget_released(holder.clone()));
    }
    let acceptors = TaskTracker::new();
    for (socket, tls) in sockets {
        // The state of TLS is in this process: such connections end with it.
        let holder = holder.clone().filter(|_| tls.is_none());
        acceptors.spawn(accept(worker.clone(), socket, tls, holder, stop.clone()));
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
    holder: Option<Arc<Holder>>,
    stop: CancellationToken,
) {
    let listener = match Listener::new(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot use a listening socket; stopping");
            return stop.cancel();
        }
    };
    let hold = |stream: &std::net::TcpStream| holder.as_ref().and_then(|holder| holder.hold(stream));
    let admit = |accepted: io::Result<(TcpStream, SocketAddr, Option<HeldSlot>)>| match accepted {
        Ok((stream, peer, held_slot)) => {
            let serving =
                connection::serve(worker.clone(), stream, peer, tls.clone(), held_slot, stop.clone());
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
            accepted = listener.accept(hold) => if !admit(accepted) {
                // Out of descriptors, most likely: give connections time to end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Those who have connected already are served; a closed socket would reset them.
    while let Ok(accepted) = timeout(Duration::ZERO, listener.accept(hold)).await {
        if !admit(accepted) {
            return;
        }
    }
}
