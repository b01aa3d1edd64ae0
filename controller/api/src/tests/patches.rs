//! The patch types over HTTP.

use super::*;

#[tokio::test]
async fn every_patch_type() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let sidecar = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "main"}, {"name": "side"}],
        "containers": [{"name": "side", "image": "busybox:1"}],
    }}}});
    let patched = server.patch(&path, "strategic-merge-patch+json", &sidecar).await.expect(200);
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
    assert_eq!(containers.iter().map(|c| &c["name"]).collect::<Vec<_>>(), ["main", "side"]);
    assert_eq!(containers[1]["imagePullPolicy"], "IfNotPresent", "defaults reach what a patch adds");
    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]);
    assert_eq!(server.patch(&path, "json-patch+json", &operations).await.expect(200)["spec"]["replicas"], 5);
    let failing = json!([{"op": "test", "path": "/spec/replicas", "value": 6}]);
    assert_eq!(server.patch(&path, "json-patch+json", &failing).await.expect(422)["reason"], "Invalid");
    let merged = server
        .patch(&path, "merge-patch+json", &json!({"metadata": {"annotations": {"a": "b"}}}))
        .await
        .expect(200);
    assert_eq!(merged["metadata"]["annotations"]["a"], "b");
    let unchanged = server
        .patch(&path, "merge-patch+json", &json!({"metadata": {"annotations": {"a": "b"}}}))
        .await
        .expect(200);
    assert_eq!(version(&unchanged), version(&merged));
}

#[tokio::test]
async fn refusals() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let apply = server.patch(&path, "apply-patch+yaml", &json!({})).await.expect(415);
    assert!(apply["message"].as_str().unwrap().contains("client-side apply"));
    server.patch(&path, "json", &json!({})).await.expect(415);
    server.patch(&path, "merge-patch+json", &json!([])).await.expect(400);
    let wrong_type = json!({"spec": {"replicas": "x"}});
    let status = server.patch(&path, "merge-patch+json", &wrong_type).await.expect(400);
    assert!(status["message"].as_str().unwrap().contains("spec.replicas"), "{status}");
    let typo = json!({"spec": {"replicaz": 1}});
    let status =
        server.patch(&format!("{path}?fieldValidation=Strict"), "merge-patch+json", &typo).await.expect(400);
    assert!(status["message"].as_str().unwrap().contains("unknown field \"spec.replicaz\""));
    server.patch(&path, "merge-patch+json", &json!({"metadata": {"name": "other"}})).await.expect(400);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 2}});
    server.patch(&path, "merge-patch+json", &stale).await.expect(409);
    server.patch(&format!("{DEPLOYMENTS}/none"), "merge-patch+json", &json!({})).await.expect(404);
    let headless = json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}});
    let status = server.patch(&path, "strategic-merge-patch+json", &headless).await.expect(400);
    assert!(status["message"].as_str().unwrap().contains("merge key \"name\""));
}

#[tokio::test]
async fn scale_is_a_view_of_the_object() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = server.get(&path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(scale["status"]["selector"], "app=web");
    let mut wanted = scale.clone();
    wanted["spec"]["replicas"] = json!(4);
    assert_eq!(server.put(&path, &wanted).await.expect(200)["spec"]["replicas"], 4);
    server.put(&path, &wanted).await.expect(409);
    let patched =
        server.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 6}})).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 6);
    let stored = server.get(&format!("{DEPLOYMENTS}/web")).await.expect(200);
    assert_eq!((&stored["spec"]["replicas"], &stored["metadata"]["generation"]), (&json!(6), &json!(3)));
    server.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": -1}})).await.expect(422);
    server.delete(&path, &json!({})).await.expect(405);
}
