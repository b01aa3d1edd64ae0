//! A controller's node-facing side on a real loopback port, and members that speak to it.
//!
//! Instead of TLS, each request names its certificate's subject in metadata; a layer of the server turns that
//! into the `PeerIdentity` that the composition root would insert.

#![allow(dead_code, unreachable_pub)]

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming, service::InterceptorLayer, transport::Channel};
use warren_nodes::{CertificateAuthority, MEMBERS, Nodes};
use warren_proto::control::{
    Acknowledge, Consumer, FeedBatch, FeedRequest, HeartbeatRequest, JoinRequest, JoinResponse, Role,
    Subscribe, control_client::ControlClient, feed_request::Kind, join_client::JoinClient,
};
use warren_runtime::tls::PeerIdentity;
use warren_store::{EmbeddedStore, Key, Object, Store, Transaction};
use warren_vocabulary::{ClusterConfig, member::MemberRole};
use warren_write::Gate;

pub const PATIENCE: Duration = Duration::from_secs(30);
const SUBJECT: &str = "x-test-subject";

pub struct Controller {
    pub store: Arc<EmbeddedStore>,
    pub nodes: Arc<Nodes>,
    pub address: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// `CN/O`, then the membership and the machine that the certificate names, if any.
fn inject(mut request: Request<()>) -> Result<Request<()>, Status> {
    let subject = request.metadata().get(SUBJECT).and_then(|text| text.to_str().ok()).map(str::to_owned);
    let parts: Vec<&str> = subject.as_deref().map(|text| text.split('/').collect()).unwrap_or_default();
    if let [common_name, organization, rest @ ..] = &parts[..] {
        let uri =
            |index: usize| rest.get(index).filter(|text| !text.is_empty()).map(|text| (*text).to_owned());
        request.extensions_mut().insert(PeerIdentity {
            common_name: (*common_name).to_owned(),
            organizations: vec![(*organization).to_owned()],
            member: uri(0),
            machine: uri(1),
        });
    }
    Ok(request)
}

/// Tokens that a key of this test signs.
fn tokens() -> Arc<warren_tokens::Tokens> {
    let key = warren_tokens::SigningKey::generate(warren_tokens::Purpose::Bound, jiff::Timestamp::now());
    let ring = warren_tokens::KeyRing::from_keys(vec![key.expect("a key")]);
    warren_tokens::Tokens::new("cluster.local", ring)
}

impl Controller {
    pub async fn start() -> Self {
        Self::start_with(ClusterConfig::default()).await
    }

    pub async fn start_with(config: ClusterConfig) -> Self {
        let gate = Gate::new(&config);
        Self::start_behind(gate, config).await
    }

    /// With another gate for writes than the usual.
    pub async fn start_behind(gate: Gate, config: ClusterConfig) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = EmbeddedStore::open(directory.path()).expect("a store");
        let ca = CertificateAuthority::load_or_create(&directory.path().join("ca")).expect("a CA");
        let nodes = Nodes::new(Arc::clone(&store) as Arc<dyn Store>, Arc::new(gate), ca, tokens(), config);
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = nodes.services();
        let (running, stopping) = (Arc::clone(&nodes), stop.clone());
        let serve = async move {
            let server = tonic::transport::Server::builder().layer(InterceptorLayer::new(inject));
            let _ = { server }.add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)).await;
        };
        let run = async move { running.run(stopping).await.expect("the loops end when told to") };
        let tasks = vec![tokio::spawn(serve), tokio::spawn(run)];
        let controller = Self { store, nodes, address, stop, tasks, _directory: directory };
        let namespace = serde_json::json!({"metadata": {"name": "default"}, "status": {"phase": "Active"}});
        controller.put("namespaces", "", namespace).await;
        controller
    }

    /// Stops the loops; answers when all streams have ended.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        let run = self.tasks.pop().expect("the loops");
        within("the loops end", run).await.expect("no panic");
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address))
            .expect("a URL")
            .connect()
            .await
            .expect("a connection")
    }

    pub async fn join(&self, token: &str, name: &str, role: Role) -> Result<JoinResponse, Status> {
        self.join_from(token, name, role, "").await
    }

    /// A join from a machine that has a name.
    pub async fn join_from(
        &self,
        token: &str,
        name: &str,
        role: Role,
        machine: &str,
    ) -> Result<JoinResponse, Status> {
        let mut parts = token.split('.').skip(1);
        let token = format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let request =
            JoinRequest { token, name: name.into(), role: role.into(), csr: csr(), machine: machine.into() };
        JoinClient::new(self.channel().await).join(request).await.map(tonic::Response::into_inner)
    }

    /// A token for a node.
    pub async fn token(&self) -> String {
        self.token_for(Role::Node).await
    }

    pub async fn token_for(&self, role: Role) -> String {
        let role = if role == Role::Gateway { MemberRole::Gateway } else { MemberRole::Node };
        self.nodes.create_token(role, Duration::from_secs(600)).await.expect("a token")
    }

    /// A member that has joined.
    pub async fn member(&self, name: &str, role: Role) -> Member {
        let token = self.token_for(role).await;
        let joined = self.join(&token, name, role).await.expect("joined");
        self.with_certificate(name, &joined.certificate).await
    }

    /// The same member once more, from the same machine.
    pub async fn again(&self, member: &Member) -> Member {
        Member { client: ControlClient::new(self.channel().await), ..member.clone() }
    }

    /// Whoever holds this certificate (DER).
    pub async fn with_certificate(&self, name: &str, certificate: &[u8]) -> Member {
        let peer = PeerIdentity::from_der(certificate).expect("a subject");
        let uri = |uri: &Option<String>| uri.clone().unwrap_or_default();
        let subject = format!("{}/{MEMBERS}/{}/{}", peer.common_name, uri(&peer.member), uri(&peer.machine));
        let client = ControlClient::new(self.channel().await);
        Member { name: name.into(), subject, boot: "boot-1.1".into(), host: peer.machine, client }
    }

    /// Creates or replaces an object; the answer is the revision.
    pub async fn put(&self, resource: &str, namespace: &str, mut value: Value) -> u64 {
        let name = value["metadata"]["name"].as_str().expect("a name").to_owned();
        if !namespace.is_empty() {
            value["metadata"]["namespace"] = namespace.into();
        }
        let key = Key::new(resource, namespace, &name);
        let transaction = match self.store.snapshot().get(&key) {
            Some(known) => Transaction::new().replace(key, known.revision, value),
            None => Transaction::new().create(key, value),
        };
        self.store.commit(transaction).await.expect("stored")
    }

    pub async fn delete(&self, resource: &str, namespace: &str, name: &str) -> u64 {
        let key = Key::new(resource, namespace, name);
        let revision = self.get(resource, namespace, name).expect("it exists").revision;
        self.store.commit(Transaction::new().delete(key, revision)).await.expect("deleted")
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.store.snapshot().get(&Key::new(resource, namespace, name)).cloned()
    }

    pub fn network_ready(&self, node: &str) -> bool {
        self.nodes.observe().nodes[node].network_ready
    }
}

