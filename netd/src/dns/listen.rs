//! The sockets: datagrams and streams in, answers out.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use super::{
    handler::{Handler, Reply},
    upstream::{read_message, write_message},
};

/// How long a stream may be idle, and how long a client may take for a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Streams at once, in all and of one source.
const STREAMS: usize = 512;
const STREAMS_OF_SOURCE: usize = 32;
/// After an error that concerns no single client.
const PAUSE: Duration = Duration::from_millis(50);
const LARGEST: usize = 65_535;

/// Both sockets' tasks; they end when it is dropped.
pub(super) struct Listening {
    _tasks: JoinSet<()>,
}

impl Listening {
    pub(super) fn start(handler: Handler, datagrams: UdpSocket, streams: TcpListener) -> Self {
        let handler = Arc::new(handler);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_datagrams(Arc::clone(&handler), Arc::new(datagrams)));
        tasks.spawn(serve_streams(handler, streams));
        Self { _tasks: tasks }
    }
}

async fn serve_datagrams(handler: Arc<Handler>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; LARGEST];
    let mut waiting = JoinSet::new();
    loop {
        while waiting.try_join_next().is_some() {}
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Such as that an earlier answer did not reach its client.
                tracing::debug!(%error, "cannot receive DNS questions");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match handler.now(&buffer[..length], from.ip(), false) {
            Reply::Nothing => {}
            Reply::Now(answer) => send(&socket, &answer, from).await,
            // As many of them at once as there are places and lines.
            Reply::Later(later) => {
                let (handler, socket) = (Arc::clone(&handler), Arc::clone(&socket));
                waiting.spawn(async move { send(&socket, &handler.later(*later).await, from).await });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to).await {
        tracing::debug!(%error, %to, "a DNS answer was not sent");
    }
}

async fn serve_streams(handler: Arc<Handler>, listener: TcpListener) {
    let open = Arc::new(Mutex::new(HashMap::<IpAddr, usize>::new()));
    let mut streams = JoinSet::new();
    loop {
        while streams.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot accept DNS clients");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(counted) = Counted::new(&open, from.ip(), streams.len()) else { continue };
        let handler = Arc::clone(&handler);
        streams.spawn(async move {
            let _counted = counted;
            if let Err(error) = serve_stream(&handler, stream, from.ip()).await {
                tracing::trace!(%error, %from, "a DNS client left");
            }
        });
    }
}

/// One question after the other: the answers come in their order.
async fn serve_stream(handler: &Handler, mut stream: TcpStream, source: IpAddr) -> io::Result<()> {
    loop {
        let message = within(read_message(&mut stream)).await?;
        let answer = match handler.now(&message, source, true) {
            Reply::Nothing => return Ok(()),
            Reply::Now(answer) => answer,
            Reply::Later(later) => handler.later(*later).await,
        };
        within(write_message(&mut stream, &answer)).await?;
    }
}

async fn within<T>(call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, call).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// One stream of a source, as long as it lives.
struct Counted {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    source: IpAddr,
}

impl Counted {
    /// `None` when there are too many.
    fn new(open: &Arc<Mutex<HashMap<IpAddr, usize>>>, source: IpAddr, all: usize) -> Option<Self> {
        let mut counts = open.lock();
        let count = counts.get(&source).copied().unwrap_or(0);
        if all >= STREAMS || count >= STREAMS_OF_SOURCE {
            return None;
        }
        counts.insert(source, count + 1);
        drop(counts);
        Some(Self { open: Arc::clone(open), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.open.lock();
        match counts.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.source)),
        }
    }
}
