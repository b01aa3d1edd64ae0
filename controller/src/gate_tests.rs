//! One gate for writes: what a client and the planners write passes it, and what it refuses comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use warren_objects::Registries;
use warren_store::{Key, Snapshot, Store as _};
use warren_vocabulary::resources::*;
use warren_write::{Refusal, Review, Verb, chain::Step};

use crate::house::House;

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
    let house = House::start(vec![Box::new(witness.clone())], Registries::default()).await;
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
