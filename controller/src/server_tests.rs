//! The port under clients that are slow, silent, gone or too many: real connections over loopback.

use std::{convert::Infallible, net::SocketAddr, sync::atomic::AtomicUsize};

use axum::routing::get;
use futures_util::{Stream, stream};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

/// Longer than anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is not to happen in a test.
const NEVER: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(300);

fn patient() -> Limits {
    let guests =
        Allowance { connections: 50, burst: 1_000_000.0, rate: 1.0, open_of_one: 1_000, open: 1_000 };
    Limits {
        handshake: NEVER,
        head: NEVER,
        first_request: NEVER,
        body: NEVER,
        stall: NEVER,
        guests,
        of_member: 40,
    }
}

/// The server, and how many endless answers it is giving.
struct Fixture {
    address: SocketAddr,
    authority: Arc<CertificateAuthority>,
    endless: Arc<AtomicUsize>,
    /// Of the one member.
    life: CancellationToken,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
    _directory: tempfile::TempDir,
}

/// Counts itself while it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Parts without end; the first one says that the answer has begun.
fn endless(counted: Counted, part: usize, forever: bool) -> impl Stream<Item = Result<Vec<u8>, Infallible>> {
    stream::unfold((counted, false), move |(counted, begun)| async move {
        if begun && !forever {
            std::future::pending::<()>().await;
        }
        Some((Ok(vec![b'x'; part]), (counted, true)))
    })
}

impl Fixture {
    async fn start(limits: Limits) -> Self {
        warren_runtime::tls::install_provider();
        let directory = tempfile::tempdir().expect("a directory");
        let authority = CertificateAuthority::load_or_create(directory.path()).expect("an authority");
        let certificates = Certificates::new(Arc::clone(&authority), Vec::new()).expect("certificates");
        let count = Arc::new(AtomicUsize::new(0));
        let body = |part: usize, forever: bool| {
            let count = Arc::clone(&count);
            get(move || async move { Body::from_stream(endless(Counted::new(&count), part, forever)) })
        };
        let http = Router::new()
            .route("/ok", get(|| async { "ok" }))
            .route("/watch", body(1, false))
            .route("/flood", body(1 << 16, true));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let life = CancellationToken::new();
        let standing = {
            let life = life.clone();
            move |peer: &PeerIdentity| match peer.organizations.first() {
                Some(group) if group == warren_nodes::MEMBERS && !life.is_cancelled() => {
                    Standing::Member { name: peer.common_name.clone(), life: life.clone() }
                }
                Some(group) if group == warren_nodes::MEMBERS => Standing::Stranger,
                _ => Standing::User,
            }
        };
        let routes = Routes { http, grpc: Router::new(), standing: Arc::new(standing) };
        let serving = tokio::spawn(serve(listener, certificates, routes, limits, stop.clone()));
        Self { address, authority, endless: count, life, stop, serving, _directory: directory }
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.expect("no panic").expect("a clean end");
    }

    fn connector(&self, member: bool, protocol: &[u8]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.ca_der().to_vec())).expect("a root");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = if member {
            let issued =
                self.authority.issue_client("system:warren:node:a", &["system:warren:members"], NEVER);
            let issued = issued.expect("a certificate");
            let chain = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes());
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a usable certificate")
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    async fn connect(&self, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").expect("a name");
        connector.connect(name, self.dial().await).await
    }

    async fn until_endless(&self, wanted: usize) {
        let reached = async {
            while self.endless.load(Ordering::SeqCst) != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the answers begin or end in time");
    }
}

async fn ask(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asked");
}

/// The code and the rest of an answer that is small and kept open.
async fn answer_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut buffer = vec![0; 4_096];
    let reading = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer in time");
    let length = reading.expect("an answer");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Waits until the server has ended the connection, orderly or not.
async fn until_closed(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; 4_096];
    let reading = async { while matches!(stream.read(&mut buffer).await, Ok(length) if length > 0) {} };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server closes the connection");
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let fixture =
        Fixture::start(Limits { handshake: SHORT, head: SHORT, first_request: SHORT, ..patient() }).await;
    until_closed(fixture.dial().await).await;
    let member = fixture.connector(true, b"http/1.1");
    let silent = fixture.connect(&member).await.expect("a handshake");
    until_closed(silent).await;
    let mut half = fixture.connect(&member).await.expect("a handshake");
    half.write_all(b"GET /ok HTTP/1.1\r\nHost: lo").await.expect("written");
    until_closed(half).await;
    let mut idle = fixture.connect(&member).await.expect("a handshake");
    ask(&mut idle, "/ok").await;
    assert!(answer_of(&mut idle).await.starts_with("HTTP/1.1 200"));
    until_closed(idle).await;
    // Byte by byte, as long as it does not ask.
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let mut fragment = fixture.connect(&fixture.connector(false, protocol)).await.expect("a handshake");
        fragment.write_all(b"P").await.expect("written");
        until_closed(fragment).await;
    }
    let mut preface = fixture.connect(&fixture.connector(true, b"h2")).await.expect("a handshake");
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
    until_closed(preface).await;
    fixture.end().await;
}

