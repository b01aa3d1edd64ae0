//! Logs, binding, eviction.

use super::*;

pub(super) async fn running(server: &Server, name: &str, node: &str) {
    let mut body = pod(name);
    body["spec"]["nodeName"] = json!(node);
    let mut created = server.post(PODS, &body).await.expect(201);
    created["status"] = json!({"phase": "Running", "containerStatuses": [{
        "name": "main", "image": "nginx:1", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]});
    server.put(&format!("{PODS}/{name}/status"), &created).await.expect(200);
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let answer = server.get(&format!("{PODS}/web/log?tailLines=3")).await;
    assert_eq!(answer.headers["content-type"], "text/plain");
    assert_eq!(answer.body, "default/web@n1 main tail=Some(3)\nend\n");
    running(&server, "far", "lost").await;
    assert_eq!(server.get(&format!("{PODS}/far/log")).await.expect(503)["reason"], "ServiceUnavailable");
    server.get(&format!("{PODS}/none/log")).await.expect(404);
    server.get(&format!("{PODS}/web/log?container=x")).await.expect(400);
    server.post(PODS, &pod("new")).await.expect(201);
    let waiting = server.get(&format!("{PODS}/new/log")).await.expect(400);
    assert_eq!(
        waiting["message"],
        "container \"main\" in pod \"new\" is waiting to start: ContainerCreating"
    );
    server.post(&format!("{PODS}/web/log"), &json!({})).await.expect(405);
}

#[tokio::test]
async fn bound_once() {
    let server = Server::new().await;
    server.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.expect(201);
    server.post(PODS, &pod("web")).await.expect(201);
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web"}, "target": {"kind": "Node", "name": node}});
    server.post(&format!("{PODS}/web/binding"), &binding("none")).await.expect(400);
    server.post(&format!("{PODS}/web/binding"), &binding("n1")).await.expect(201);
    server.post(&format!("{PODS}/web/binding"), &binding("n1")).await.expect(409);
    let pod = server.get(&format!("{PODS}/web")).await.expect(200);
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
}

#[tokio::test]
async fn eviction_is_a_graceful_deletion() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}, "deleteOptions": {"gracePeriodSeconds": 5}});
    server.post(&format!("{PODS}/web/eviction"), &eviction).await.expect(201);
    let dying = server.get(&format!("{PODS}/web")).await.expect(200);
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 5);
}
