//! §2 Metadata.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::state::ApiState;

#[tokio::test]
async fn the_server_sets_uid_time_revision_generation_and_namespace() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await;
    is(&created, 201, &stored_map("a", json!({"k": "v"})));
    let created = server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    assert_eq!(created["metadata"]["generation"], 1);
}

#[tokio::test]
async fn what_only_the_server_sets_is_ignored_in_a_body() {
    let server = Server::new().await;
    let mut body = config_map("a", json!({}));
    body["metadata"] = json!({
        "name": "a", "uid": "mine", "creationTimestamp": "1999-01-01T00:00:00Z", "selfLink": "/x",
        "deletionTimestamp": "1999-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5, "generation": 7,
    });
    is(&server.post(CONFIG_MAPS, &body).await, 201, &stored_map("a", json!({})));
    let before = server.get(&map_path("a")).await.expect(200);
    let mut changed = before.clone();
    changed["metadata"]["creationTimestamp"] = json!("1999-01-01T00:00:00Z");
    changed["metadata"]["deletionTimestamp"] = json!("1999-01-01T00:00:00Z");
    changed["metadata"]["generation"] = json!(9);
    assert_eq!(server.put(&map_path("a"), &changed).await.expect(200), before);
}

#[tokio::test]
async fn who_manages_which_field_survives_writes_that_say_nothing_of_it() {
    let server = Server::new().await;
    let managed = |manager: &str| {
        json!([{
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}},
        }])
    };
    let mut body = config_map("a", json!({"k": "v"}));
    body["metadata"]["managedFields"] = managed("kubectl");
    let created = server.post(CONFIG_MAPS, &body).await.expect(201);
    assert_eq!(created["metadata"]["managedFields"], managed("kubectl"));
    let patched = server.patch(&map_path("a"), MERGE, &json!({"data": {"k": "w"}})).await.expect(200);
    assert_eq!(patched["metadata"]["managedFields"], managed("kubectl"));
    let put = server.put(&map_path("a"), &config_map("a", json!({"k": "x"}))).await.expect(200);
    assert_eq!(put["metadata"]["managedFields"], managed("kubectl"));
    body["metadata"]["managedFields"] = managed("helm");
    let put = server.put(&map_path("a"), &body).await.expect(200);
    assert_eq!(put["metadata"]["managedFields"], managed("helm"));
}

#[tokio::test]
async fn a_created_object_has_no_revision_of_its_own() {
    let server = Server::new().await;
    let mut body = config_map("a", json!({}));
    body["metadata"]["resourceVersion"] = json!("5");
    let answer = server.post(CONFIG_MAPS, &body).await;
    let message = "resourceVersion should not be set on objects to be created";
    fails(&answer, 400, "BadRequest", message, &json!({}));
}

#[tokio::test]
async fn name_and_namespace_agree_with_the_url() {
    let server = Server::new().await;
    let mut body = config_map("a", json!({}));
    body["metadata"]["namespace"] = json!("other");
    let answer = server.post(CONFIG_MAPS, &body).await;
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    fails(&answer, 400, "BadRequest", message, &json!({}));
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let answer = server.put(&map_path("a"), &body).await;
    let message = "the namespace of the object (other) does not match the namespace on the request (default)";
    fails(&answer, 400, "BadRequest", message, &json!({}));
    let answer = server.put(&map_path("a"), &config_map("b", json!({}))).await;
    let message = "the name of the object (b) does not match the name on the URL (a)";
    fails(&answer, 400, "BadRequest", message, &json!({}));
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"from": "url"}});
    is(&server.put(&map_path("a"), &nameless).await, 200, &stored_map("a", json!({"from": "url"})));
    let misplaced = json!({"metadata": {"name": "shop", "namespace": "default"}});
    let created = server.post("/api/v1/namespaces", &misplaced).await.expect(201);
    assert!(created["metadata"].get("namespace").is_none(), "cluster scoped");
}

