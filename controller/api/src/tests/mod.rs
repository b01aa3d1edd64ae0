//! The API in process: requests through the router over a real store.

mod discovery;
mod disruptions;
mod endpoints;
mod events;
mod golden;
mod kinds;
mod objects;
mod pods;
mod priorities;
mod protobuf;
mod proxy;
mod quotas;
mod rights;
mod services;
mod streams;
mod sweep;
mod why;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use warren_plan::{Explanation, World};
use warren_proto::control::{ContainerUsage, LogsRequest, PodUsage, Usage, UsageReport, session_open::Kind};
use warren_runtime::tls::PeerIdentity;
use warren_store::{EmbeddedStore, Key, Store, Transaction};
use warren_vocabulary::ClusterConfig;

use crate::{Api, Observations, Places, PodRef, PodStreams, Session, StreamError, router};

/// Longer than anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Echoes what it was asked for.
struct EchoStreams;

impl PodStreams for EchoStreams {
    fn logs(
        &self,
        pod: &PodRef,
        container: &str,
        options: LogsRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, String>>, StreamError>> {
        let text = format!(
            "{}/{}@{} {container} tail={:?}\n",
            pod.namespace, pod.name, pod.node, options.tail_lines
        );
        let lost = pod.node == "lost";
        Box::pin(async move {
            if lost {
                return Err(StreamError::NodeUnavailable { node: "lost".into(), why: "no session".into() });
            }
            let lines = [Ok(Bytes::from(text)), Ok(Bytes::from_static(b"end\n"))];
            Ok(futures_util::stream::iter(lines).boxed())
        })
    }

    fn open(&self, pod: &PodRef, container: &str, kind: Kind) -> BoxFuture<'_, Result<Session, StreamError>> {
        let lost = pod.node == "lost";
        let session = streams::process(container.to_owned(), kind);
        Box::pin(async move {
            if lost {
                return Err(StreamError::NodeUnavailable { node: "lost".into(), why: "no session".into() });
            }
            Ok(session)
        })
    }
}

/// One node that was heard of, and that uses something.
struct OneNode;

impl Observations for OneNode {
    fn heartbeats(&self) -> Vec<(String, jiff::Timestamp)> {
        vec![("node-1".to_owned(), measured_at())]
    }

    fn usage(&self) -> Vec<(String, jiff::Timestamp, Arc<UsageReport>)> {
        let usage = |cpu_nanos, memory_bytes| Some(Usage { cpu_nanos, memory_bytes });
        let containers = vec![
            ContainerUsage { name: "web".into(), usage: usage(250_000_000, 64 << 20) },
            ContainerUsage { name: "side".into(), usage: usage(1_000_000, 1 << 20) },
        ];
        let pod = |uid: &str| PodUsage {
            uid: uid.into(),
            namespace: "default".into(),
            name: "measured".into(),
            containers: containers.clone(),
        };
        let report = UsageReport {
            window_milliseconds: 10_040,
            node: usage(1_500_000_000, 1 << 30),
            pods: vec![pod("u-1")],
        };
        vec![("node-1".to_owned(), measured_at(), Arc::new(report))]
    }
}

/// Explains from nothing what the store holds.
struct Afresh(Arc<dyn Store>);

impl Places for Afresh {
    fn explain(&self, pod: &Key, revision: u64) -> BoxFuture<'_, Result<Option<Explanation>, String>> {
        let snapshot = self.0.snapshot();
        assert!(snapshot.revision >= revision);
        let world = World { snapshot, ..World::default() };
        let explained = warren_plan::explain(&world, pod, jiff::Timestamp::now());
        Box::pin(async move { Ok(explained) })
    }
}

fn measured_at() -> jiff::Timestamp {
    "2026-01-01T00:00:10.5Z".parse().unwrap()
}

/// A server over its own store, with the namespace `default`.
struct Server {
    router: Router,
    store: Arc<EmbeddedStore>,
    directory: tempfile::TempDir,
}

/// The API over a store.
fn serve(store: Arc<dyn warren_store::Store>) -> Router {
    router(Api {
        places: Arc::new(Afresh(Arc::clone(&store))),
        store,
        streams: Arc::new(EchoStreams),
        observations: Arc::new(OneNode),
        gate: Arc::new(warren_write::Gate::new(&ClusterConfig::default())),
        tokens: warren_tokens::Tokens::new("cluster.local", warren_tokens::KeyRing::default()),
        connections: tokio_util::task::TaskTracker::new(),
    })
}

/// A whole answer.
struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
    fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect()
    }
    /// The body, when the code is the expected one.
    fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code.as_u16(), code, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

fn admin() -> PeerIdentity {
    PeerIdentity {
        common_name: "warren-admin".into(),
        organizations: vec!["system:masters".into()],
        ..PeerIdentity::default()
    }
}

impl Server {
    async fn new() -> Self {
        let server = Self::open_in(tempfile::tempdir().unwrap());
        server.post("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await.expect(201);
        server
    }

    fn open_in(directory: tempfile::TempDir) -> Self {
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let router = serve(Arc::clone(&store) as Arc<dyn warren_store::Store>);
        Self { router, store, directory }
    }

    /// The same state, in a process that remembers no history.
    async fn restart(self) -> Self {
        let Self { store, directory, .. } = self;
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        Self::open_in(directory)
    }

    /// A response whose body may still be coming.
    async fn open(&self, request: Request<Body>) -> axum::response::Response {
        tokio::time::timeout(PATIENCE, self.router.clone().oneshot(request)).await.unwrap().unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        Answer { code: parts.status, headers: parts.headers, body }
    }

    fn request(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path).extension(admin());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.into()).unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Self::request(Method::GET, path, &[], Body::empty())).await
    }
    async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Self::request(Method::GET, path, &[("accept", accept)], Body::empty())).await
    }
    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Self::request(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        ))
        .await
    }
    async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Self::request(Method::PUT, path, &[("content-type", "application/json")], body.to_string()))
            .await
    }
    async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let content_type = format!("application/{kind}");
        self.send(Self::request(Method::PATCH, path, &[("content-type", &content_type)], body.to_string()))
            .await
    }
    async fn delete(&self, path: &str, body: &Value) -> Answer {
        self.send(Self::request(Method::DELETE, path, &[], body.to_string())).await
    }
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "nginx:1"}]},
    })
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "nginx:1"}]},
            },
        },
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}
