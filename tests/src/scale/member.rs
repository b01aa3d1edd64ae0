//! One simulated node: an agent and a netd that speak to the controller as the true ones do, by the same client code,
//! over TLS, with a certificate of their own that they joined for. They run no pods and touch no network: what they are
//! told is in force at once, and every pod runs.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};
use warren_proto::control::{
    Acknowledge, Consumer, ContainerState, ContainerStatus, ContainerUsage, FeedBatch, FeedRequest,
    HeartbeatRequest, NetworkReport, NodeReport, PeerReport, PodInstruction, PodStatus, PodUsage, PodsReport,
    Role, Running, Subscribe, Usage, UsageReport, container_state::State, control_client::ControlClient,
    feed_item::Item, feed_request::Kind,
};
use warren_runtime::{connection::Controller, identity};

use crate::fleet::Shared;

/// As the true ones.
const BEAT: Duration = Duration::from_secs(1);
const REPORT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);
const LARGEST: usize = 64 << 20;
/// On the wire each message has five bytes in front.
const FRAME: usize = 5;

/// What begins a node's name.
pub(crate) const NAME: &str = "node-";
/// The service whose changes are followed to every node.
pub(crate) const WATCHED: &str = "service/default/watched";

type Client = ControlClient<Channel>;

/// A node that has joined.
pub(crate) struct Member {
    name: String,
    number: usize,
    clients: Vec<Client>,
    shared: Arc<Shared>,
    pods: Mutex<BTreeMap<String, Pod>>,
    /// The other members that netd knows of.
    peers: Mutex<BTreeMap<String, String>>,
}

#[derive(Clone)]
struct Pod {
    instruction: PodInstruction,
    restarts: u32,
}

impl Member {
    /// Joins with the token, and connects.
    pub(crate) async fn join(
        address: SocketAddr,
        token: &str,
        number: usize,
        connections: usize,
        shared: Arc<Shared>,
    ) -> anyhow::Result<Arc<Self>> {
        let (name, address) = (format!("{NAME}{number}"), address.to_string());
        let identity = identity::join(&address, token, &name, Role::Node).await?;
        // Nothing lies there: the identity is in memory alone.
        let controller = Controller::new(&address, identity, PathBuf::from("/nonexistent"));
        let mut clients = Vec::new();
        for _ in 0..connections {
            let channel = controller.channel().await?;
            clients.push(ControlClient::new(channel).max_decoding_message_size(LARGEST));
        }
        let (pods, peers) = (Mutex::default(), Mutex::default());
        let member = Arc::new(Self { name, number, clients, shared, pods, peers });
        for consumer in [Consumer::Agent, Consumer::Netd] {
            member.spawn(Arc::clone(&member).beat(consumer));
        }
        member.client(0).report_node(member.machine()).await?;
        member.client(0).report_network(member.tunnel(false)).await?;
        Ok(member)
    }

    /// Opens both feeds, and reports from then on.
    pub(crate) fn work(self: &Arc<Self>) {
        let (started, starting) = mpsc::unbounded_channel();
        self.spawn(Arc::clone(self).follow(Consumer::Agent, Some(started)));
        self.spawn(Arc::clone(self).follow(Consumer::Netd, None));
        self.spawn(Arc::clone(self).report_pods(starting));
        self.spawn(Arc::clone(self).report_regularly());
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.shared.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The connection that a stream of this number has.
    fn client(&self, stream: usize) -> Client {
        self.clients[stream % self.clients.len()].clone()
    }

    fn machine(&self) -> NodeReport {
        NodeReport {
            cpu_millis: 16_000,
            memory_bytes: 64 << 30,
            ephemeral_storage_bytes: 200 << 30,
            max_pods: 110,
            kernel_version: "6.1.0".into(),
            os_image: "Debian GNU/Linux 12 (bookworm)".into(),
            architecture: "x86_64".into(),
            container_runtime_version: "docker://20.10.24".into(),
            warren_version: env!("CARGO_PKG_VERSION").into(),
            internal_ip: self.underlay(),
            hostname: self.name.clone(),
            runtime_ready: true,
            ..NodeReport::default()
        }
    }

    /// An address for benchmarks (RFC 2544).
    fn underlay(&self) -> String {
        format!("198.18.{}.{}", self.number / 250, self.number % 250 + 1)
    }

    fn tunnel(&self, with_peers: bool) -> NetworkReport {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(self.number as u64 + 1).to_le_bytes());
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let report = |(name, endpoint): (&String, &String)| PeerReport {
            name: name.clone(),
            handshake_age_seconds: Some(60),
            received_bytes: 1 << 20,
            sent_bytes: 1 << 20,
            round_trip_micros: Some(300),
            endpoint: endpoint.clone(),
        };
        NetworkReport {
            public_key: STANDARD.encode(key),
            listen_port: 51_820,
            underlay_address: self.underlay(),
            backend: "kernel".into(),
            mtu: 1_420,
            peers: if with_peers {
                warren_runtime::peers::worst(peers.iter().map(report).collect())
            } else {
                Vec::new()
            },
        }
    }

