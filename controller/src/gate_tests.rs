//! One gate for writes: what a client and the planners write passes it, and what it refuses comes back.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use http::{Method, Request, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use warren_api::Api;
use warren_nodes::{CertificateAuthority, Nodes};
use warren_runtime::{
    CancellationToken,
    tasks::TaskSet,
    tls::{self, PeerIdentity},
};
use warren_store::{EmbeddedStore, Key, Snapshot, Store};
use warren_vocabulary::{ClusterConfig, resources::*};
use warren_write::{
    Gate, Refusal, Review, Verb,
    chain::{self, Step},
};

use crate::{bootstrap, planners, starts::Starts, streams, writes::Writer};

/// Longer than the longest wait for another attempt.
const PATIENCE: Duration = Duration::from_secs(120);

/// Notes who writes what, and refuses pods while it is told to.
#[derive(Clone, Default)]
struct Witness {
    seen: Arc<Mutex<Vec<(String, Verb, String)>>>,
    refuses: Arc<AtomicBool>,
}

impl Step for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn review(&self, _: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
        let (who, resource) = (review.author.actor.to_string(), review.kind.resource.to_string());
        self.seen.lock().push((who, review.verb, resource));
        let is_new_pod = review.verb == Verb::Create && review.kind.resource == PODS;
        if is_new_pod && self.refuses.load(Ordering::Relaxed) {
            return Err(Refusal::forbidden(review.kind, review.name(), "exceeded quota: few"));
        }
        Ok(())
    }
}

impl Witness {
    fn times(&self, who: &str, verb: Verb, resource: &str) -> usize {
        let is_it = |seen: &&(String, Verb, String)| seen.0 == who && seen.1 == verb && seen.2 == resource;
        self.seen.lock().iter().filter(is_it).count()
    }
}

/// The rooms of a controller, without its port.
struct House {
    store: Arc<EmbeddedStore>,
    api: Router,
    tasks: TaskSet,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl House {
    async fn start(witness: Witness) -> Self {
        tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&directory.path().join("store")).unwrap();
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let (cluster, stop) = (ClusterConfig::default(), CancellationToken::new());
        let mut chain = chain::standard(&cluster);
        chain.push(Box::new(witness));
        let gate = Arc::new(Gate::with_chain(chain));
        let writer = Writer { store: Arc::clone(&shared), gate: Arc::clone(&gate), name: "bootstrap" };
        bootstrap::namespaces(&writer).await.unwrap();
        let authority = CertificateAuthority::load_or_create(&directory.path().join("pki")).unwrap();
        let nodes = Nodes::new(Arc::clone(&shared), Arc::clone(&gate), authority, cluster.clone());
        let api = warren_api::router(Api {
            store: Arc::clone(&shared),
            streams: Arc::new(streams::Tunnel::new(Arc::clone(&nodes))),
            observations: Arc::new(streams::Members::new(Arc::clone(&nodes))),
            gate: Arc::clone(&gate),
            connections: TaskTracker::new(),
        });
        let mut tasks = TaskSet::new(stop.clone());
        let starts = Starts::begin(directory.path());
        let rooms = planners::Rooms { store: shared, gate, nodes, starts };
        planners::start(&mut tasks, rooms, cluster, BTreeSet::new()).unwrap();
        Self { store, api, tasks, stop, _directory: directory }
    }

    async fn post(&self, path: &str, object: &Value) -> StatusCode {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(object.to_string()))
            .unwrap();
        request.extensions_mut().insert(PeerIdentity {
            common_name: "jane".into(),
            organizations: vec!["system:masters".into()],
            ..PeerIdentity::default()
        });
        self.api.clone().oneshot(request).await.unwrap().status()
    }

    /// The condition of the only object of a resource.
    fn condition(&self, resource: &str, kind: &str) -> Option<Value> {
        let snapshot = self.store.snapshot();
        let object = snapshot.list(resource).next()?;
        let conditions = object.value["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind).cloned()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut watch = self.store.watch(self.store.snapshot().revision).unwrap();
        let reached = async {
            while !holds(self) {
                watch.next().await.unwrap();
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{what}");
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await.unwrap();
        self.store.close();
    }
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "image:1"}]},
            },
        },
    })
}

const PLANNER: &str = "system:warren:controller:replica sets";

#[tokio::test]
async fn what_is_refused_to_planners_is_told_and_tried_again_but_not_at_once() {
    let witness = Witness::default();
    witness.refuses.store(true, Ordering::Relaxed);
    let house = House::start(witness.clone()).await;
    let began = Instant::now();
    let path = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(house.post(path, &deployment()).await, StatusCode::CREATED);
    assert_eq!(witness.times("jane", Verb::Create, DEPLOYMENTS), 1);
    let pod = json!({"metadata": {"name": "own"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let refused = house.post("/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(refused, StatusCode::FORBIDDEN, "clients and planners meet the same step");

    house
        .until("both say it", |house| {
            [REPLICASETS, DEPLOYMENTS].iter().all(|kind| house.condition(kind, "ReplicaFailure").is_some())
        })
        .await;
    let said = house.condition(DEPLOYMENTS, "ReplicaFailure").unwrap();
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("FailedCreate")));
    let message = said["message"].as_str().unwrap();
    assert!(message.starts_with("pods \"web-") && message.ends_with("is forbidden: exceeded quota: few"));
    let told = |house: &House| {
        let is_told = |event: &Value| event["reason"] == "FailedCreate" && event["type"] == "Warning";
        house.store.snapshot().list(EVENTS).any(|event| is_told(&event.value))
    };
    house.until("an event tells it", told).await;
    house.until("it is tried again", |_| witness.times(PLANNER, Verb::Create, PODS) > 2).await;
    let (attempts, seconds) = (witness.times(PLANNER, Verb::Create, PODS), began.elapsed().as_secs());
    assert!(attempts as u64 <= seconds + 2, "{attempts} attempts in {seconds} s");
    assert_eq!(house.store.snapshot().list(PODS).count(), 0);

    witness.refuses.store(false, Ordering::Relaxed);
    house
        .until("the pods come, and nobody complains", |house| {
            let clear = |kind: &&str| house.condition(kind, "ReplicaFailure").is_none();
            house.store.snapshot().list(PODS).count() == 2 && [REPLICASETS, DEPLOYMENTS].iter().all(clear)
        })
        .await;
    let snapshot = house.store.snapshot();
    let pod = snapshot.list(PODS).next().unwrap();
    assert_eq!(pod.value["spec"]["restartPolicy"], "Always", "what the template leaves out is filled in");
    assert!(snapshot.get(&Key::new(NAMESPACES, "", "default")).is_some());
    assert!(witness.times("system:warren:controller:deployments", Verb::Create, REPLICASETS) > 0);
    assert!(witness.times("system:warren:controller:bootstrap", Verb::Create, NAMESPACES) >= 4);
    house.end().await;
}
