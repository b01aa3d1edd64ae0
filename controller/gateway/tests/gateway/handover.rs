//! One process of the gateway after another on the same listening sockets. Generations are sets of workers here;
//! what a process's end does to its sockets, the end of its workers does too.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio_util::sync::CancellationToken;
use warren_gateway::{Refused, Routes, Serving, serve_with};
use warren_runtime::descriptors::{self, Descriptors, Message, OWN};

use crate::support::{Client, Upstream, eventually, plain, rule, within};

/// Holds what the generations leave.
struct Supervisor {
    ours: UnixDatagram,
    theirs: UnixDatagram,
    held: BTreeMap<String, OwnedFd>,
}

impl Supervisor {
    fn new() -> Self {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        Self { ours, theirs, held: BTreeMap::new() }
    }

    fn descriptors(&mut self) -> Descriptors {
        while let Ok(Some((message, descriptor))) = descriptors::receive(self.ours.as_fd()) {
            match (message, descriptor) {
                // Clients of a generation end with it here: see `killed` for the other kind.
                (Message::Keep(name) | Message::Forget(name), _) if name.starts_with(OWN) => {}
                (Message::Keep(name), Some(descriptor)) => {
                    self.held.insert(name, descriptor);
                }
                (Message::Forget(name), _) => {
                    self.held.remove(&name);
                }
                (message, _) => panic!("unexpected: {message:?}"),
            }
        }
        let copy = |(name, held): (&String, &OwnedFd)| (name.clone(), held.try_clone().expect("a copy"));
        let theirs = self.theirs.try_clone().expect("a copy");
        Descriptors::new(self.held.iter().map(copy).collect(), Some(theirs.into()))
    }

    /// A generation that has its routes before its first connection.
    async fn start(&mut self, address: SocketAddr, threads: usize, upstream: &Upstream) -> Generation {
        let routes = Routes::new(Refused::except_loopback());
        let everything = rule("", "/", &[upstream.address]);
        routes.publish(1, [("route/default/web/0", &everything)]).await;
        let stop = CancellationToken::new();
        let serving =
            serve_with(plain(address, threads), &self.descriptors(), &routes, &stop).expect("listening");
        let address = serving.addresses[0].1;
        Generation { serving, stop, address, _routes: routes }
    }
}

struct Generation {
    serving: Serving,
    stop: CancellationToken,
    address: SocketAddr,
    _routes: Arc<Routes>,
}

impl Generation {
    async fn end(self) {
        self.stop.cancel();
        within("the end of the workers", self.serving.wait()).await.expect("no panic");
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[tokio::test]
async fn who_connects_while_no_process_accepts_is_served_by_the_next() {
    let upstream = Upstream::named("pod").await;
    let mut supervisor = Supervisor::new();
    let first = supervisor.start(ANY, 3, &upstream).await;
    let address = first.address;
    let _ = supervisor.descriptors();
    assert_eq!(supervisor.held.keys().collect::<Vec<_>>(), ["http.0", "http.1", "http.2"]);
    first.end().await;

    let waiting: Vec<_> = (0..24)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                client.get("a.test", "/").await
            })
        })
        .collect();
    // Fewer threads than sockets: none of the queues may be forgotten.
    let second = supervisor.start(address, 1, &upstream).await;
    assert_eq!(second.address, address);
    for waiting in waiting {
        let answer = within("an answer", waiting).await.expect("no panic");
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "pod"));
    }
    second.end().await;
}

#[tokio::test]
async fn a_handover_under_load_loses_no_request() {
    let upstream = Upstream::named("pod").await;
    let mut supervisor = Supervisor::new();
    let mut current = supervisor.start(ANY, 2, &upstream).await;
    let address = current.address;
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (stop, answers) = (stop.clone(), answers.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let mut client = Client::connect(address).await;
                    assert_eq!(client.get("a.test", "/").await.status, 200);
                    answers.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for threads in [2, 4, 1] {
        let before = answers.load(Ordering::SeqCst);
        eventually("the load goes on", || answers.load(Ordering::SeqCst) >= before + 100).await;
        let next = supervisor.start(address, threads, &upstream).await;
        std::mem::replace(&mut current, next).end().await;
    }
    let before = answers.load(Ordering::SeqCst);
    eventually("the load goes on", || answers.load(Ordering::SeqCst) >= before + 100).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        within("the end of the load", client).await.expect("no request failed");
    }
    current.end().await;
}

#[tokio::test]
async fn sockets_of_another_address_are_let_go() {
    let upstream = Upstream::named("pod").await;
    let mut supervisor = Supervisor::new();
    let first = supervisor.start(ANY, 2, &upstream).await;
    let (old, elsewhere) = (first.address, SocketAddr::from(([127, 0, 0, 2], 0)));
    first.end().await;
    let second = supervisor.start(elsewhere, 1, &upstream).await;
    assert_eq!(second.address.ip(), elsewhere.ip());
    let _ = supervisor.descriptors();
    assert_eq!(supervisor.held.len(), 1, "{:?}", supervisor.held);
    let refused = tokio::net::TcpStream::connect(old).await.expect_err("nobody holds the old port");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    second.end().await;
}
