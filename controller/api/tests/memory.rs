//! What a list of 10,000 pods costs in memory, measured in a process that does nothing else: keep this the only test
//! of its file.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;
use warren_api::{Api, Observations, PodRef, PodStreams, Session, StreamError};
use warren_plan::ClusterConfig;
use warren_proto::control::{LogsRequest, UsageReport, session_open::Kind};
use warren_runtime::tls::PeerIdentity;
use warren_store::{CommitError, Expired, Key, Object, Snapshot, Store, Transaction, Watch};

const COUNT: usize = 10_000;

struct Memory(Arc<Snapshot>);

impl Store for Memory {
    fn commit(&self, _: Transaction) -> warren_store::BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(async { Err(CommitError::Closed) })
    }
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }
    fn watch(&self, after: u64) -> Result<Watch, Expired> {
        Err(Expired { wanted: after, oldest: 0, newest: 0 })
    }
}

/// No pod to reach, and nobody who tells anything.
struct Nobody;

impl PodStreams for Nobody {
    fn logs(
        &self,
        pod: &PodRef,
        _: &str,
        _: LogsRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, String>>, StreamError>> {
        let why = StreamError::NotFound(pod.name.clone());
        Box::pin(async { Err(why) })
    }
    fn open(&self, pod: &PodRef, _: &str, _: Kind) -> BoxFuture<'_, Result<Session, StreamError>> {
        let why = StreamError::NotFound(pod.name.clone());
        Box::pin(async { Err(why) })
    }
}

impl Observations for Nobody {
    fn heartbeats(&self) -> Vec<(String, jiff::Timestamp)> {
        Vec::new()
    }
    fn usage(&self) -> Vec<(String, jiff::Timestamp, Arc<UsageReport>)> {
        Vec::new()
    }
}

fn pod(number: usize) -> Object {
    let name = format!("p{number:05}");
    let environment: Vec<_> =
        (0..20).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(100)})).collect();
    let value = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "main", "image": "nginx:1", "env": environment}]},
        "status": {"phase": "Running"},
    });
    Object::new(Key::new("pods", "default", &name), 7, value)
}

/// The most memory that this process has had since [`forget_peak`], in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak is told");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
}

#[tokio::test]
async fn a_list_of_ten_thousand_pods_is_sent_without_a_copy() {
    let store = Arc::new(Memory(Arc::new(Snapshot::from_objects(7, (0..COUNT).map(pod)))));
    let router = warren_api::router(Api {
        store,
        streams: Arc::new(Nobody),
        observations: Arc::new(Nobody),
        config: ClusterConfig::default(),
        connections: tokio_util::task::TaskTracker::new(),
    });
    let admin = PeerIdentity {
        common_name: "warren-admin".into(),
        organizations: vec!["system:masters".into()],
        ..PeerIdentity::default()
    };
    let list = async |accept: &str| {
        let request = Request::get("/api/v1/pods").header("accept", accept).extension(admin.clone());
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().unwrap().len();
        }
        length
    };
    // The objects' texts are made by whoever asks first (otherwise by their commits), and are there for all.
    list("application/json").await;
    for accept in ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"] {
        forget_peak();
        let before = peak();
        let length = list(accept).await;
        let grown = peak() - before;
        println!("{accept}: {length} bytes sent, {grown} bytes more at the peak");
        assert!(length > COUNT * 100);
        assert!(grown < 4 << 20, "{accept}: {grown} bytes more for a list of {length}");
    }
}
