//! Discovery, OpenAPI and health over HTTP.

use super::*;

#[tokio::test]
async fn documents_have_the_types_that_clients_want() {
    let server = Server::new().await;
    assert_eq!(server.get("/api").await.expect(200)["versions"], json!(["v1"]));
    assert_eq!(server.get("/apis").await.expect(200)["kind"], "APIGroupList");
    assert_eq!(server.get("/apis/apps").await.expect(200)["kind"], "APIGroup");
    assert_eq!(server.get("/apis/apps/v1").await.expect(200)["kind"], "APIResourceList");
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = server.get_as("/apis", &format!("{v2},application/json")).await;
    assert_eq!(answer.headers["content-type"], v2);
    assert_eq!(answer.expect(200)["apiVersion"], "apidiscovery.k8s.io/v2");
    let openapi =
        server.get_as("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf").await;
    assert_eq!(openapi.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert_eq!(server.get("/openapi/v2").await.expect(200)["swagger"], "2.0");
    let index = server.get("/openapi/v3").await.expect(200);
    for entry in index["paths"].as_object().unwrap().values() {
        server.get(entry["serverRelativeURL"].as_str().unwrap()).await.expect(200);
    }
    server.get("/apis/widgets").await.expect(404);
    server.post("/apis", &json!({})).await.expect(405);
}

#[tokio::test]
async fn readiness_is_the_stores() {
    let server = Server::new().await;
    assert_eq!(server.get("/readyz").await.body, "ok");
    let verbose = server.get("/readyz?verbose").await;
    assert!(String::from_utf8_lossy(&verbose.body).contains("[+]store ok"));
    assert_eq!(server.get("/livez/ping").await.code, 200);
    server.get("/readyz/nothing").await.expect(404);
    let store = Arc::clone(&server.store);
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    assert_eq!(server.get("/readyz").await.code, 500);
    assert_eq!(server.get("/livez").await.code, 200);
    let refused = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(503);
    assert_eq!(refused["reason"], "ServiceUnavailable");
}
