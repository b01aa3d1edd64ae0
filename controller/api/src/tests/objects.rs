//! Create, read, replace; what is refused and how.

use super::*;

#[tokio::test]
async fn an_object_lives() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "1"}))).await.expect(201);
    assert_eq!(created["metadata"]["namespace"], "default");
    assert!(created["metadata"]["uid"].is_string() && created["metadata"]["creationTimestamp"].is_string());
    let read = server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    assert_eq!(read, created);
    let mut changed = read.clone();
    changed["data"]["k"] = json!("2");
    let updated = server.put(&format!("{CONFIG_MAPS}/a"), &changed).await.expect(200);
    assert_ne!(version(&updated), version(&created));
    assert_eq!(updated["metadata"]["uid"], created["metadata"]["uid"]);
    let stale = server.put(&format!("{CONFIG_MAPS}/a"), &changed).await.expect(409);
    assert_eq!(stale["reason"], "Conflict");
    let same = server.put(&format!("{CONFIG_MAPS}/a"), &updated).await.expect(200);
    assert_eq!(version(&same), version(&updated), "a write that changes nothing keeps the revision");
    let exists = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(409);
    assert_eq!(
        (&exists["reason"], &exists["message"]),
        (&json!("AlreadyExists"), &json!("configmaps \"a\" already exists"))
    );
}

#[tokio::test]
async fn what_is_not_there() {
    let server = Server::new().await;
    let missing = server.get(&format!("{DEPLOYMENTS}/x")).await.expect(404);
    assert_eq!(missing["message"], "deployments.apps \"x\" not found");
    assert_eq!(missing["details"], json!({"name": "x", "group": "apps", "kind": "deployments"}));
    for path in ["/api/v1/widgets", "/apis/widgets/v1/jobs", "/nothing"] {
        let unknown = server.get(path).await.expect(404);
        assert_eq!(unknown["message"], "the server could not find the requested resource");
        assert_eq!(unknown["reason"], "NotFound");
    }
    let nowhere =
        server.post("/api/v1/namespaces/none/configmaps", &config_map("a", json!({}))).await.expect(404);
    assert_eq!(nowhere["message"], "namespaces \"none\" not found");
    server.put(&format!("{CONFIG_MAPS}/x"), &config_map("x", json!({}))).await.expect(404);
    server.post("/api/v1/configmaps", &config_map("a", json!({}))).await.expect(405);
    server.post(&format!("{CONFIG_MAPS}/a"), &config_map("a", json!({}))).await.expect(405);
}