#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub subject: String,
    /// The boot that it says it speaks from; says nothing when it is empty.
    pub boot: String,
    /// The machine that it says it is.
    pub host: Option<String>,
    pub client: ControlClient<Channel>,
}

impl Member {
    /// A request that carries this member's certificate.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = request_as(&self.subject, message);
        let host = self.host.as_ref().map(|host| format!(" host/{host}")).unwrap_or_default();
        let boot = if self.boot.is_empty() { String::new() } else { format!(" machine/{}", self.boot) };
        let agent = format!("warren/0{boot}{host}").parse().expect("ASCII");
        request.metadata_mut().insert("user-agent", agent);
        request
    }

    pub async fn subscribe(&mut self, subscribe: Subscribe) -> Result<Feed, Status> {
        let (requests, outgoing) = mpsc::channel(8);
        let first = FeedRequest { kind: Some(Kind::Subscribe(subscribe)) };
        requests.send(first).await.expect("room");
        let request = self.request(ReceiverStream::new(outgoing));
        let batches = self.client.feed(request).await?.into_inner();
        Ok(Feed { requests, batches })
    }

    /// A feed; a member that joined a moment ago is told to come again until it is compiled.
    pub async fn feed(&mut self, consumer: Consumer) -> Feed {
        let subscribe = Subscribe { consumer: consumer.into(), ..Subscribe::default() };
        within("the feed opens", async {
            loop {
                match self.subscribe(subscribe).await {
                    Ok(feed) => return feed,
                    Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status}"),
                }
            }
        })
        .await
    }

    /// Beats five times a second until the answer is dropped.
    pub async fn beating(&mut self, consumer: Consumer) -> Beating {
        let (beats, outgoing) = mpsc::channel(1);
        let request = self.request(ReceiverStream::new(outgoing));
        let send = move |sequence| HeartbeatRequest { consumer: consumer.into(), sequence };
        beats.send(send(0)).await.expect("room");
        let mut answers = self.client.heartbeat(request).await.expect("heartbeats").into_inner();
        let first = within("the first beat is answered", answers.message()).await.expect("an answer");
        assert_eq!(first.map(|answer| answer.sequence), Some(0));
        Beating(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(200));
            for sequence in 1.. {
                ticks.tick().await;
                if beats.send(send(sequence)).await.is_err()
                    || !matches!(answers.message().await, Ok(Some(_)))
                {
                    return;
                }
            }
        }))
    }
}

pub struct Beating(JoinHandle<()>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub struct Feed {
    pub requests: mpsc::Sender<FeedRequest>,
    pub batches: Streaming<FeedBatch>,
}

impl Feed {
    pub async fn next(&mut self) -> FeedBatch {
        within("a batch arrives", self.batches.message()).await.expect("no error").expect("no end")
    }

    /// The whole snapshot: its keys and its revision.
    pub async fn snapshot(&mut self) -> (Vec<String>, u64) {
        let mut keys = Vec::new();
        loop {
            let batch = self.next().await;
            assert!(batch.snapshot);
            keys.extend(batch.upserts.into_iter().map(|item| item.key));
            if batch.complete {
                return (keys, batch.revision);
            }
        }
    }

    pub async fn acknowledge(&self, revision: u64) {
        let kind = Some(Kind::Acknowledge(Acknowledge { revision }));
        self.requests.send(FeedRequest { kind }).await.expect("the feed is open");
    }

    /// How the feed ends.
    pub async fn end(&mut self) -> Status {
        loop {
            match within("the feed ends", self.batches.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("closed"),
                Err(status) => return status,
            }
        }
    }
}

pub fn request_as<T>(subject: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(SUBJECT, subject.parse().expect("ASCII"));
    request
}

pub fn csr() -> Vec<u8> {
    let pair = rcgen::KeyPair::generate().expect("a key");
    rcgen::CertificateParams::default().serialize_request(&pair).expect("a request").der().to_vec()
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("in vain: {what}"),
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
