//! Endpoints and the older version of EndpointSlices: read, never written.

use super::{events::Events, *};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const BETA: &str = "/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";

fn slice(name: &str, service: &str, port: u16, endpoints: Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
    })
}

fn endpoint(address: &str, node: &str, ready: bool, terminating: bool) -> Value {
    json!({
        "addresses": [address], "conditions": {"ready": ready, "serving": ready, "terminating": terminating},
        "nodeName": node, "targetRef": {"kind": "Pod", "name": node, "namespace": "default"},
    })
}

/// Two services with slices, one without, and a slice of no service.
async fn populated() -> Server {
    let server = Server::new().await;
    for name in ["web", "api", "empty"] {
        let mut service = service(name);
        service["metadata"]["labels"] = json!({"tier": name});
        server.post(SERVICES, &service).await.expect(201);
    }
    let web = json!([
        endpoint("10.42.1.2", "node-1", true, false),
        endpoint("10.42.2.2", "node-2", false, false),
        endpoint("10.42.3.2", "node-3", false, true),
    ]);
    let more = json!([endpoint("10.42.1.9", "node-1", true, false)]);
    for (name, service, port, endpoints) in [
        ("web-a", "web", 8080, web),
        ("web-b", "web", 8080, more.clone()),
        ("web-c", "web", 9090, json!([{"addresses": ["10.42.4.2"]}])),
        ("api-a", "api", 80, json!([])),
        ("ghost-a", "ghost", 80, more),
    ] {
        server.post(SLICES, &slice(name, service, port, endpoints)).await.expect(201);
    }
    server
}

#[tokio::test]
async fn endpoints_are_what_the_slices_say() {
    let server = populated().await;
    let web = server.get(&format!("{ENDPOINTS}/web")).await.expect(200);
    assert_eq!((&web["kind"], &web["apiVersion"]), (&json!("Endpoints"), &json!("v1")));
    assert_eq!(web["metadata"]["labels"], json!({"tier": "web"}));
    let pod = |node: &str| json!({"kind": "Pod", "name": node, "namespace": "default"});
    assert_eq!(
        web["subsets"],
        json!([
            {
                "addresses": [
                    {"ip": "10.42.1.2", "nodeName": "node-1", "targetRef": pod("node-1")},
                    {"ip": "10.42.1.9", "nodeName": "node-1", "targetRef": pod("node-1")},
                ],
                "notReadyAddresses": [{"ip": "10.42.2.2", "nodeName": "node-2", "targetRef": pod("node-2")}],
                "ports": [{"port": 8080, "protocol": "TCP"}],
            },
            {"addresses": [{"ip": "10.42.4.2"}], "ports": [{"port": 9090, "protocol": "TCP"}]},
        ])
    );
    let unknown = warren_objects::strict::decode(crate::kinds::of("endpoints").unwrap(), &web).unwrap();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert_eq!(server.get(&format!("{ENDPOINTS}/api")).await.expect(200)["subsets"], json!([]));
    for name in ["empty", "ghost"] {
        let missing = server.get(&format!("{ENDPOINTS}/{name}")).await.expect(404);
        assert_eq!(missing["message"], format!("endpoints \"{name}\" not found"));
    }
}

#[tokio::test]
async fn endpoints_are_listed_selected_paged_and_tabled() {
    let server = populated().await;
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = server.get("/api/v1/endpoints").await.expect(200);
    assert_eq!((&all["kind"], names(&all)), (&json!("EndpointsList"), vec!["api".into(), "web".into()]));
    let selected = server.get(&format!("{ENDPOINTS}?labelSelector=tier%3Dweb")).await.expect(200);
    assert_eq!(names(&selected), ["web"]);
    let first = server.get(&format!("{ENDPOINTS}?limit=1")).await.expect(200);
    assert_eq!(names(&first), ["api"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{ENDPOINTS}?limit=1&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["web"]);
    let table = server.get_as(ENDPOINTS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
    let shown = "10.42.1.2:8080,10.42.1.9:8080,10.42.4.2:9090";
    let cells = &table["rows"][1]["cells"];
    assert_eq!((&cells[0], &cells[1]), (&json!("web"), &json!(shown)));
    let elsewhere = server.get("/api/v1/namespaces/other/endpoints").await.expect(200);
    assert_eq!(elsewhere["items"], json!([]));
}

#[tokio::test]
async fn what_is_derived_is_not_written() {
    let server = populated().await;
    let (web, beta) = (format!("{ENDPOINTS}/web"), format!("{BETA}/web-a"));
    let body = json!({"metadata": {"name": "web"}, "subsets": []});
    for refused in [
        server.post(ENDPOINTS, &body).await,
        server.put(&web, &body).await,
        server.patch(&web, "merge-patch+json", &body).await,
        server.delete(&web, &json!({})).await,
        server.delete(ENDPOINTS, &json!({})).await,
    ] {
        let refused = refused.expect(405);
        assert!(refused["message"].as_str().unwrap().starts_with("Endpoints are derived from"), "{refused}");
    }
    for refused in [
        server.post(BETA, &slice("x", "web", 80, json!([]))).await,
        server.patch(&beta, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})).await,
        server.delete(&beta, &json!({})).await,
    ] {
        let refused = refused.expect(405);
        assert!(refused["message"].as_str().unwrap().contains("write discovery.k8s.io/v1"), "{refused}");
    }
}