    async fn beat(self: Arc<Self>, consumer: Consumer) {
        // Not all at the same moment, and each at its own.
        tokio::time::sleep(BEAT.mul_f64(rand::random())).await;
        loop {
            if let Err(error) = self.beats(consumer).await {
                self.shared.trouble(&self.name, "a heartbeat's stream broke", &error);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn beats(&self, consumer: Consumer) -> anyhow::Result<()> {
        let (beats, outgoing) = mpsc::channel(1);
        let beat = |sequence| HeartbeatRequest { consumer: consumer.into(), sequence };
        beats.send(beat(0)).await?;
        let stream = 2 + usize::from(consumer == Consumer::Netd);
        let mut answers = self.client(stream).heartbeat(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut sequence = 0;
        loop {
            tokio::select! {
                answer = answers.message() => {
                    answer?.context("the controller ended the heartbeats")?;
                    self.shared.beaten();
                }
                _ = ticks.tick() => {
                    sequence += 1;
                    tokio::time::timeout(BEAT * 4, beats.send(beat(sequence))).await??;
                }
            }
        }
    }

    async fn follow(self: Arc<Self>, consumer: Consumer, started: Option<mpsc::UnboundedSender<String>>) {
        loop {
            match self.feed(consumer, started.as_ref()).await {
                Ok(()) => {}
                // Joined a moment ago, and not compiled yet.
                Err(status) if status.code() == Code::Unavailable => {}
                Err(status) => self.shared.trouble(&self.name, "a feed broke", &status.into()),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn feed(
        &self,
        consumer: Consumer,
        started: Option<&mpsc::UnboundedSender<String>>,
    ) -> Result<(), tonic::Status> {
        let (requests, outgoing) = mpsc::channel(4);
        let subscribe = Subscribe { consumer: consumer.into(), ..Subscribe::default() };
        let send = async |kind| {
            let sent = requests.send(FeedRequest { kind: Some(kind) }).await;
            sent.map_err(|_| tonic::Status::unavailable("the stream is gone"))
        };
        send(Kind::Subscribe(subscribe)).await?;
        let stream = usize::from(consumer == Consumer::Netd);
        let mut batches = self.client(stream).feed(ReceiverStream::new(outgoing)).await?.into_inner();
        while let Some(batch) = batches.message().await? {
            let is_whole = !batch.snapshot || batch.complete;
            let (was_snapshot, revision) = (batch.snapshot, batch.revision);
            self.shared.received(&batch, FRAME + batch.encoded_len());
            let watched = self.take(batch, started);
            if !is_whole {
                continue;
            }
            send(Kind::Acknowledge(Acknowledge { revision })).await?;
            if was_snapshot {
                self.shared.opened();
            } else if watched {
                self.shared.applied();
            }
        }
        Ok(())
    }

    /// Puts a batch in force; whether the watched service is in it.
    fn take(&self, batch: FeedBatch, started: Option<&mpsc::UnboundedSender<String>>) -> bool {
        let mut watched = false;
        for item in batch.upserts {
            match item.item {
                Some(Item::Pod(instruction)) => {
                    let uid = instruction.uid.clone();
                    let pod = Pod { instruction, restarts: 0 };
                    let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
                    if pods.insert(uid.clone(), pod).is_none() {
                        self.shared.bound();
                        // Whoever listens ends with the benchmark.
                        let _ = started.map(|started| started.send(uid));
                    }
                }
                Some(Item::Peer(peer)) => {
                    let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
                    peers.insert(peer.name, peer.endpoint);
                }
                Some(Item::Service(_)) => watched |= item.key == WATCHED,
                _ => {}
            }
        }
        watched
    }

    /// Says of every new pod that it runs and is ready; of those that came together in one report.
    async fn report_pods(self: Arc<Self>, mut starting: mpsc::UnboundedReceiver<String>) {
        let mut uids = Vec::new();
        while starting.recv_many(&mut uids, 100).await > 0 {
            let pods: Vec<PodStatus> = uids.iter().filter_map(|uid| self.status(uid, 0)).collect();
            let count = pods.len();
            loop {
                match self.client(0).report_pods(PodsReport { pods: pods.clone(), events: Vec::new() }).await
                {
                    Ok(_) => break self.shared.running(count),
                    Err(status) => {
                        self.shared.trouble(&self.name, "pods' report was refused", &status.into())
                    }
                }
                tokio::time::sleep(RETRY).await;
            }
            uids.clear();
        }
    }

    /// What the pod's container is, after so many more restarts.
    fn status(&self, uid: &str, more: u32) -> Option<PodStatus> {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let pod = pods.get_mut(uid)?;
        pod.restarts += more;
        let started = "2026-01-01T00:00:00Z";
        let PodInstruction { namespace, name, .. } = &pod.instruction;
        let containers = pod.instruction.containers.iter().map(|container| ContainerStatus {
            name: container.name.clone(),
            ready: true,
            started: true,
            restart_count: pod.restarts,
            image: container.image.clone(),
            image_id: format!("sha256:{:064x}", self.number),
            container_id: format!("docker://{}{:032x}", uid.replace('-', ""), pod.restarts),
            state: Some(ContainerState {
                state: Some(State::Running(Running { started_at: started.into() })),
            }),
            last_state: None,
        });
        Some(PodStatus {
            uid: uid.into(),
            attached: true,
            containers: containers.collect(),
            started_at: started.into(),
            namespace: namespace.clone(),
            name: name.clone(),
            ..PodStatus::default()
        })
    }

    /// Reports that a pod's container was started anew; answers when that is committed. Whether there was a pod.
    pub(crate) async fn restart_a_pod(&self) -> anyhow::Result<bool> {
        let uid = self.pods.lock().unwrap_or_else(PoisonError::into_inner).keys().next().cloned();
        let Some(status) = uid.and_then(|uid| self.status(&uid, 1)) else { return Ok(false) };
        self.client(0).report_pods(PodsReport { pods: vec![status], events: Vec::new() }).await?;
        Ok(true)
    }

    /// Usage and tunnel, as often as the true ones, while that is wanted.
    async fn report_regularly(self: Arc<Self>) {
        let mut wanted = self.shared.reports.subscribe();
        loop {
            if wanted.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            tokio::time::sleep(REPORT.mul_f64(rand::random())).await;
            let mut ticks = tokio::time::interval(REPORT);
            while *wanted.borrow() {
                ticks.tick().await;
                if let Err(status) = self.report_once().await {
                    self.shared.trouble(&self.name, "a report was refused", &status.into());
                }
            }
        }
    }

    async fn report_once(&self) -> Result<(), tonic::Status> {
        let usage = || Some(Usage { cpu_nanos: 10_000_000, memory_bytes: 64 << 20 });
        let pods =
            self.pods.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>();
        let pods = pods.into_iter().map(|pod| PodUsage {
            uid: pod.instruction.uid,
            namespace: pod.instruction.namespace,
            name: pod.instruction.name,
            containers: vec![ContainerUsage { name: "main".into(), usage: usage() }],
        });
        let report = UsageReport { window_milliseconds: 10_000, node: usage(), pods: pods.collect() };
        self.client(0).report_usage(report).await?;
        self.client(1).report_network(self.tunnel(true)).await?;
        Ok(())
    }
}
