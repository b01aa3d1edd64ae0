//! The embedded WireGuard: gotatun, driven by its typed interface on a thread and runtime of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use gotatun::{
    device::{self, Device, Peer},
    x25519::PublicKey,
};
use ipnet::Ipv4Net;
use tokio::sync::{mpsc, oneshot, watch};
use tun_rs::DeviceBuilder;
use warren_proto::vocabulary::WireGuardKey;

use super::{
    Backend, Error, KEEPALIVE, Options, PeerState, Tunnel,
    transport::{SegmentedFactory, TunReceiver, TunSender},
};
use crate::plan::peers::{DevicePeer, PeerChange};

type Embedded = Device<(SegmentedFactory, TunSender, TunReceiver)>;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new peer may take to answer the first handshake before other work goes on.
const GREETING: Duration = Duration::from_millis(10);

enum Command {
    Peers(oneshot::Sender<BTreeMap<WireGuardKey, PeerState>>),
    Change(PeerChange, oneshot::Sender<Result<(), Error>>),
}

/// A handle on the embedded device. The device ends when the handle is dropped.
pub(super) struct UserspaceTunnel {
    commands: mpsc::Sender<Command>,
    ended: watch::Receiver<Option<String>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl UserspaceTunnel {
    /// Makes the TUN device, or adopts the one that a previous process left, and starts the thread, in the calling thread's network namespace.
    pub(super) async fn open(options: &Options) -> Result<Self, Error> {
        let (commands, inbox) = mpsc::channel(64);
        let (end, ended) = watch::channel(None);
        let (ready, started) = oneshot::channel();
        let options = options.clone();
        let body = move || {
            let outcome = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| failure("start the runtime", error))
                .map(|runtime| runtime.block_on(serve(options, inbox, ready)));
            let reason = outcome.unwrap_or_else(|error| error.to_string());
            end.send_replace(Some(reason));
        };
        let thread = std::thread::Builder::new()
            .name("warren-tunnel".into())
            .spawn(body)
            .map_err(|source| Error::Device { what: "start the tunnel's thread".into(), source })?;
        let tunnel = Self { commands, ended, thread: Some(thread) };
        started.await.map_err(|_| tunnel.stopped())??;
        Ok(tunnel)
    }

    fn stopped(&self) -> Error {
        Error::Stopped(self.ended.borrow().clone().unwrap_or_else(|| "its thread is gone".into()))
    }

    async fn ask<T>(&self, what: &str, command: Command, answer: oneshot::Receiver<T>) -> Result<T, Error> {
        let exchange = async {
            self.commands.send(command).await.map_err(|_| self.stopped())?;
            answer.await.map_err(|_| self.stopped())
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(failure(what, "the tunnel's thread did not answer")),
        }
    }
}

impl Drop for UserspaceTunnel {
    fn drop(&mut self) {
        // The closed channel ends the thread; waiting frees the device's name before we return.
        self.commands = mpsc::channel(1).0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Tunnel for UserspaceTunnel {
    fn backend(&self) -> Backend {
        Backend::Userspace
    }

    fn peers(&self) -> BoxFuture<'_, Result<BTreeMap<WireGuardKey, PeerState>, Error>> {
        let (answer, answered) = oneshot::channel();
        Box::pin(self.ask("list the peers", Command::Peers(answer), answered))
    }

    fn change<'a>(&'a self, change: &'a PeerChange) -> BoxFuture<'a, Result<(), Error>> {
        let (answer, answered) = oneshot::channel();
        Box::pin(async move {
            self.ask("change a peer", Command::Change(change.clone(), answer), answered).await?
        })
    }

    fn failed(&self) -> BoxFuture<'_, Error> {
        let mut ended = self.ended.clone();
        Box::pin(async move {
            let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            Error::Stopped(reason.unwrap_or_else(|| "its thread is gone".into()))
        })
    }
}

fn failure(what: &str, reason: impl std::fmt::Display) -> Error {
    Error::Embedded { what: what.to_owned(), reason: reason.to_string() }
}

/// The thread: builds the device, answers commands, says why it ended.
async fn serve(
    options: Options,
    mut inbox: mpsc::Receiver<Command>,
    ready: oneshot::Sender<Result<(), Error>>,
) -> String {
    let mut device = match build(&options).await {
        Ok(device) => device,
        Err(error) => {
            let reason = error.to_string();
            let _ = ready.send(Err(error));
            return reason;
        }
    };
    let _ = ready.send(Ok(()));
    let reason = loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Peers(answer)) => { let _ = answer.send(peers(&device).await); }
                Some(Command::Change(change, answer)) => { let _ = answer.send(apply(&mut device, change).await); }
                None => break "it was told to".to_owned(),
            },
            () = device.wait() => break "its link was removed or its socket failed".to_owned(),
        }
    };
    device.stop().await;
    reason
}

