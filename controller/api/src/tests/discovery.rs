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
async fn schemas_are_kept_by_their_hash() {
    let server = Server::new().await;
    let index = server.get("/openapi/v3").await.expect(200);
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let kept = server.get(address).await;
    assert!(kept.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert!(kept.expect(200)["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    // Without the hash it is fresh each time, with an old one the new address is told.
    let plain = server.get("/openapi/v3/apis/apps/v1").await;
    assert!(!plain.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(plain.body, kept.body);
    let moved = server.get("/openapi/v3/apis/apps/v1?hash=OLD").await;
    assert_eq!((moved.code.as_u16(), moved.headers["location"].to_str().unwrap()), (301, address));
    server.get("/openapi/v3/apis/apps/v9").await.expect(404);
    // Compressed for whoever says so, and not sent again to whoever has it.
    let get = |headers: &[(&str, &str)]| Server::request(Method::GET, address, headers, Body::empty());
    let packed = server.send(get(&[("accept-encoding", "gzip")])).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.body.len() < kept.body.len() / 4);
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed.body), &mut unpacked).unwrap();
    assert_eq!(unpacked, kept.body);
    let tag = packed.headers["etag"].to_str().unwrap();
    let known = server.send(get(&[("if-none-match", tag)])).await;
    assert_eq!((known.code.as_u16(), known.body.len()), (304, 0));
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
