//! Lists: selectors, pages, revisions, tables.

use super::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[tokio::test]
async fn selected_by_labels_and_fields() {
    let server = Server::new().await;
    for name in ["a", "b", "c"] {
        server.post(PODS, &pod(name)).await.expect(201);
    }
    let list = server.get(&format!("{PODS}?labelSelector=app+in+(a,c)")).await.expect(200);
    assert_eq!((&list["kind"], names(&list)), (&json!("PodList"), vec!["a", "c"]));
    let list =
        server.get("/api/v1/pods?fieldSelector=metadata.name=b,status.phase=Pending").await.expect(200);
    assert_eq!(names(&list), ["b"]);
    let refused = server.get(&format!("{PODS}?fieldSelector=spec.magic=1")).await.expect(400);
    assert_eq!(refused["message"], "field label not supported: spec.magic");
    server.get(&format!("{PODS}?labelSelector=a=b=c")).await.expect(400);
    server.get(&format!("{PODS}?limit=x")).await.expect(400);
}

#[tokio::test]
async fn pages_show_one_revision() {
    let server = Server::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        server.post(CONFIG_MAPS, &config_map(name, json!({}))).await.expect(201);
    }
    let first = server.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete(&format!("{CONFIG_MAPS}/c"), &json!({})).await.expect(200);
    server.post(CONFIG_MAPS, &config_map("bb", json!({}))).await.expect(201);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = server.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"].get("continue").is_none());
    server.get(&format!("{CONFIG_MAPS}?limit=2&continue=xyz")).await.expect(400);
    // After a restart nobody remembers that revision; the error says how to go on all the same.
    let server = server.restart().await;
    let expired = server.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.expect(410);
    assert_eq!(expired["reason"], "Expired");
    let rest = expired["metadata"]["continue"].as_str().unwrap();
    server.post(CONFIG_MAPS, &config_map("f", json!({}))).await.expect(201);
    let rest = server.get(&format!("{CONFIG_MAPS}?limit=9&continue={rest}")).await.expect(200);
    assert_eq!(names(&rest), ["e", "f"]);
}

#[tokio::test]
async fn revisions_of_lists() {
    let server = Server::new().await;
    let now: u64 = server.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    server.get(&format!("{CONFIG_MAPS}?resourceVersion=0")).await.expect(200);
    server.get(&format!("{CONFIG_MAPS}?resourceVersion={now}&resourceVersionMatch=Exact")).await.expect(200);
    let future = server.get(&format!("{CONFIG_MAPS}?resourceVersion={}", now + 5)).await;
    assert_eq!(future.expect(504)["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert!(future.headers.contains_key("retry-after"));
    server.get(&format!("{CONFIG_MAPS}?resourceVersionMatch=Exact")).await.expect(422);
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    server
        .patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &json!({"data": {"k": "v"}}))
        .await
        .expect(200);
    let exact =
        |revision: u64| format!("{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    let before = server.get(&exact(now)).await.expect(200);
    assert_eq!((names(&before).len(), version(&before)), (0, &*now.to_string()));
    let between = server.get(&exact(now + 1)).await.expect(200);
    assert_eq!((names(&between), &between["items"][0]["data"]), (vec!["a"], &json!({})));
    let server = server.restart().await;
    assert_eq!(server.get(&exact(now)).await.expect(410)["reason"], "Expired");
}

#[tokio::test]
async fn tables_and_metadata() {
    let server = Server::new().await;
    server.post(PODS, &pod("a")).await.expect(201);
    let table = server.get_as(PODS, TABLE).await.expect(200);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(&columns[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns.len());
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = server.get_as(&format!("{PODS}/a?includeObject=Object"), TABLE).await.expect(200);
    assert_eq!(whole["rows"][0]["object"]["spec"]["containers"][0]["name"], "main");
    let none = server.get_as(&format!("{PODS}?includeObject=None"), TABLE).await.expect(200);
    assert!(none["rows"][0]["object"].is_null());
    server.get_as(&format!("{PODS}?includeObject=Some"), TABLE).await.expect(400);
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let partial = server.get_as(PODS, partial).await.expect(200);
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0].get("spec").is_none());
    let missing = server.get_as(&format!("{PODS}/x"), TABLE).await.expect(404);
    assert_eq!(missing["kind"], "Status");
    server.get_as(PODS, "application/vnd.kubernetes.protobuf").await.expect(406);
}