#[tokio::test]
async fn an_old_client_reads_slices_in_its_version() {
    let server = populated().await;
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

async fn next(events: &mut Events) -> (String, String, Value) {
    let event = events.next().await.unwrap();
    let object = event["object"].clone();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    (event["type"].as_str().unwrap().to_owned(), name, object)
}

/// The state, then what becomes of it by slices and services; a list says what the watch said.
#[tokio::test]
async fn endpoints_are_watched() {
    let server = populated().await;
    let list = server.get(ENDPOINTS).await.expect(200);
    let mut events = Events::open(&server, &format!("{ENDPOINTS}?watch=true"), "application/json").await;
    for name in ["api", "web"] {
        let (kind, found, object) = next(&mut events).await;
        assert_eq!((&*kind, &*found), ("ADDED", name));
        assert!(list["items"].as_array().unwrap().contains(&object), "{object}");
    }
    // From a revision, only what came after it.
    let from = format!(
        "{ENDPOINTS}?watch=true&resourceVersion={}",
        list["metadata"]["resourceVersion"].as_str().unwrap()
    );
    let mut later = Events::open(&server, &from, "application/json").await;

    let more = json!([endpoint("10.42.9.9", "node-1", true, false)]);
    server
        .patch(&format!("{SLICES}/api-a"), "merge-patch+json", &json!({"endpoints": more}))
        .await
        .expect(200);
    for events in [&mut events, &mut later] {
        let (kind, name, object) = next(events).await;
        assert_eq!((&*kind, &*name), ("MODIFIED", "api"));
        assert_eq!(object["subsets"][0]["addresses"][0]["ip"], "10.42.9.9");
        assert_eq!(object, server.get(&format!("{ENDPOINTS}/api")).await.expect(200));
    }
    // A slice that goes leaves nothing behind but the revision.
    server.delete(&format!("{SLICES}/web-c"), &json!({})).await.expect(200);
    let (kind, name, object) = next(&mut events).await;
    assert_eq!((&*kind, &*name, object["subsets"].as_array().unwrap().len()), ("MODIFIED", "web", 1));
    assert_eq!(object, server.get(&format!("{ENDPOINTS}/web")).await.expect(200));
    let list = server.get(ENDPOINTS).await.expect(200);
    assert!(list["items"].as_array().unwrap().contains(&object), "{list}");
    // A service of whose slices the last goes, and one that goes itself.
    server.delete(&format!("{SLICES}/api-a"), &json!({})).await.expect(200);
    let (kind, name, object) = next(&mut events).await;
    assert_eq!((&*kind, &*name), ("DELETED", "api"));
    assert_eq!(version(&object), server.get(ENDPOINTS).await.expect(200)["metadata"]["resourceVersion"]);
    server.delete(&format!("{SERVICES}/web"), &json!({})).await.expect(200);
    assert_eq!(next(&mut events).await.0, "DELETED");
    server.get(&format!("{ENDPOINTS}/web")).await.expect(404);
    // A service for slices that were there before.
    server.post(SERVICES, &service("ghost")).await.expect(201);
    let (kind, name, _) = next(&mut events).await;
    assert_eq!((&*kind, &*name), ("ADDED", "ghost"));
    // The other watch has seen the same.
    let kinds = ["MODIFIED", "DELETED", "DELETED", "ADDED"];
    for kind in kinds {
        assert_eq!(next(&mut later).await.0, kind);
    }
}

#[tokio::test]
async fn endpoints_are_watched_by_selectors() {
    let server = populated().await;
    let path = format!(
        "{ENDPOINTS}?watch=true&labelSelector=tier%3Dweb&allowWatchBookmarks=true\
        &sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    );
    let mut events = Events::open(&server, &path, "application/json").await;
    assert_eq!(next(&mut events).await.1, "web");
    let (kind, _, mark) = next(&mut events).await;
    assert_eq!((&*kind, &mark["kind"]), ("BOOKMARK", &json!("Endpoints")));
    let named = "/api/v1/endpoints?watch=true&fieldSelector=metadata.name%3Dapi";
    let mut named = Events::open(&server, named, "application/json").await;
    assert_eq!(next(&mut named).await.1, "api");
    // Labels are those of the service: the selection is left and entered with them.
    let relabel = async |name: &str, tier: &str| {
        let labels = json!({"metadata": {"labels": {"tier": tier}}});
        server.patch(&format!("{SERVICES}/{name}"), "merge-patch+json", &labels).await.expect(200);
    };
    relabel("web", "other").await;
    assert_eq!(next(&mut events).await.0, "DELETED");
    relabel("api", "web").await;
    let (kind, name, _) = next(&mut events).await;
    assert_eq!((&*kind, &*name), ("ADDED", "api"));
    assert_eq!(next(&mut named).await.0, "MODIFIED");
    let gone = server.get(&format!("{ENDPOINTS}?watch=true&resourceVersion=999999")).await;
    assert!(String::from_utf8_lossy(&gone.body).contains("\"code\":410"));
}
