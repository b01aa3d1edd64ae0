//! §2 Status: the part of an object that is written through `/status`, and `/scale`.

use super::*;

#[tokio::test]
async fn writes_to_the_main_resource_ignore_the_status() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut body = deployment("web");
    body["status"] = json!({"replicas": 9});
    assert_eq!(server.post(DEPLOYMENTS, &body).await.expect(201)["status"], json!({}));
    let mut object = server.get(&path).await.expect(200);
    object["status"] = json!({"replicas": 9});
    assert_eq!(server.put(&path, &object).await.expect(200)["status"], json!({}));
    for kind in [MERGE, STRATEGIC] {
        let patch = json!({"status": {"replicas": 9}});
        assert_eq!(server.patch(&path, kind, &patch).await.expect(200)["status"], json!({}));
    }
}

#[tokio::test]
async fn status_takes_the_status_and_nothing_of_the_spec() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut object = server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let created = object.clone();
    object["spec"]["replicas"] = json!(7);
    object["status"] = json!({"replicas": 1, "observedGeneration": 1});
    let written = server.put(&format!("{path}/status"), &object).await.expect(200);
    let mut expected = created;
    expected["status"] = object["status"].clone();
    expected["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"].clone();
    assert_eq!(written, expected);
    assert_eq!(server.get(&format!("{path}/status")).await.expect(200), written);
    let stale = server.put(&format!("{path}/status"), &object).await.expect(409);
    assert_eq!(stale["reason"], "Conflict");
    let patch = json!({"spec": {"replicas": 7}, "status": {"replicas": 2}});
    let patched = server.patch(&format!("{path}/status"), MERGE, &patch).await.expect(200);
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(1), &json!(2)));
    let condition = json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}});
    let patched = server.patch(&format!("{path}/status"), STRATEGIC, &condition).await.expect(200);
    assert_eq!(patched["status"]["replicas"], 2);
}

#[tokio::test]
async fn scale_is_the_number_and_the_selector() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut body = deployment("web");
    body["spec"]["selector"]["matchLabels"] = json!({"app": "web", "tier": "front"});
    body["spec"]["template"]["metadata"]["labels"] = json!({"app": "web", "tier": "front"});
    server.post(DEPLOYMENTS, &body).await.expect(201);
    let scale = |replicas: i64| {
        json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": replicas},
            "metadata": {
                "name": "web", "namespace": "default", "uid": "<uid>", "resourceVersion": "<rv>",
                "creationTimestamp": "<time>",
            },
            "status": {"replicas": 0, "selector": "app=web,tier=front"},
        })
    };
    let answer = server.get(&path).await;
    is(&answer, 200, &scale(1));
    let mut wanted = answer.json();
    wanted["spec"]["replicas"] = json!(4);
    is(&server.put(&path, &wanted).await, 200, &scale(4));
    assert_eq!(server.put(&path, &wanted).await.expect(409)["reason"], "Conflict");
    for (kind, replicas) in [(MERGE, 5), (STRATEGIC, 6)] {
        is(&server.patch(&path, kind, &json!({"spec": {"replicas": replicas}})).await, 200, &scale(replicas));
    }
    let answer = server.patch(&path, MERGE, &json!({"spec": {"replicas": -1}})).await;
    let detail = "Invalid value: -1: must be greater than or equal to 0";
    fails(
        &answer,
        422,
        "Invalid",
        &format!("Scale.autoscaling \"web\" is invalid: spec.replicas: {detail}"),
        &json!({
            "name": "web", "group": "autoscaling", "kind": "Scale",
            "causes": [{"reason": "FieldValueInvalid", "message": detail, "field": "spec.replicas"}],
        }),
    );
}