#[tokio::test]
async fn who_has_hung_up_is_not_answered() {
    let fixture = Fixture::start(patient()).await;
    let mut watch = fixture.connect(&fixture.connector(true, b"http/1.1")).await.expect("a handshake");
    ask(&mut watch, "/watch").await;
    fixture.until_endless(1).await;
    assert!(answer_of(&mut watch).await.starts_with("HTTP/1.1 200"));
    // Only this side is closed; the client would still read.
    watch.shutdown().await.expect("closed");
    fixture.until_endless(0).await;
    until_closed(watch).await;
    fixture.end().await;
}

#[tokio::test]
async fn who_takes_nothing_is_given_up() {
    let fixture = Fixture::start(Limits { stall: SHORT, ..patient() }).await;
    let mut reader = fixture.connect(&fixture.connector(true, b"http/1.1")).await.expect("a handshake");
    ask(&mut reader, "/flood").await;
    fixture.until_endless(1).await;
    fixture.until_endless(0).await;
    drop(reader);
    fixture.end().await;
}

#[tokio::test]
async fn a_flood_of_strangers_displaces_itself_while_members_work() {
    let fixture = Fixture::start(patient()).await;
    let (member, stranger) = (fixture.connector(true, b"http/1.1"), fixture.connector(false, b"http/1.1"));
    let mut known = fixture.connect(&member).await.expect("a handshake");
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..200 {
        flood.spawn(until_closed_at_last(fixture.dial().await));
        // Some go further, and then sit there.
        if number % 4 == 0
            && let Ok(mut guest) = fixture.connect(&stranger).await
        {
            let _ = guest.write_all(b"GET /watch HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            flood.spawn(until_closed_at_last(guest));
        }
        ask(&mut known, "/ok").await;
        assert!(answer_of(&mut known).await.starts_with("HTTP/1.1 200"), "a member's connection");
        if number % 20 == 0 {
            let mut fresh = fixture.connect(&member).await.expect("a member gets in");
            ask(&mut fresh, "/ok").await;
            assert!(answer_of(&mut fresh).await.starts_with("HTTP/1.1 200"), "a new connection of a member");
        }
    }
    let most = patient().guests.connections;
    let thinned = async {
        while flood.len() > most {
            flood.join_next().await;
        }
    };
    tokio::time::timeout(PATIENCE, thinned).await.expect("no more than the limit stay");
    flood.shutdown().await;
    fixture.end().await;
}

/// As [`until_closed`], for as long as it takes.
async fn until_closed_at_last(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; 4_096];
    while matches!(stream.read(&mut buffer).await, Ok(length) if length > 0) {}
}

#[tokio::test]
async fn strangers_may_ask_so_much_and_members_as_they_like() {
    let guests = Allowance { connections: 50, burst: 5.0, rate: 0.001, open_of_one: 10, open: 10 };
    let fixture = Fixture::start(Limits { guests, ..patient() }).await;
    let mut stranger = fixture.connect(&fixture.connector(false, b"http/1.1")).await.expect("a handshake");
    for _ in 0..5 {
        ask(&mut stranger, "/ok").await;
        assert!(answer_of(&mut stranger).await.starts_with("HTTP/1.1 200"));
    }
    ask(&mut stranger, "/ok").await;
    let refused = answer_of(&mut stranger).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(
        refused.contains("retry-after: 1") && refused.contains("\"reason\":\"TooManyRequests\""),
        "{refused}"
    );
    let mut member = fixture.connect(&fixture.connector(true, b"http/1.1")).await.expect("a handshake");
    for _ in 0..20 {
        ask(&mut member, "/ok").await;
        assert!(answer_of(&mut member).await.starts_with("HTTP/1.1 200"));
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_removed_member_loses_its_connections_and_is_a_guest_from_then_on() {
    let guests = Allowance { connections: 50, burst: 2.0, rate: 0.001, open_of_one: 10, open: 10 };
    let fixture = Fixture::start(Limits { guests, ..patient() }).await;
    let member = fixture.connector(true, b"http/1.1");
    let mut watch = fixture.connect(&member).await.expect("a handshake");
    ask(&mut watch, "/watch").await;
    fixture.until_endless(1).await;
    fixture.life.cancel();
    fixture.until_endless(0).await;
    until_closed(watch).await;
    let mut late = fixture.connect(&member).await.expect("a handshake");
    for expected in ["200", "200", "429"] {
        ask(&mut late, "/ok").await;
        assert!(answer_of(&mut late).await.starts_with(&format!("HTTP/1.1 {expected}")), "{expected}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn one_member_has_so_many_connections() {
    let fixture = Fixture::start(Limits { of_member: 3, ..patient() }).await;
    let member = fixture.connector(true, b"http/1.1");
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = fixture.connect(&member).await.expect("a handshake");
        ask(&mut stream, "/ok").await;
        assert!(answer_of(&mut stream).await.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
    until_closed(fixture.connect(&member).await.expect("a handshake")).await;
    open.pop();
    let again = async {
        loop {
            let mut stream = fixture.connect(&member).await.expect("a handshake");
            let _ = stream.write_all(b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            let mut buffer = vec![0; 4_096];
            if matches!(stream.read(&mut buffer).await, Ok(length) if length > 0) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place that was given back");
    fixture.end().await;
}
