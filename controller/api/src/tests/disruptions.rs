//! Evictions and disruption budgets. Their counts are written here by hand: the planner is not there.

use super::*;
use crate::tests::pods::running;
use warren_store::Store as _;

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A pod that serves.
async fn ready(server: &Server, name: &str) {
    running(server, name, "n1").await;
    let path = format!("{PODS}/{name}");
    let labels = json!({"metadata": {"labels": {"app": "web"}}});
    server.patch(&path, "merge-patch+json", &labels).await.expect(200);
    let conditions = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    server.patch(&format!("{path}/status"), "merge-patch+json", &conditions).await.expect(200);
}

/// A budget of the pods of `web`, counted.
async fn budget(server: &Server, name: &str, allowed: i64) {
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let mut made = server.post(BUDGETS, &budget).await.expect(201);
    assert_eq!(
        made["status"],
        json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
    );
    made["status"] = json!({"observedGeneration": 1, "currentHealthy": 1 + allowed, "desiredHealthy": 1,
        "disruptionsAllowed": allowed, "expectedPods": 1 + allowed});
    let counted = server.put(&format!("{BUDGETS}/{name}/status"), &made).await.expect(200);
    assert_eq!(counted["status"]["disruptionsAllowed"], allowed);
}

async fn evict(server: &Server, name: &str) -> Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": "default"}});
    server.post(&format!("{PODS}/{name}/eviction"), &eviction).await
}

async fn status(server: &Server) -> Value {
    server.get(&format!("{BUDGETS}/web")).await.expect(200)["status"].clone()
}

#[tokio::test]
async fn an_eviction_spends_of_the_budget() {
    let server = Server::new().await;
    ready(&server, "a").await;
    ready(&server, "b").await;
    budget(&server, "web", 1).await;
    let evicted = evict(&server, "a").await;
    assert_eq!(evicted.expect(201)["status"], "Success");
    let pod = server.get(&format!("{PODS}/a")).await.expect(200);
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    let spent = status(&server).await;
    assert_eq!(spent["disruptionsAllowed"], 0);
    assert!(spent["disruptedPods"]["a"].is_string());
    assert_eq!(spent["conditions"][0]["reason"], "InsufficientPods");
    let refused = evict(&server, "b").await;
    assert!(!refused.headers.contains_key("retry-after"), "nobody knows when");
    assert_eq!(
        refused.expect(429),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Cannot evict pod as it would violate the pod's disruption budget.",
            "reason": "TooManyRequests", "details": {"causes": [{"reason": "DisruptionBudget",
                "message": "The disruption budget web needs 1 healthy pods and has 2 currently"}]}, "code": 429})
    );
    let deleted = server.delete(&format!("{PODS}/b"), &json!({})).await;
    deleted.expect(200);
    evict(&server, "b").await.expect(201);
    evict(&server, "none").await.expect(404);
}

#[tokio::test]
async fn a_changed_budget_is_counted_first_and_two_are_one_too_many() {
    let server = Server::new().await;
    ready(&server, "a").await;
    budget(&server, "web", 1).await;
    let change = json!({"spec": {"minAvailable": 0}});
    server.patch(&format!("{BUDGETS}/web"), "merge-patch+json", &change).await.expect(200);
    let refused = evict(&server, "a").await;
    assert_eq!(refused.headers["retry-after"], "10");
    let cause = &refused.expect(429)["details"]["causes"][0];
    assert_eq!(cause["message"], "The disruption budget web is still being processed by the server.");
    budget(&server, "other", 1).await;
    let refused = evict(&server, "a").await.expect(500);
    assert_eq!(
        refused["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    assert!(
        server.get(&format!("{PODS}/a")).await.expect(200)["metadata"].get("deletionTimestamp").is_none()
    );
}

#[tokio::test]
async fn what_an_eviction_says_is_heeded() {
    let server = Server::new().await;
    ready(&server, "a").await;
    budget(&server, "web", 1).await;
    let path = format!("{PODS}/a/eviction");
    let eviction = |name: &str, options: Value| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options});
    let wrong = server.post(&path, &eviction("b", json!({}))).await.expect(400);
    assert_eq!(wrong["message"], "name in URL does not match name in Eviction object");
    let other = eviction("a", json!({"preconditions": {"uid": "other"}}));
    server.post(&path, &other).await.expect(409);
    let unsafe_option = json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true});
    server.post(&path, &eviction("a", unsafe_option)).await.expect(422);
    let before = server.store.snapshot().revision;
    server.post(&path, &eviction("a", json!({"dryRun": ["All"]}))).await.expect(201);
    server.post(&format!("{path}?dryRun=All"), &eviction("a", json!({}))).await.expect(201);
    assert_eq!(server.store.snapshot().revision, before);
    let now = eviction("a", json!({"gracePeriodSeconds": 0}));
    server.post(&path, &now).await.expect(201);
    server.get(&format!("{PODS}/a")).await.expect(404);
    assert_eq!(status(&server).await["disruptionsAllowed"], 0);
}

/// However many ask at the same time, no more go than may.
#[tokio::test(flavor = "multi_thread")]
async fn evictions_at_the_same_time_spend_one_each() {
    let server = Server::new().await;
    let names: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    for name in &names {
        ready(&server, name).await;
    }
    budget(&server, "web", 5).await;
    let answers = futures_util::future::join_all(names.iter().map(|name| evict(&server, name))).await;
    let codes: Vec<u16> = answers.iter().map(|answer| answer.code.as_u16()).collect();
    let of = |code: u16| codes.iter().filter(|found| **found == code).count();
    assert_eq!((of(201), of(429)), (5, 7), "{codes:?}");
    let spent = status(&server).await;
    assert_eq!(spent["disruptionsAllowed"], 0);
    assert_eq!(spent["disruptedPods"].as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn counts_are_not_negative() {
    let server = Server::new().await;
    budget(&server, "web", 1).await;
    let status = format!("{BUDGETS}/web/status");
    let wrong = json!({"status": {"disruptionsAllowed": -1}});
    let refused = server.patch(&status, "merge-patch+json", &wrong).await.expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "status.disruptionsAllowed");
    let noted = json!({"status": {"disruptedPods": {"a": "2026-01-01T00:00:00Z"}}});
    let noted = server.patch(&status, "merge-patch+json", &noted).await.expect(200);
    assert_eq!(noted["status"]["disruptedPods"], json!({"a": "2026-01-01T00:00:00Z"}));
    assert_eq!(noted["metadata"]["generation"], 1);
}