#[tokio::test]
async fn a_generated_name_ends_with_five_letters_of_the_alphabet() {
    let server = Server::new().await;
    let body = json!({"metadata": {"generateName": "web-"}});
    for _ in 0..50 {
        let made = server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &body).await.expect(201);
        let suffix = made["metadata"]["name"].as_str().unwrap().strip_prefix("web-").unwrap();
        assert_eq!(suffix.len(), 5);
        assert!(suffix.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)), "{suffix}");
        assert_eq!(made["metadata"]["generateName"], "web-");
    }
    let both = json!({"metadata": {"generateName": "web-", "name": "chosen"}});
    assert_eq!(server.post(CONFIG_MAPS, &both).await.expect(201)["metadata"]["name"], "chosen");
}

/// A server whose generated names end as told.
fn naming(server: &Server, suffix: fn() -> String) -> Server {
    let mut api = ApiState::new(Api {
        store: Arc::clone(&server.store) as Arc<dyn Store>,
        streams: Arc::new(EchoStreams),
        observations: Arc::new(OneNode),
        places: Arc::new(Afresh(Arc::clone(&server.store) as Arc<dyn Store>)),
        gate: Arc::new(warren_write::Gate::new(&ClusterConfig::default())),
        tokens: warren_tokens::Tokens::new("cluster.local", warren_tokens::KeyRing::default()),
        connections: tokio_util::task::TaskTracker::new(),
    });
    api.suffix = suffix;
    let router = Router::new().fallback(crate::server::handle).with_state(Arc::new(api));
    Server { router, store: Arc::clone(&server.store), directory: tempfile::tempdir().unwrap() }
}

#[tokio::test]
async fn a_generated_name_that_is_taken_is_tried_again() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn third_time_lucky() -> String {
        let lucky = CALLS.fetch_add(1, Ordering::SeqCst) >= 2;
        if lucky { "zzzzz" } else { "bbbbb" }.to_owned()
    }
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("web-bbbbb", json!({}))).await.expect(201);
    let body = json!({"metadata": {"generateName": "web-"}});
    let created = naming(&server, third_time_lucky).post(CONFIG_MAPS, &body).await.expect(201);
    assert_eq!(created["metadata"]["name"], "web-zzzzz");
    let unlucky = naming(&server, || "bbbbb".to_owned()).post(CONFIG_MAPS, &body).await;
    let message = "configmaps \"web-bbbbb\" already exists, the server was not able to generate a unique name for \
                   the object";
    let details = json!({"name": "web-bbbbb", "kind": "configmaps", "retryAfterSeconds": 1});
    fails(&unlucky, 409, "AlreadyExists", message, &details);
    assert_eq!(unlucky.headers["retry-after"], "1");
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_spec_and_the_deletion_only() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut body = deployment("web");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(DEPLOYMENTS, &body).await.expect(201);
    let generation = |answer: Answer| answer.expect(200)["metadata"]["generation"].clone();
    let labels = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}});
    assert_eq!(generation(server.patch(&path, MERGE, &labels).await), 1);
    let status = json!({"status": {"observedGeneration": 1, "replicas": 1}});
    assert_eq!(generation(server.patch(&format!("{path}/status"), MERGE, &status).await), 1);
    assert_eq!(generation(server.patch(&path, MERGE, &json!({"spec": {"replicas": 2}})).await), 2);
    assert_eq!(generation(server.delete(&path, &json!({})).await), 3);
    assert_eq!(generation(server.delete(&path, &json!({})).await), 3, "the first time only");
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_revision_and_makes_no_event() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", version(&created));
    let mut events = Events::open(&server, &path, JSON).await;
    let before = server.revision();
    assert_eq!(server.put(&map_path("a"), &created).await.expect(200), created);
    let unversioned = config_map("a", json!({"k": "v"}));
    assert_eq!(server.put(&map_path("a"), &unversioned).await.expect(200), created);
    for kind in [MERGE, STRATEGIC] {
        let patch = json!({"data": {"k": "v"}});
        assert_eq!(server.patch(&map_path("a"), kind, &patch).await.expect(200), created);
    }
    let patch = json!([{"op": "test", "path": "/data/k", "value": "v"}]);
    assert_eq!(server.patch(&map_path("a"), JSON_PATCH, &patch).await.expect(200), created);
    assert_eq!(server.revision(), before);
    server.patch(&map_path("a"), MERGE, &json!({"data": {"k": "w"}})).await.expect(200);
    assert_eq!(events.next().await.unwrap()["object"]["data"]["k"], "w", "the first event there is");
}