#[tokio::test]
async fn bad_bodies_name_the_field() {
    let server = Server::new().await;
    let raw = |content_type: &'static str, body: &'static str| {
        server.send(Server::request(Method::POST, DEPLOYMENTS, &[("content-type", content_type)], body))
    };
    raw("application/json", "{").await.expect(400);
    raw("application/json", "[]").await.expect(400);
    raw("application/json", "").await.expect(400);
    raw("application/yaml", "a: [").await.expect(400);
    let protobuf = raw("application/vnd.kubernetes.protobuf", "k8s").await.expect(400);
    assert!(protobuf["message"].as_str().unwrap().contains("does not begin with"));
    let mut wrong = deployment("web");
    wrong["spec"]["replicas"] = json!("three");
    let status = server.post(DEPLOYMENTS, &wrong).await.expect(400);
    assert!(status["message"].as_str().unwrap().contains("spec.replicas"), "{status}");
    let status = server.post(DEPLOYMENTS, &pod("a")).await.expect(400);
    assert!(status["message"].as_str().unwrap().contains("Pod"), "{status}");
    let mut misplaced = config_map("a", json!({}));
    misplaced["metadata"]["namespace"] = json!("other");
    server.post(CONFIG_MAPS, &misplaced).await.expect(400);
    let mut negative = deployment("web");
    negative["spec"]["replicas"] = json!(-1);
    let status = server.post(DEPLOYMENTS, &negative).await.expect(422);
    assert_eq!(
        status["message"],
        "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let status = server.post(CONFIG_MAPS, &config_map("Not Valid", json!({}))).await.expect(422);
    assert_eq!(status["details"]["causes"][0]["field"], "metadata.name");
    let nameless = server.post(CONFIG_MAPS, &json!({"metadata": {}})).await.expect(422);
    assert_eq!(nameless["details"]["causes"][0]["reason"], "FieldValueRequired");
    let large = config_map("big", json!({"k": "x".repeat(4 * 1024 * 1024)}));
    assert_eq!(server.post(CONFIG_MAPS, &large).await.expect(413)["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn unknown_fields_follow_field_validation() {
    let server = Server::new().await;
    let typo = |name: &str| {
        let mut typo = deployment(name);
        typo["spec"]["replicaz"] = json!(3);
        typo
    };
    let strict = server.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &typo("a")).await.expect(400);
    assert_eq!(
        strict["message"],
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
         \"spec.replicaz\""
    );
    let warned = server.post(DEPLOYMENTS, &typo("b")).await;
    assert!(warned.expect(201)["spec"].get("replicaz").is_none());
    assert_eq!(warned.warnings()[0], "299 - \"unknown field \\\"spec.replicaz\\\"\"");
    let ignored = server.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &typo("c")).await;
    assert!(ignored.expect(201)["spec"].get("replicaz").is_none());
    assert!(!ignored.warnings().iter().any(|warning| warning.contains("replicaz")));
}

#[tokio::test]
async fn names_are_generated_and_yaml_is_read() {
    let server = Server::new().await;
    let mut nameless = config_map("", json!({}));
    nameless["metadata"] = json!({"generateName": "web-"});
    let one = server.post(CONFIG_MAPS, &nameless).await.expect(201);
    let two = server.post(CONFIG_MAPS, &nameless).await.expect(201);
    assert!(one["metadata"]["name"].as_str().unwrap().starts_with("web-"));
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
    let yaml =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\n  creationTimestamp: null\ndata:\n  a: b\n";
    let headers = [("content-type", "application/yaml; charset=utf-8"), ("accept", "application/yaml")];
    let answer = server.send(Server::request(Method::POST, CONFIG_MAPS, &headers, yaml)).await;
    assert_eq!(answer.code, 201);
    assert!(String::from_utf8_lossy(&answer.body).contains("  a: b"));
    let headerless = config_map("h", json!({})).to_string();
    server.send(Server::request(Method::POST, CONFIG_MAPS, &[], headerless)).await.expect(201);
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let server = Server::new().await;
    let revision = server.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"].clone();
    server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a", json!({}))).await.expect(201);
    server.get(&format!("{CONFIG_MAPS}/a")).await.expect(404);
    let dry = server.post(&format!("{SERVICES}?dryRun=All"), &service("a")).await.expect(201);
    assert!(dry["spec"]["clusterIP"].is_string());
    server.post(CONFIG_MAPS, &config_map("b", json!({"k": "1"}))).await.expect(201);
    let path = format!("{CONFIG_MAPS}/b?dryRun=All");
    assert_eq!(
        server.patch(&path, "merge-patch+json", &json!({"data": {"k": "2"}})).await.expect(200)["data"]["k"],
        "2"
    );
    server.delete(&path, &json!({})).await.expect(200);
    assert_eq!(server.get(&format!("{CONFIG_MAPS}/b")).await.expect(200)["data"]["k"], "1");
    assert_ne!(server.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"], revision);
    server.post(&format!("{CONFIG_MAPS}?dryRun=Maybe"), &config_map("c", json!({}))).await.expect(400);
}

#[tokio::test]
async fn generation_and_status_are_the_servers() {
    let server = Server::new().await;
    let mut body = deployment("web");
    body["status"] = json!({"replicas": 9});
    let created = server.post(DEPLOYMENTS, &body).await.expect(201);
    assert_eq!((&created["metadata"]["generation"], &created["status"]), (&json!(1), &json!({})));
    assert_eq!(created["spec"]["replicas"], 1, "defaults are there");
    let path = format!("{DEPLOYMENTS}/web");
    let labelled = server
        .patch(&path, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    assert_eq!(labelled["metadata"]["generation"], 1);
    let scaled = server
        .patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 3}, "status": {"replicas": 7}}))
        .await;
    let scaled = scaled.expect(200);
    assert_eq!((&scaled["metadata"]["generation"], &scaled["status"]), (&json!(2), &json!({})));
    let mut status = scaled.clone();
    status["status"] = json!({"replicas": 3});
    status["spec"]["replicas"] = json!(100);
    let written = server.put(&format!("{path}/status"), &status).await.expect(200);
    assert_eq!((&written["spec"]["replicas"], &written["status"]["replicas"]), (&json!(3), &json!(3)));
    assert_eq!(written["metadata"]["generation"], 2);
    let immutable = json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}});
    let refused = server.patch(&path, "merge-patch+json", &immutable).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("spec.selector"), "{refused}");
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let server = Arc::new(Server::new().await);
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let writers = (0..4).map(|writer| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for _ in 0..100 {
                let patch = json!({"data": {format!("k{writer}"): "1"}});
                let answer = server.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &patch).await;
                if answer.code == 200 {
                    return;
                }
                assert_eq!(answer.code, 409);
            }
            panic!("a patch without resourceVersion never succeeded");
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let data = server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200)["data"].clone();
    assert_eq!(data, json!({"k0": "1", "k1": "1", "k2": "1", "k3": "1"}));
}

