//! §2 Watch.

use futures_util::future::join_all;
use warren_store::{Key, Transaction};

use super::*;

/// Type, name and whether the revision is the given one.
async fn next(events: &mut Events) -> (String, String, u64) {
    let event = events.next().await.expect("an event");
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    (text(&event["type"]), text(&event["object"]["metadata"]["name"]), number(&event["object"]))
}

fn event(kind: &str, name: &str, revision: u64) -> (String, String, u64) {
    (kind.to_owned(), name.to_owned(), revision)
}

fn watch_path(query: &str) -> String {
    format!("{CONFIG_MAPS}?watch=true{query}")
}

#[tokio::test]
async fn one_json_line_per_event() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    let request =
        Server::request(Method::GET, &watch_path("&timeoutSeconds=1"), &[("accept", JSON)], Body::empty());
    let answer = server.send(request).await;
    assert_eq!(
        (answer.code.as_u16(), &answer.headers["content-type"]),
        (200, &http::HeaderValue::from_static(JSON))
    );
    let expected = format!("{{\"type\":\"ADDED\",\"object\":{created}}}\n");
    assert_eq!(String::from_utf8_lossy(&answer.body), expected, "and nothing more until the time-out");
}

#[tokio::test]
async fn without_a_revision_or_with_zero_the_state_comes_first() {
    let server = Server::new().await;
    let a = number(&server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201));
    for query in ["", "&resourceVersion=0", "&resourceVersion="] {
        let mut events = Events::open(&server, &watch_path(query), JSON).await;
        assert_eq!(next(&mut events).await, event("ADDED", "a", a), "{query}");
        let name = format!("b{}", query.len());
        let b = number(&server.post(CONFIG_MAPS, &config_map(&name, json!({}))).await.expect(201));
        assert_eq!(next(&mut events).await, event("ADDED", &name, b));
        server.delete(&map_path(&name), &json!({})).await.expect(200);
    }
}

#[tokio::test]
async fn with_a_revision_comes_everything_after_it() {
    let server = Server::new().await;
    let a = number(&server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201));
    let b = number(&server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201));
    let changed = server.patch(&map_path("a"), MERGE, &json!({"data": {"x": "y"}})).await.expect(200);
    server.delete(&map_path("a"), &json!({})).await.expect(200);
    let mut events = Events::open(&server, &watch_path(&format!("&resourceVersion={a}")), JSON).await;
    assert_eq!(next(&mut events).await, event("ADDED", "b", b));
    assert_eq!(next(&mut events).await, event("MODIFIED", "a", number(&changed)));
    let deleted = events.next().await.unwrap();
    let mut last = changed.clone();
    last["metadata"]["resourceVersion"] = json!(server.revision().to_string());
    assert_eq!(deleted, json!({"type": "DELETED", "object": last}), "the last state, at a new revision");
}

#[tokio::test]
async fn too_old_is_an_error_event_of_410_and_the_end() {
    let server = Server::new().await;
    let old = server.revision();
    let server = server.restart().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let mut events = Events::open(&server, &watch_path(&format!("&resourceVersion={}", old - 1)), JSON).await;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": format!("too old resource version: {} ({})", old - 1, old + 1),
    });
    assert_eq!(events.next().await.unwrap(), json!({"type": "ERROR", "object": status}));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_revision_that_has_not_happened_is_too_old_as_well() {
    let server = Server::new().await;
    let mut events = Events::open(&server, &watch_path("&resourceVersion=999999"), JSON).await;
    let error = events.next().await.unwrap();
    let reason = (&error["type"], &error["object"]["code"], &error["object"]["reason"]);
    assert_eq!(
        reason,
        (&json!("ERROR"), &json!(410), &json!("Expired")),
        "a client of a state that was replaced"
    );
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn one_object_is_watched_by_its_path() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let b = number(&server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201));
    let mut events = Events::open(&server, &format!("{CONFIG_MAPS}/b?watch=1"), JSON).await;
    assert_eq!(next(&mut events).await, event("ADDED", "b", b));
}

#[tokio::test]
async fn entering_a_selection_is_added_and_leaving_it_deleted() {
    let server = Server::new().await;
    let tier = |tier: &str| json!({"metadata": {"labels": {"tier": tier}}});
    let mut events = Events::open(&server, &watch_path("&labelSelector=tier%3Dx"), JSON).await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let entered = server.patch(&map_path("a"), MERGE, &tier("x")).await.expect(200);
    let changed = server.patch(&map_path("a"), MERGE, &json!({"data": {"k": "v"}})).await.expect(200);
    let left = server.patch(&map_path("a"), MERGE, &tier("y")).await.expect(200);
    assert_eq!(events.next().await.unwrap(), json!({"type": "ADDED", "object": entered}));
    assert_eq!(events.next().await.unwrap(), json!({"type": "MODIFIED", "object": changed}));
    let mut last = changed;
    last["metadata"]["resourceVersion"] = left["metadata"]["resourceVersion"].clone();
    assert_eq!(events.next().await.unwrap(), json!({"type": "DELETED", "object": last}));
    let mut pods =
        Events::open(&server, &format!("{PODS}?watch=true&fieldSelector=spec.nodeName%3Dn1"), JSON).await;
    server.post(PODS, &pod("p")).await.expect(201);
    server.report("pods", "p", |pod| pod["spec"]["nodeName"] = json!("n1")).await;
    assert_eq!(next(&mut pods).await, event("ADDED", "p", server.revision()), "a pod that was bound");
}

