//! Names for pods, on a thread of its own, at the same address on every member.
//!
//! The cluster's names are answered from the zone; all others are passed on as they came, and so are the answers:
//! hickory-proto reads and writes what is ours, and what is others' stays bytes.

mod answers;
mod cache;
#[cfg(test)]
mod extremes;
mod forward;
mod handler;
mod listen;
mod places;
mod upstream;
mod wire;

use std::{collections::BTreeSet, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};
use warren_runtime::descriptors::Descriptors;

use self::{answers::Answers, forward::Forwarder, handler::Handler, listen::Listening};
use crate::{plan::zone::Zone, world::Network};

const PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_secs(10);
/// What fits into one datagram on every path: what we say that we take.
const DATAGRAM: u16 = 1_232;
/// Bytes of questions that may wait while this process starts again; the kernel counts a kilobyte for each.
const QUESTIONS: usize = 2 << 20;
/// How often the node's own nameservers are looked up again.
const RELOAD: Duration = Duration::from_secs(5);

/// What the server could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot listen.
    #[error("cannot listen for DNS on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Its thread does not answer.
    #[error("the DNS thread does not answer")]
    Gone,
    /// It cannot start.
    #[error("cannot start the DNS thread: {0}")]
    Start(io::Error),
}

struct Listen {
    address: SocketAddr,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// A handle on the DNS server; it ends when the handle is dropped.
pub struct DnsServer {
    zone: Arc<ArcSwap<Answers>>,
    commands: mpsc::Sender<Listen>,
}

impl DnsServer {
    /// Starts the thread, in the calling thread's network namespace. It listens once it has a zone.
    pub fn start(resolv_conf: PathBuf, descriptors: Descriptors) -> Result<Self, Error> {
        let zone = Arc::new(ArcSwap::from_pointee(Answers::default()));
        let (commands, inbox) = mpsc::channel(4);
        let handler_zone = Arc::clone(&zone);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::Start)?;
        let body = move || runtime.block_on(serve(handler_zone, resolv_conf, inbox, descriptors));
        std::thread::Builder::new().name("warren-dns".into()).spawn(body).map_err(Error::Start)?;
        Ok(Self { zone, commands })
    }

    /// Answers with `zone` from now on, at the network's DNS address.
    pub async fn publish(&self, zone: &Zone, network: &Network) -> Result<(), Error> {
        self.zone.store(Arc::new(Answers::new(zone, network)));
        let (answer, answered) = oneshot::channel();
        let address = (network.dns_address, PORT).into();
        let exchange = async {
            self.commands.send(Listen { address, answer }).await.map_err(|_| Error::Gone)?;
            answered.await.map_err(|_| Error::Gone)?
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| Error::Gone)?
    }

    /// Answers with what `zone` says of some names from now on; of all others as before.
    pub fn update(&self, zone: &Zone, names: &BTreeSet<String>) {
        self.zone.store(Arc::new(self.zone.load().updated(zone, names)));
    }
}

async fn serve(
    zone: Arc<ArcSwap<Answers>>,
    resolv_conf: PathBuf,
    mut inbox: mpsc::Receiver<Listen>,
    descriptors: Descriptors,
) {
    let forwarder = Arc::new(Forwarder::new(resolv_conf));
    let mut listening: Option<(SocketAddr, Listening)> = None;
    let mut reload = tokio::time::interval(RELOAD);
    loop {
        let command = tokio::select! {
            command = inbox.recv() => command,
            _ = reload.tick() => {
                let own = listening.as_ref().map(|(address, _)| address.ip());
                forwarder.reload(own);
                continue;
            }
        };
        let Some(Listen { address, answer }) = command else { return };
        if listening.as_ref().is_some_and(|(present, _)| *present == address) {
            let _ = answer.send(Ok(()));
            continue;
        }
        // Dropping the old server closes its sockets.
        listening = None;
        forwarder.reload(Some(address.ip()));
        let handler = Handler::new(Arc::clone(&zone), Arc::clone(&forwarder));
        let outcome = match listen(handler, address, &descriptors) {
            Ok(server) => {
                tracing::info!(%address, "answering DNS");
                listening = Some((address, server));
                Ok(())
            }
            Err(source) => Err(Error::Listen { address, source }),
        };
        let _ = answer.send(outcome);
    }
}

/// Listens on the sockets of an earlier process where there are any: questions wait in them.
fn listen(handler: Handler, address: SocketAddr, descriptors: &Descriptors) -> io::Result<Listening> {
    let datagrams = socket("dns.udp", Type::DGRAM, address, descriptors)?;
    let streams = socket("dns.tcp", Type::STREAM, address, descriptors)?;
    let datagrams = tokio::net::UdpSocket::from_std(datagrams.into())?;
    let streams = tokio::net::TcpListener::from_std(streams.into())?;
    Ok(Listening::start(handler, datagrams, streams))
}

fn socket(name: &str, kind: Type, address: SocketAddr, descriptors: &Descriptors) -> io::Result<Socket> {
    let is_meant =
        |socket: &Socket| socket.local_addr().is_ok_and(|bound| bound.as_socket() == Some(address));
    if let Some(socket) = descriptors.take(name).map(Socket::from).filter(is_meant) {
        tracing::info!(name, %address, "took over a socket");
        return Ok(socket);
    }
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(kind == Type::STREAM)?;
    // The address comes and goes with the tunnel's link; the socket may be there first.
    socket.set_freebind_v4(true)?;
    // An earlier one, for another address, would otherwise be held for ever.
    descriptors.forget(name);
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(128)?;
    } else if let Err(error) = setsockopt(&socket, sockopt::RcvBufForce, &QUESTIONS) {
        tracing::debug!(%error, "cannot enlarge the DNS socket's buffer");
    }
    descriptors.keep(name, &socket);
    Ok(socket)
}
