//! A gateway, upstreams and clients inside the test's process.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use warren_gateway::{
    Certificates, InForce, Listeners, Names, Patience, Refused, Routes, Serving, follow, serve_with,
};
use warren_proto::{
    control::{Endpoint, HttpPolicy, HttpRoute, PathType, feed_item::Item},
    vocabulary::Cursor,
};
use warren_runtime::{
    descriptors::Descriptors,
    feed::{Feed, FeedState},
};

/// Far longer than anything here takes, even on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// A body that is at hand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, met).await;
}

/// A future's value, or a failed test that says what did not happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen: {what}"),
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) stop: CancellationToken,
    pub(crate) routes: Arc<Routes>,
    states: watch::Sender<Option<Arc<FeedState>>>,
    acknowledged: watch::Receiver<u64>,
    revision: AtomicUsize,
    serving: Option<Serving>,
    supervisor: Option<OwnedFd>,
    _state_dir: tempfile::TempDir,
    _stop: DropGuard,
}

impl Gateway {
    /// With two workers and no routes yet.
    pub(crate) fn start() -> Self {
        Self::with_threads(2)
    }

    pub(crate) fn with_threads(threads: usize) -> Self {
        Self::with(threads, PATIENCE)
    }

    /// Whose upstreams may take so long to begin a response.
    pub(crate) fn patient_for(response_timeout: Duration) -> Self {
        Self::with(2, response_timeout)
    }

    /// One worker, and all else as said.
    pub(crate) fn with_patience(patience: Patience) -> Self {
        Self::made(1, patience, &[], Names::system().expect("a resolver"))
    }

    /// Which believes what these say about their clients.
    pub(crate) fn trusting(proxies: &[&str]) -> Self {
        Self::made(2, patience(PATIENCE), proxies, Names::system().expect("a resolver"))
    }

    /// Which asks these servers for names.
    pub(crate) fn naming(names: Names) -> Self {
        Self::made(2, patience(PATIENCE), &[], names)
    }

    fn with(threads: usize, response_timeout: Duration) -> Self {
        Self::made(threads, patience(response_timeout), &[], Names::system().expect("a resolver"))
    }

    fn made(threads: usize, patience: Patience, proxies: &[&str], names: Names) -> Self {
        let state_dir = tempfile::tempdir().expect("a temporary directory");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let certificates = Certificates::load(state_dir.path()).expect("a certificate");
        let tls = certificates.server_config().expect("a configuration");
        let routes = Routes::new(Refused::except_loopback());
        let stop = CancellationToken::new();
        let listeners = Listeners {
            http: any,
            https: Some((any, tls)),
            threads,
            patience,
            trusted_proxies: proxies.iter().map(|network| network.parse().expect("a network")).collect(),
            memory: 4 << 30,
        };
        // As in a cluster: plain connections are held. Nobody hears of them here; what does not fit is not held.
        let (supervisor, theirs) = UnixStream::pair().expect("a pair");
        let descriptors = Descriptors::new(BTreeMap::new(), Some(theirs.into()));
        let serving = serve_with(listeners, &descriptors, &routes, &stop).expect("free ports");
        let (feed, states, acknowledged) = Feed::manual();
        let in_force = InForce { routes: Arc::clone(&routes), certificates, names };
        tokio::spawn(follow(feed, in_force, stop.clone()));
        let address =
            |name| serving.addresses.iter().find(|(known, _)| *known == name).map(|(_, address)| *address);
        Self {
            http: address("http").expect("bound"),
            https: address("https"),
            routes,
            states,
            acknowledged,
            revision: AtomicUsize::new(0),
            supervisor: Some(supervisor.into()),
            _state_dir: state_dir,
            _stop: stop.clone().drop_guard(),
            stop,
            serving: Some(serving),
        }
    }

