//! Deletion end to end.

use warren_store::{Key, Store, Transaction};

use super::*;

#[tokio::test]
async fn gone_at_once_or_held_by_finalizers() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let wrong = json!({"preconditions": {"uid": "other"}});
    assert_eq!(server.delete(&format!("{CONFIG_MAPS}/a"), &wrong).await.expect(409)["reason"], "Conflict");
    let status = server
        .delete(&format!("{CONFIG_MAPS}/a"), &json!({"propagationPolicy": "Background"}))
        .await
        .expect(200);
    assert_eq!(
        (&status["status"], &status["details"]["uid"]),
        (&json!("Success"), &created["metadata"]["uid"])
    );
    server.delete(&format!("{CONFIG_MAPS}/a"), &json!({})).await.expect(404);

    let mut held = config_map("b", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(CONFIG_MAPS, &held).await.expect(201);
    let dying = server.delete(&format!("{CONFIG_MAPS}/b"), &json!({})).await.expect(200);
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    server.patch(&format!("{CONFIG_MAPS}/b"), "merge-patch+json", &more).await.expect(422);
    let release = json!({"metadata": {"finalizers": null}});
    server.patch(&format!("{CONFIG_MAPS}/b"), "merge-patch+json", &release).await.expect(200);
    server.get(&format!("{CONFIG_MAPS}/b")).await.expect(404);
}

#[tokio::test]
async fn foreground_and_orphan_wait_for_the_collector() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let dying = server.delete(&format!("{path}?propagationPolicy=Foreground"), &json!({})).await.expect(200);
    assert_eq!(dying["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(dying["metadata"]["generation"], 2);
    let changed = server.delete(&path, &json!({"propagationPolicy": "Orphan"})).await.expect(200);
    assert_eq!(changed["metadata"]["finalizers"], json!(["orphan"]));
}

#[tokio::test]
async fn namespaces_that_the_cluster_needs_stay() {
    let server = Server::new().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let refused = server.delete(&format!("/api/v1/namespaces/{name}"), &json!({})).await.expect(403);
        let message = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
        assert_eq!((&refused["reason"], &refused["message"]), (&json!("Forbidden"), &json!(message)));
    }
    let kept = server.get("/api/v1/namespaces/default").await.expect(200);
    assert!(kept["metadata"].get("deletionTimestamp").is_none(), "{kept}");
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
    let going = server.delete("/api/v1/namespaces/shop", &json!({})).await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
}

#[tokio::test]
async fn scheduled_pods_end_gracefully() {
    let server = Server::new().await;
    server.post(PODS, &pod("free")).await.expect(201);
    assert_eq!(server.delete(&format!("{PODS}/free"), &json!({})).await.expect(200)["status"], "Success");
    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = json!("n1");
    server.post(PODS, &bound).await.expect(201);
    let dying = server.delete(&format!("{PODS}/bound"), &json!({"gracePeriodSeconds": 7})).await.expect(200);
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 7);
    server.get(&format!("{PODS}/bound")).await.expect(200);
    let gone = server.delete(&format!("{PODS}/bound?gracePeriodSeconds=0"), &json!({})).await.expect(200);
    assert_eq!(gone["status"], "Success");
    server.get(&format!("{PODS}/bound")).await.expect(404);
}

#[tokio::test]
async fn collections_by_selector() {
    let server = Server::new().await;
    for (name, tier) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["labels"] = json!({"tier": tier});
        server.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let deleted =
        server.delete(&format!("{CONFIG_MAPS}?labelSelector=tier%3Dx"), &json!({})).await.expect(200);
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = server.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    server.delete("/api/v1/configmaps", &json!({})).await.expect(405);
}

#[tokio::test]
async fn a_dying_namespace_takes_nothing_new() {
    let server = Server::new().await;
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
    let dying = server.delete("/api/v1/namespaces/shop", &json!({})).await.expect(200);
    assert_eq!(dying["status"]["phase"], "Terminating");
    let refused =
        server.post("/api/v1/namespaces/shop/configmaps", &config_map("a", json!({}))).await.expect(403);
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    assert_eq!(
        refused["message"],
        "configmaps \"a\" is forbidden: unable to create new content in namespace shop because it is being terminated"
    );
    let mut finalized = dying;
    finalized["spec"]["finalizers"] = json!([]);
    server.put("/api/v1/namespaces/shop/finalize", &finalized).await.expect(200);
    server.get("/api/v1/namespaces/shop").await.expect(404);
}

#[tokio::test]
async fn an_update_of_a_namespace_keeps_its_spec_and_label() {
    let server = Server::new().await;
    let bare = json!({"metadata": {"name": "default", "labels": {"a": "b"}}, "spec": {"finalizers": []}});
    let updated = server.put("/api/v1/namespaces/default", &bare).await.expect(200);
    assert_eq!(updated["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(updated["metadata"]["labels"], json!({"a": "b", "kubernetes.io/metadata.name": "default"}));
}

#[tokio::test]
async fn a_write_that_loses_its_object_is_not_found() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let key = Key::new("configmaps", "default", "a");
    let revision = server.store.snapshot().get(&key).unwrap().revision;
    server.store.commit(Transaction::new().delete(key, revision)).await.unwrap();
    server
        .patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &json!({"data": {"a": "b"}}))
        .await
        .expect(404);
}
