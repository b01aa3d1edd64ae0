//! Endpoints, and the older version of EndpointSlices.

use super::*;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const BETA: &str = "/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";

fn slice(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.42.1.2"], "conditions": {"ready": true}, "nodeName": "node-1",
        }],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    })
}

#[tokio::test]
async fn endpoints_are_written_by_users() {
    let server = Server::new().await;
    let body = json!({
        "metadata": {"name": "web", "labels": {"tier": "web"}},
        "subsets": [{"addresses": [{"ip": "10.42.1.2"}], "ports": [{"port": 8080}]}],
    });
    let made = server.post(ENDPOINTS, &body).await.expect(201);
    assert_eq!(made["subsets"][0]["ports"][0], json!({"port": 8080, "protocol": "TCP"}));
    let table = server.get_as(ENDPOINTS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
    assert_eq!(table["rows"][0]["cells"][1], "10.42.1.2:8080");
    let web = format!("{ENDPOINTS}/web");
    let patch = json!({"subsets": [{"notReadyAddresses": [{"ip": "10.42.1.3"}]}]});
    let patched = server.patch(&web, "strategic-merge-patch+json", &patch).await.expect(200);
    assert_eq!(patched["subsets"], patch["subsets"], "subsets are replaced whole");
    let selected = format!("{ENDPOINTS}?labelSelector=tier%3Dweb");
    server.delete(&selected, &json!({})).await.expect(200);
    server.get(&web).await.expect(404);
}

#[tokio::test]
async fn endpoints_without_sense_are_refused() {
    let server = Server::new().await;
    for (subset, says) in [
        (json!({}), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"),
        (json!({"addresses": [{"ip": "here"}]}), "subsets[0].addresses[0].ip: Invalid value"),
        (json!({"addresses": [{"ip": "127.0.0.1"}]}), "subsets[0].addresses[0].ip: Invalid value"),
        (
            json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 0}]}),
            "subsets[0].ports[0].port: Invalid value",
        ),
        (
            json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}, {"name": "b", "port": 2}]}),
            "subsets[0].ports[0].name: Required value",
        ),
    ] {
        let body = json!({"metadata": {"name": "web"}, "subsets": [subset]});
        let refused = server.post(ENDPOINTS, &body).await.expect(422);
        assert!(refused["message"].as_str().unwrap().contains(says), "{says}: {refused}");
    }
}

#[tokio::test]
async fn the_older_version_is_not_written() {
    let server = Server::new().await;
    server.post(SLICES, &slice("web-a")).await.expect(201);
    let beta = format!("{BETA}/web-a");
    for refused in [
        server.post(BETA, &slice("x")).await,
        server.patch(&beta, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})).await,
        server.delete(&beta, &json!({})).await,
    ] {
        let refused = refused.expect(405);
        assert!(refused["message"].as_str().unwrap().contains("write discovery.k8s.io/v1"), "{refused}");
    }
}

#[tokio::test]
async fn an_old_client_reads_slices_in_its_version() {
    let server = Server::new().await;
    server.post(SLICES, &slice("web-a")).await.expect(201);
    let beta = server.get(&format!("{BETA}/web-a")).await.expect(200);
    assert_eq!(beta["apiVersion"], "discovery.k8s.io/v1beta1");
    let first = &beta["endpoints"][0];
    assert_eq!(first["topology"], json!({"kubernetes.io/hostname": "node-1"}));
    assert!(first.get("nodeName").is_none() && first["conditions"]["ready"] == true, "{first}");
    let list = server.get(BETA).await.expect(200);
    assert_eq!((&list["apiVersion"], &list["kind"]), (&beta["apiVersion"], &json!("EndpointSliceList")));
    assert!(list["items"].as_array().unwrap().contains(&beta), "{list}");
    let stored = server.get(&format!("{SLICES}/web-a")).await.expect(200);
    assert_eq!(stored["apiVersion"], "discovery.k8s.io/v1");
    assert_eq!(stored["endpoints"][0]["nodeName"], "node-1", "the stored version is as it was");
    let path = format!("{BETA}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Dweb-a");
    let watched = server.get(&path).await;
    let line = watched.body.split(|byte| *byte == b'\n').next().unwrap();
    let event: Value = serde_json::from_slice(line).unwrap();
    assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &beta));
}
