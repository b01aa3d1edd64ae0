//! §2 Tables and PartialObjectMetadata.

use super::*;

/// A table whose ages are no concern.
async fn table(server: &Server, path: &str) -> Value {
    let mut table = server.get_as(path, TABLE).await.expect(200);
    for column in table["columnDefinitions"].as_array_mut().unwrap() {
        assert!(column["description"].is_string(), "{column}");
        column.as_object_mut().unwrap().remove("description");
    }
    table
}

#[tokio::test]
async fn a_table_is_columns_and_rows() {
    let server = Server::new().await;
    let a = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    let mut found = table(&server, CONFIG_MAPS).await;
    let age = found["rows"][0]["cells"][2].take();
    assert!(age.as_str().is_some_and(|age| age.ends_with('s')), "a duration, made by the server: {age}");
    let column = |name: &str, kind: &str, format: &str| json!({"name": name, "type": kind, "format": format, "priority": 0});
    let partial =
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": a["metadata"]});
    assert_eq!(
        found,
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": server.revision().to_string()},
            "columnDefinitions": [column("Name", "string", "name"), column("Data", "integer", ""), column("Age", "string", "")],
            "rows": [{"cells": ["a", 1, null], "object": partial}],
        })
    );
    let mut one = table(&server, &map_path("a")).await;
    assert_eq!(one["metadata"], json!({"resourceVersion": version(&a)}));
    assert_eq!(one["rows"].take().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn rows_carry_metadata_the_object_or_nothing() {
    let server = Server::new().await;
    let a = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    let carried = |include: &str| {
        let path = format!("{CONFIG_MAPS}?includeObject={include}");
        let server = &server;
        async move { server.get_as(&path, TABLE).await.expect(200)["rows"][0]["object"].clone() }
    };
    assert_eq!(carried("Object").await, a);
    assert_eq!(carried("Metadata").await["metadata"], a["metadata"]);
    assert_eq!(carried("Metadata").await["kind"], "PartialObjectMetadata");
    assert!(carried("None").await.is_null());
    let refused = server.get_as(&format!("{CONFIG_MAPS}?includeObject=Some"), TABLE).await.expect(400);
    assert_eq!(refused["reason"], "BadRequest");
}

#[tokio::test]
async fn the_version_of_the_table_is_the_one_asked_for() {
    let server = Server::new().await;
    let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let table = server.get_as(CONFIG_MAPS, old).await.expect(200);
    let object = &table["rows"][0]["object"]["apiVersion"];
    assert_eq!(
        (&table["apiVersion"], object),
        (&json!("meta.k8s.io/v1beta1"), &json!("meta.k8s.io/v1beta1"))
    );
    server.get_as(CONFIG_MAPS, "application/json;as=Table;v=v9;g=meta.k8s.io").await.expect(406);
    let fallback = "application/json;as=Table;v=v9;g=meta.k8s.io,application/json";
    assert_eq!(server.get_as(CONFIG_MAPS, fallback).await.expect(200)["kind"], "ConfigMapList");
}

#[tokio::test]
async fn pages_of_tables_go_on() {
    let server = Server::new().await;
    for name in ["a", "b", "c"] {
        server.post(CONFIG_MAPS, &config_map(name, json!({}))).await.expect(201);
    }
    let first = server.get_as(&format!("{CONFIG_MAPS}?limit=2"), TABLE).await.expect(200);
    assert_eq!(
        masked(&first["metadata"]),
        json!({"resourceVersion": "<rv>", "continue": "<token>", "remainingItemCount": 1})
    );
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get_as(&format!("{CONFIG_MAPS}?limit=2&continue={token}"), TABLE).await.expect(200);
    assert_eq!(second["rows"][0]["cells"][0], "c");
}

#[tokio::test]
async fn answers_to_writes_are_tables_too_and_failures_are_not() {
    let server = Server::new().await;
    let headers = [("accept", TABLE), ("content-type", JSON)];
    let body = config_map("a", json!({})).to_string();
    let request = || Server::request(Method::POST, CONFIG_MAPS, &headers, body.clone());
    let created = server.send(request()).await.expect(201);
    assert_eq!((&created["kind"], &created["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert_eq!(server.send(request()).await.expect(409)["kind"], "Status");
    let deleted = server.send(Server::request(Method::DELETE, &map_path("a"), &headers, Body::empty())).await;
    assert_eq!(deleted.expect(200)["kind"], "Status");
}

#[tokio::test]
async fn the_columns_of_each_kind() {
    let server = Server::new().await;
    for (path, expected) in [
        (PODS, "Name,Ready,Status,Restarts,Age,[IP],[Node],[Nominated Node],[Readiness Gates]"),
        (DEPLOYMENTS, "Name,Ready,Up-to-date,Available,Age,[Containers],[Images],[Selector]"),
        ("/apis/apps/v1/replicasets", "Name,Desired,Current,Ready,Age,[Containers],[Images],[Selector]"),
        (SERVICES, "Name,Type,Cluster-IP,External-IP,Port(s),Age,[Selector]"),
        ("/apis/networking.k8s.io/v1/ingresses", "Name,Class,Hosts,Address,Ports,Age"),
        (
            "/api/v1/nodes",
            "Name,Status,Roles,Age,Version,[Internal-IP],[External-IP],[OS-Image],[Kernel-Version],[Container-Runtime]",
        ),
        (
            "/api/v1/events",
            "Last Seen,Type,Reason,Object,[Subobject],[Source],Message,[First Seen],[Count],[Name]",
        ),
        ("/api/v1/namespaces", "Name,Status,Age"),
        (CONFIG_MAPS, "Name,Data,Age"),
        ("/api/v1/secrets", "Name,Type,Data,Age"),
    ] {
        let table = table(&server, path).await;
        let columns = table["columnDefinitions"].as_array().unwrap();
        let name = |column: &Value| {
            let name = column["name"].as_str().unwrap();
            if column["priority"] == 1 { format!("[{name}]") } else { name.to_owned() }
        };
        let found: Vec<String> = columns.iter().map(name).collect();
        assert_eq!(found.join(","), expected, "{path}");
        if !path.ends_with("events") {
            assert_eq!(columns[0]["format"], "name");
        }
    }
}

#[tokio::test]
async fn metadata_alone_of_one_and_of_many() {
    let server = Server::new().await;
    let a = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    let partial =
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": a["metadata"]});
    assert_eq!(server.get_as(&map_path("a"), PARTIAL).await.expect(200), partial);
    assert_eq!(
        server.get_as(CONFIG_MAPS, PARTIAL_LIST).await.expect(200),
        json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": server.revision().to_string()}, "items": [partial],
        })
    );
}