#[tokio::test]
async fn bookmarks_come_every_minute_and_before_the_timeout() {
    let server = Server::new().await;
    let path = watch_path("&allowWatchBookmarks=true&timeoutSeconds=100&resourceVersion=1");
    let mut events = Events::open(&server, &path, JSON).await;
    // The namespace.
    let revision = server.revision();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    for after in [60, 100] {
        let bookmark = events.next_at_last().await.unwrap();
        let metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata});
        assert_eq!(bookmark, json!({"type": "BOOKMARK", "object": object}));
        assert!((after..after + 2).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }
    assert!(events.next_at_last().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_cleanly_after_its_time_or_half_an_hour_at_least() {
    let server = Server::new().await;
    for (query, seconds) in
        [("&timeoutSeconds=7", 7..9), ("", 1_800..3_602), ("&timeoutSeconds=0", 1_800..3_602)]
    {
        let mut events =
            Events::open(&server, &watch_path(&format!("{query}&resourceVersion=1")), JSON).await;
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        assert!(events.next_at_last().await.is_none(), "no bookmark was asked for");
        assert!(seconds.contains(&begun.elapsed().as_secs()), "{query} {:?}", begun.elapsed());
        tokio::time::resume();
    }
}

#[tokio::test]
async fn send_initial_events_ends_the_state_with_an_annotated_bookmark() {
    let server = Server::new().await;
    let a = number(&server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201));
    let options = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events =
        Events::open(&server, &watch_path(&format!("{options}&resourceVersion={a}")), JSON).await;
    assert_eq!(next(&mut events).await, event("ADDED", "a", a));
    let bookmark = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {
        "resourceVersion": a.to_string(), "creationTimestamp": null,
        "annotations": {"k8s.io/initial-events-end": "true"},
    }});
    assert_eq!(events.next().await.unwrap(), json!({"type": "BOOKMARK", "object": bookmark}));
    let b = number(&server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201));
    assert_eq!(next(&mut events).await, event("ADDED", "b", b));
    let options = "&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut events = Events::open(&server, &watch_path(options), JSON).await;
    let c = number(&server.post(CONFIG_MAPS, &config_map("c", json!({}))).await.expect(201));
    assert_eq!(next(&mut events).await, event("ADDED", "c", c), "the state was not wanted");
}

#[tokio::test]
async fn tables_have_one_row_per_event_and_columns_once() {
    let server = Server::new().await;
    let a = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201);
    let mut events = Events::open(&server, &watch_path("&includeObject=Object"), TABLE).await;
    let mut first = events.next().await.unwrap();
    let columns = first["object"]["columnDefinitions"].take();
    assert_eq!(columns.as_array().unwrap().len(), 3);
    first["object"]["rows"][0]["cells"][2].take();
    let table = |object: &Value, cells: Value, columns: Value| {
        json!({"type": "ADDED", "object": {
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns,
            "metadata": {"resourceVersion": version(object)}, "rows": [{"cells": cells, "object": object}],
        }})
    };
    assert_eq!(first, table(&a, json!(["a", 1, null]), Value::Null));
    let second = events.next().await.unwrap();
    assert_eq!(
        (&second["object"]["columnDefinitions"], &second["object"]["rows"][0]["cells"][0]),
        (&json!([]), &json!("b"))
    );
}

#[tokio::test]
async fn metadata_alone_is_watched_too() {
    let server = Server::new().await;
    let a = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    let mut events = Events::open(&server, &watch_path(""), PARTIAL).await;
    let object =
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": a["metadata"]});
    assert_eq!(events.next().await.unwrap(), json!({"type": "ADDED", "object": object}));
}

#[tokio::test]
async fn who_cannot_keep_up_is_told_so_and_closed() {
    let server = Server::new().await;
    let mut slow = Events::open(&server, &watch_path("&resourceVersion=1"), JSON).await;
    // More than history holds, of a kind that the watch does not even see.
    for batch in 0..40 {
        let commits = (0..500).map(|number| {
            let key = Key::new("events", "default", &format!("e{number}"));
            let mut transaction = Transaction::new();
            transaction.writes.push(warren_store::Write::Put(key, json!({"metadata": {}, "count": batch})));
            server.store.commit(transaction)
        });
        assert!(join_all(commits).await.iter().all(Result::is_ok));
    }
    let error = slow.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(slow.next().await.is_none());
}
