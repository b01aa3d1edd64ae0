//! Listening sockets, which may be older than this process.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    net::SocketAddr,
};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
};
use warren_runtime::descriptors::Descriptors;

const BACKLOG: i32 = 4096;

/// At least one listening socket per thread, all on the same port: those of an earlier process, then new ones.
pub(crate) fn listen(
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

/// A listening socket on its runtime.
pub(crate) struct Listener(AsyncFd<std::net::TcpListener>);

impl Listener {
    /// The socket must not block.
    #[allow(unsafe_code)]
    pub(crate) fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        // SAFETY: a `TcpListener` is the same open descriptor for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?))
    }

    /// The next connection, and what `hold` makes of it. Nothing comes between the two, no registration and no other
    /// task: a connection that is not held yet is lost when this process is killed.
    pub(crate) async fn accept<H>(
        &self,
        hold: impl Fn(&std::net::TcpStream) -> H,
    ) -> io::Result<(TcpStream, SocketAddr, H)> {
        let accept = |socket: &std::net::TcpListener| {
            let (stream, peer) = socket.accept()?;
            let held = hold(&stream);
            Ok((stream, peer, held))
        };
        let (stream, peer, held) = self.0.async_io(Interest::READABLE, accept).await?;
        stream.set_nonblocking(true)?;
        Ok((TcpStream::from_std(stream)?, peer, held))
    }
}