async fn build(options: &Options) -> Result<Embedded, Error> {
    let what = format!("make the link {}", options.interface);
    let mtu = u16::try_from(options.mtu).unwrap_or(u16::MAX);
    let device = DeviceBuilder::new()
        .name(&options.interface)
        .mtu(mtu)
        .offload(true)
        .build_async()
        .and_then(|device| {
            // The link stays when this process ends, with its addresses and the routes that name them: pods on
            // this node go on reaching each other, and nothing meant for the overlay leaves in the clear.
            device.persist()?;
            Ok(device)
        })
        .map_err(|source| explain(what, &options.interface, source))?;
    let device = Arc::new(device);
    let (sender, writing) = TunSender::new(Arc::clone(&device));
    tokio::spawn(writing);
    let device = device::build()
        .with_udp(SegmentedFactory::new(options.descriptors.clone()))
        .with_ip_pair(sender, TunReceiver::new(device, mtu))
        .with_private_key(options.key.secret())
        .with_listen_port(options.port)
        .build()
        .await
        .map_err(|error| failure("start the embedded WireGuard", error))?;
    // A device without peers does not open its socket by itself; later peers would stay mute.
    let opened = device.clear_peers().await;
    opened.map_err(|error| failure(&format!("listen on UDP port {}", options.port), error))?;
    Ok(device)
}

fn explain(what: String, interface: &str, source: io::Error) -> Error {
    let mend = match source.raw_os_error() {
        Some(libc::EBUSY) => format!("another process holds {interface}; is a second netd running?"),
        Some(libc::EPERM) => "netd needs CAP_NET_ADMIN".to_owned(),
        Some(libc::ENOENT) => "this machine has no /dev/net/tun".to_owned(),
        _ => return Error::Device { what, source },
    };
    Error::Embedded { what, reason: format!("{source}: {mend}") }
}

async fn peers(device: &Embedded) -> BTreeMap<WireGuardKey, PeerState> {
    let read = |state: device::configure::PeerStats| {
        let allowed = state.peer.allowed_ips.iter().filter_map(|net| match net.network() {
            IpAddr::V4(address) => Ipv4Net::new(address, net.prefix()).ok(),
            IpAddr::V6(_) => None,
        });
        let peer = DevicePeer { endpoint: state.peer.endpoint, allowed: allowed.collect() };
        let key = WireGuardKey(state.peer.public_key.to_bytes());
        let stats = state.stats;
        let (received, sent) = (stats.rx_bytes as u64, stats.tx_bytes as u64);
        (key, PeerState { peer, handshake_age: stats.last_handshake, received, sent })
    };
    device.peers().await.into_iter().map(read).collect()
}

/// Takes a peer up and shakes hands with it at once, not when there is traffic: one that knew an earlier session of ours
/// sends with keys that nobody has any more. The answer is not waited for beyond a moment; it is retried.
async fn meet(device: &mut Embedded, mut peer: Peer) -> Result<bool, device::Error> {
    let (key, is_somewhere) = (peer.public_key, peer.endpoint.is_some());
    peer.keepalive = Some(KEEPALIVE);
    let added = device.add_peer(peer).await?;
    if added && is_somewhere {
        let _ = tokio::time::timeout(GREETING, device.force_handshake(&key)).await;
    }
    Ok(added)
}

/// Meets a peer anew at its new place: who answers there need not have the keys of the session with the old one, and would
/// be sent what nobody can read for a quarter of a minute.
async fn meet_elsewhere(
    device: &mut Embedded,
    key: &PublicKey,
    endpoint: SocketAddr,
) -> Result<bool, device::Error> {
    let mut known = device.peers().await.into_iter().map(|state| state.peer);
    let Some(mut peer) = known.find(|peer| peer.public_key == *key) else { return Ok(false) };
    peer.endpoint = Some(endpoint);
    device.remove_peer(key).await?;
    meet(device, peer).await
}

async fn apply(device: &mut Embedded, change: PeerChange) -> Result<(), Error> {
    let what = change.to_string();
    let key = PublicKey::from(change.key().0);
    let outcome = match change {
        PeerChange::Add { endpoint, allowed, .. } => {
            let mut peer = allow(Peer::new(key), &allowed);
            peer.endpoint = endpoint;
            meet(device, peer).await
        }
        PeerChange::SetEndpoint { endpoint, .. } => meet_elsewhere(device, &key, endpoint).await,
        PeerChange::SetAllowed { allowed, .. } => {
            let networks = allow(Peer::new(key), &allowed).allowed_ips;
            device
                .modify_peer(&key, |peer| {
                    peer.clear_allowed_ips();
                    peer.add_allowed_ips(networks);
                })
                .await
        }
        PeerChange::Remove { .. } => device.remove_peer(&key).await.map(|_| true),
    };
    match outcome {
        Ok(true) => Ok(()),
        Ok(false) => Err(failure(&what, "the device has another set of peers than it said")),
        Err(error) => Err(failure(&what, error)),
    }
}

fn allow(peer: Peer, networks: &BTreeSet<Ipv4Net>) -> Peer {
    // gotatun has its own network type; text is the form that both know.
    networks.iter().filter_map(|net| net.to_string().parse().ok()).fold(peer, Peer::with_allowed_ip)
}
