//! A controller without its port, for tests of what its rooms do together.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use warren_api::Api;
use warren_nodes::{CertificateAuthority, Nodes};
use warren_objects::Registries;
use warren_runtime::{
    CancellationToken,
    tasks::TaskSet,
    tls::{self, PeerIdentity},
};
use warren_store::{EmbeddedStore, Store};
use warren_vocabulary::ClusterConfig;
use warren_write::{
    Gate,
    chain::{self, Step},
};

use crate::{bootstrap, explanations::Explanations, planners, starts::Starts, streams, writes::Writer};

/// Longer than the longest wait for another attempt.
const PATIENCE: Duration = Duration::from_secs(120);

fn administrator() -> PeerIdentity {
    PeerIdentity {
        common_name: "jane".into(),
        organizations: vec!["system:masters".into()],
        ..PeerIdentity::default()
    }
}

/// The rooms of a controller, without its port.
pub(crate) struct House {
    pub(crate) store: Arc<EmbeddedStore>,
    api: Router,
    tasks: TaskSet,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl House {
    /// With more steps in the chain than every cluster has, and for more kinds.
    pub(crate) async fn start(steps: Vec<Box<dyn Step>>, registries: Registries) -> Self {
        tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&directory.path().join("store")).unwrap();
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let (cluster, stop) = (ClusterConfig::default(), CancellationToken::new());
        let mut chain = chain::standard(&cluster);
        chain.extend(steps);
        let gate = Arc::new(Gate::with_chain(chain).for_kinds(Arc::new(registries)));
        let writer = Writer { store: Arc::clone(&shared), gate: Arc::clone(&gate), name: "bootstrap" };
        bootstrap::namespaces(&writer).await.unwrap();
        let authority = CertificateAuthority::load_or_create(&directory.path().join("pki")).unwrap();
        let tokens = warren_tokens::Tokens::new(&cluster.domain, warren_tokens::KeyRing::default());
        let (kept, gated) = (Arc::clone(&shared), Arc::clone(&gate));
        let nodes = Nodes::new(kept, gated, authority, Arc::clone(&tokens), cluster.clone());
        let starts = Starts::begin(directory.path());
        let rooms = planners::Rooms {
            store: Arc::clone(&shared),
            gate: Arc::clone(&gate),
            nodes: Arc::clone(&nodes),
            starts,
        };
        let planner = planners::make(rooms, cluster, BTreeSet::new()).unwrap();
        let api = warren_api::router(Api {
            store: Arc::clone(&shared),
            streams: Arc::new(streams::Tunnel::new(Arc::clone(&nodes))),
            observations: Arc::new(streams::Members::new(Arc::clone(&nodes))),
            places: Arc::new(Explanations::new(Arc::clone(&planner))),
            gate: Arc::clone(&gate),
            tokens,
            connections: TaskTracker::new(),
        });
        let mut tasks = TaskSet::new(stop.clone());
        planners::start(&mut tasks, planner);
        Self { store, api, tasks, stop, _directory: directory }
    }

    /// Makes an object; the code of the answer.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> StatusCode {
        self.send(Method::POST, path, "application/json", object).await.0
    }

    /// Asks as an administrator.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })
            .unwrap();
        request.extensions_mut().insert(administrator());
        let response = self.api.clone().oneshot(request).await.unwrap();
        let code = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Reads as a table, as `kubectl get` does: the columns' names and each row.
    pub(crate) async fn table(&self, path: &str) -> (Vec<Value>, Vec<Value>) {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        let accept = "application/json;as=Table;g=meta.k8s.io;v=v1".parse().unwrap();
        request.headers_mut().insert("accept", accept);
        request.extensions_mut().insert(administrator());
        let body = self.api.clone().oneshot(request).await.unwrap().into_body();
        let table: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let of = |list: &str, field: &str| {
            let items = table[list].as_array().into_iter().flatten();
            items.map(|item| item[field].clone()).collect::<Vec<_>>()
        };
        (of("columnDefinitions", "name"), of("rows", "cells"))
    }

    /// The condition of the only object of a resource.
    pub(crate) fn condition(&self, resource: &str, kind: &str) -> Option<Value> {
        let snapshot = self.store.snapshot();
        let object = snapshot.list(resource).next()?;
        let conditions = object.value["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind).cloned()
    }

    /// Waits for a change of the store after which something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut watch = self.store.watch(self.store.snapshot().revision).unwrap();
        let reached = async {
            while !holds(self) {
                watch.next().await.unwrap();
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{what}");
    }

    /// Stops what runs.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await.unwrap();
        self.store.close();
    }
}
