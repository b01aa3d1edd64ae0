//! §2 dry-run: everything is done but the writing.

use super::*;

#[tokio::test]
async fn every_verb_answers_and_nothing_happens() {
    let server = Server::new().await;
    let stored = server.post(CONFIG_MAPS, &config_map("b", json!({"k": "1"}))).await.expect(201);
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    server.post(PODS, &pod("p")).await.expect(201);
    let before = server.revision();
    let dry = |path: &str| format!("{path}?dryRun=All");

    let mut created = stored_map("a", json!({"k": "v"}));
    created["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    is(&server.post(&dry(CONFIG_MAPS), &config_map("a", json!({"k": "v"}))).await, 201, &created);
    let path = dry(&map_path("b"));
    is(
        &server.put(&path, &config_map("b", json!({"k": "2"}))).await,
        200,
        &stored_map("b", json!({"k": "2"})),
    );
    is(
        &server.patch(&path, MERGE, &json!({"data": {"k": "3"}})).await,
        200,
        &stored_map("b", json!({"k": "3"})),
    );
    assert_eq!(server.delete(&path, &json!({})).await.expect(200)["status"], "Success");
    let body = server.delete(&map_path("b"), &json!({"dryRun": ["All"]})).await.expect(200);
    assert_eq!(body["status"], "Success");
    let collection = server.delete(&dry(CONFIG_MAPS), &json!({})).await.expect(200);
    assert_eq!(names(&collection), ["b"]);
    let scale = server
        .patch(&dry(&format!("{DEPLOYMENTS}/web/scale")), MERGE, &json!({"spec": {"replicas": 9}}))
        .await;
    assert_eq!(scale.expect(200)["spec"]["replicas"], 9);
    let status = server
        .patch(&dry(&format!("{DEPLOYMENTS}/web/status")), MERGE, &json!({"status": {"replicas": 9}}))
        .await;
    assert_eq!(status.expect(200)["status"]["replicas"], 9);
    let service = server.post(&dry(SERVICES), &service("s")).await.expect(201);
    assert!(service["spec"]["clusterIP"].is_string(), "defaults and allocations are shown");
    let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}});
    server.post(&dry(&format!("{PODS}/p/eviction")), &eviction).await.expect(201);
    let generated = json!({"metadata": {"generateName": "web-"}});
    server.post(&dry(CONFIG_MAPS), &generated).await.expect(201);

    assert_eq!(server.revision(), before);
    assert_eq!(server.get(&map_path("b")).await.expect(200), stored);
}

#[tokio::test]
async fn what_would_fail_fails() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    assert_eq!(server.post(&dry, &config_map("a", json!({}))).await.expect(409)["reason"], "AlreadyExists");
    assert_eq!(server.post(&dry, &config_map("Not Valid", json!({}))).await.expect(422)["reason"], "Invalid");
    server.delete(&format!("{CONFIG_MAPS}/b?dryRun=All"), &json!({})).await.expect(404);
}

#[tokio::test]
async fn any_other_value_is_a_bad_request() {
    let server = Server::new().await;
    let answer = server.post(&format!("{CONFIG_MAPS}?dryRun=Maybe"), &config_map("a", json!({}))).await;
    let message = "invalid value \"Maybe\" for query parameter \"dryRun\": supported values: \"All\"";
    fails(&answer, 400, "BadRequest", message, &json!({}));
    server
        .post(&format!("{CONFIG_MAPS}?dryRun=All&dryRun=Maybe"), &config_map("a", json!({})))
        .await
        .expect(400);
    server
        .post(&format!("{CONFIG_MAPS}?dryRun=All&dryRun=All"), &config_map("a", json!({})))
        .await
        .expect(201);
}