#[tokio::test]
async fn others_are_kept_out() {
    let server = Server::new().await;
    let as_peer = |peer: Option<PeerIdentity>, path: &str| {
        let mut request = Request::builder().uri(path);
        if let Some(peer) = peer {
            request = request.extension(peer);
        }
        server.send(request.body(Body::empty()).unwrap())
    };
    let member = PeerIdentity {
        common_name: "system:warren:node:n".into(),
        organizations: vec!["system:warren:members".into()],
        ..PeerIdentity::default()
    };
    let refused = as_peer(Some(member), PODS).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods is forbidden: User \"system:warren:node:n\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    as_peer(None, "/apis").await.expect(403);
    assert_eq!(as_peer(None, "/healthz").await.code, 200);
    assert_eq!(as_peer(None, "/version").await.expect(200)["gitVersion"], "v1.34.0+warren");
}

fn event(name: &str, set: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "labels": {"set": set}}, "reason": "Test",
        "type": "Normal", "involvedObject": {"kind": "Pod", "name": name, "namespace": "default"}})
}

/// While others count events, all that are selected go, and nothing else.
#[tokio::test]
async fn a_collection_of_events_goes_while_they_are_counted() {
    let server = Arc::new(Server::new().await);
    let path = "/api/v1/namespaces/default/events";
    for number in 0..60 {
        let set = if number % 3 == 0 { "other" } else { "mine" };
        server.post(path, &event(&format!("e{number}"), set)).await.expect(201);
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let counting = {
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                count += 1;
                let name = format!("{path}/e{}", count % 60);
                let answer = server.patch(&name, "merge-patch+json", &json!({"count": count})).await;
                assert!([200, 404].contains(&answer.code.as_u16()), "{}", answer.code);
            }
        })
    };
    let gone = server.delete(&format!("{path}?labelSelector=set%3Dmine"), &json!({})).await.expect(200);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    counting.await.unwrap();
    assert_eq!(gone["items"].as_array().unwrap().len(), 40);
    let left = server.get(path).await.expect(200);
    let sets: Vec<&Value> =
        left["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["labels"]["set"]).collect();
    assert_eq!(sets.len(), 20, "{left}");
    assert!(sets.iter().all(|set| **set == "other"));
    // The same by the other group, and by a field.
    let other = "/apis/events.k8s.io/v1/namespaces/default/events";
    let one =
        server.delete(&format!("{other}?fieldSelector=regarding.name%3De0"), &json!({})).await.expect(200);
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    server.delete(&format!("{other}?labelSelector=set%3Dother"), &json!({})).await.expect(200);
    assert_eq!(server.get(path).await.expect(200)["items"], json!([]));
}