    /// Sends rules, and other items, as the controller would.
    pub(crate) fn send(
        &self,
        rules: impl IntoIterator<Item = HttpRoute>,
        others: impl IntoIterator<Item = (String, Item)>,
    ) -> u64 {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed) as u64 + 1;
        let items = rules.into_iter().enumerate();
        let items = items.map(|(index, rule)| (format!("route/default/web/{index}"), Item::HttpRoute(rule)));
        let items: BTreeMap<_, _> = items.chain(others).collect();
        self.states.send_replace(Some(Arc::new(FeedState {
            cursor: Cursor { epoch: 1, revision },
            items: items.into(),
        })));
        revision
    }

    /// Sends rules and waits until the gateway says that they are in force.
    pub(crate) async fn route(&self, rules: impl IntoIterator<Item = HttpRoute>) {
        self.put(rules, []).await;
    }

    /// The same, with other items.
    pub(crate) async fn put(
        &self,
        rules: impl IntoIterator<Item = HttpRoute>,
        others: impl IntoIterator<Item = (String, Item)>,
    ) {
        let revision = self.send(rules, others);
        let mut acknowledged = self.acknowledged.clone();
        let reached = acknowledged.wait_for(|known| *known >= revision);
        within("the acknowledgement", reached).await.expect("the gateway lives");
    }

    /// One rule for everything.
    pub(crate) async fn route_all(&self, upstreams: &[SocketAddr]) {
        self.route([rule("", "/", upstreams)]).await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.http).await
    }

    /// The supervisor is gone, and with it what it held.
    pub(crate) fn lose_supervisor(&mut self) {
        self.supervisor = None;
    }

    /// Waits until the workers have ended.
    pub(crate) async fn ended(mut self) {
        let serving = self.serving.take().expect("waited for once");
        within("the end of the workers", serving.wait()).await.expect("no panic");
    }
}

/// As in a cluster, except for how long a response may take.
pub(crate) fn patience(response: Duration) -> Patience {
    Patience { response, ..Patience::default() }
}

/// Plain HTTP, as in a cluster.
pub(crate) fn plain(http: SocketAddr, threads: usize) -> Listeners {
    let patience = Patience::default();
    Listeners { http, https: None, threads, patience, trusted_proxies: Vec::new(), memory: 4 << 30 }
}

/// A rule that asks for something.
pub(crate) fn asking(rule: HttpRoute, policy: HttpPolicy) -> HttpRoute {
    HttpRoute { policy: Some(policy), ..rule }
}

/// A prefix rule.
pub(crate) fn rule(host: &str, path: &str, upstreams: &[SocketAddr]) -> HttpRoute {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: address.ip().to_string(),
        port: address.port().into(),
        node: "node-1".into(),
    };
    HttpRoute {
        host: host.into(),
        path: path.into(),
        path_type: PathType::Prefix.into(),
        backend: "default/web:80".into(),
        endpoints: upstreams.iter().map(endpoint).collect(),
        ingress: "default/web".into(),
        ..HttpRoute::default()
    }
}

/// One HTTP/1.1 connection.
pub(crate) struct Client {
    sender: http1::SendRequest<Body>,
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        Ok(Self { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket");
        Self::over(TokioIo::new(stream)).await
    }

    /// For which the kernel buffers little.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 << 10).expect("a socket");
        Self::over(TokioIo::new(socket.connect(address).await.expect("the gateway listens"))).await
    }

    pub(crate) async fn over(io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(io).await.expect("a handshake");
        tokio::spawn(connection.with_upgrades());
        Self { sender }
    }

    pub(crate) async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        within("a response", self.try_send(request)).await.expect("a response")
    }

    pub(crate) async fn get(&mut self, host: &str, path: &str) -> Answer {
        let request = Request::get(path).header("host", host).body(full("")).expect("a request");
        Answer::read(self.send(request).await).await.expect("a whole response")
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(path).header("host", "a.test").body(full(body)).expect("a request");
        Answer::read(self.send(request).await).await.expect("a whole response")
    }
}

/// A server behind the gateway.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
}

impl Upstream {
    /// Answers every request with its name.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |_| async move { Response::new(full(name)) }).await
    }

    /// Answers with `handler`.
    pub(crate) async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(accept(listener, handler, counters.clone()));
        Self { address, counters, task }
    }

    /// Connections since the start.
    pub(crate) fn accepted(&self) -> usize {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// Connections now.
    pub(crate) fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Requests since the start.
    pub(crate) fn requests(&self) -> usize {
        self.counters.requests.load(Ordering::SeqCst)
    }

    /// Listens no more; connections go on.
    pub(crate) fn stop_listening(&self) {
        self.task.abort();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn accept<H, F>(listener: TcpListener, handler: H, counters: Arc<Counters>)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        counters.accepted.fetch_add(1, Ordering::SeqCst);
        counters.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(counters.clone());
        let (handler, counters) = (handler.clone(), counters.clone());
        tokio::spawn(async move {
            let _open = open;
            let service = service_fn(move |request| {
                counters.requests.fetch_add(1, Ordering::SeqCst);
                let answer = handler(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

/// A port on which nobody listens, kept from others while the value lives.
pub(crate) struct DeadPort(socket2::Socket);

impl DeadPort {
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound").as_socket().expect("an IP address")
    }
}