/// A page of a collection may be deleted, and the next one from where it ended.
#[tokio::test]
async fn a_collection_goes_page_by_page() {
    let server = Server::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        server.post(CONFIG_MAPS, &config_map(name, json!({}))).await.expect(201);
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = server.delete(&format!("{CONFIG_MAPS}?limit=2"), &json!({})).await.expect(200);
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".into(), "b".into()], &json!(3))
    );
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second =
        server.delete(&format!("{CONFIG_MAPS}?limit=2&continue={token}"), &json!({})).await.expect(200);
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(names(&server.get(CONFIG_MAPS).await.expect(200)), ["e"]);
}

/// Every kind that may be deleted as a collection loses what is selected and keeps the rest.
#[tokio::test]
async fn every_collection_loses_what_is_selected() {
    let server = Server::new().await;
    let kinds = crate::kinds::KINDS.iter().filter(|kind| {
        kind.verbs.contains(&"deletecollection") && kind.refusal.is_empty() && kind.resource != "namespaces"
    });
    for kind in kinds {
        let namespace = if kind.namespaced { "default" } else { "" };
        let put = async |name: &str, label: &str| {
            let key = warren_store::Key::new(&kind.resource, namespace, name);
            let mut value = json!({"metadata": {"name": name, "uid": name, "labels": {"set": label}}});
            if kind.namespaced {
                value["metadata"]["namespace"] = json!(namespace);
            }
            // A type in the status of an unscheduled pod, or none: it goes at once.
            use warren_store::Store as _;
            server.store.commit(warren_store::Transaction::new().create(key, value)).await.unwrap();
        };
        let prefix = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
        let scope = if kind.namespaced { "/namespaces/default" } else { "" };
        let path = format!("{prefix}/{}{scope}/{}", kind.version, kind.plural);
        let options = json!({"propagationPolicy": "Background"});
        // A namespace is born with an account.
        server.delete(&path, &options).await.expect(200);
        for name in ["a", "b", "c"] {
            put(name, if name == "c" { "keep" } else { "go" }).await;
        }
        let gone = server.delete(&format!("{path}?labelSelector=set%3Dgo"), &options).await.expect(200);
        assert_eq!(gone["items"].as_array().unwrap().len(), 2, "{path}");
        let left = server.get(&path).await.expect(200);
        let left: Vec<&Value> = left["items"].as_array().unwrap().iter().collect();
        assert_eq!(left.len(), 1, "{path}: {left:?}");
        assert_eq!(left[0]["metadata"]["name"], "c");
        let field = format!("{path}?fieldSelector=metadata.name%3Dc");
        server.delete(&field, &options).await.expect(200);
        assert_eq!(server.get(&path).await.expect(200)["items"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn field_managers_have_printable_names() {
    let server = Server::new().await;
    let with = |name: &str| format!("{CONFIG_MAPS}?fieldManager={name}");
    server.post(&with("kubectl-create"), &config_map("a", json!({}))).await.expect(201);
    let long = server.post(&with(&"x".repeat(129)), &config_map("b", json!({}))).await.expect(422);
    assert_eq!(
        long["message"],
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes"
    );
    let path = format!("{CONFIG_MAPS}/a?fieldManager=a%0Ab");
    let lines = server.patch(&path, "merge-patch+json", &json!({})).await.expect(422);
    assert!(lines["message"].as_str().unwrap().contains("printable"), "{lines}");
}
