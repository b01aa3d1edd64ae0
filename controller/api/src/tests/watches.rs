//! Watches over HTTP.

use super::*;

/// A running watch, read line by line.
struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    async fn open(server: &Server, path: &str, accept: &str) -> Self {
        let response =
            server.open(Server::request(Method::GET, path, &[("accept", accept)], Body::empty())).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("no event in time")?;
            self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// Type and name of the next event.
    async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

fn pair(event: &str, name: &str) -> (String, String) {
    (event.to_owned(), name.to_owned())
}

fn labelled(name: &str, tier: &str) -> Value {
    let mut object = config_map(name, json!({}));
    object["metadata"]["labels"] = json!({"tier": tier});
    object
}

#[tokio::test]
async fn state_first_then_changes() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let mut events = Events::open(&server, &format!("{CONFIG_MAPS}?watch=true"), "*/*").await;
    assert_eq!(events.brief().await, pair("ADDED", "a"));
    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201);
    server.post(PODS, &pod("other-kind")).await.expect(201);
    server
        .patch(&format!("{CONFIG_MAPS}/b"), "merge-patch+json", &json!({"data": {"x": "y"}}))
        .await
        .expect(200);
    server.delete(&format!("{CONFIG_MAPS}/a"), &json!({})).await.expect(200);
    assert_eq!(events.brief().await, pair("ADDED", "b"));
    let modified = events.next().await.unwrap();
    assert_eq!((&modified["type"], &modified["object"]["data"]["x"]), (&json!("MODIFIED"), &json!("y")));
    let deleted = events.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let revision = |event: &Value| version(&event["object"]).parse::<u64>().unwrap();
    assert!(revision(&deleted) > revision(&modified), "the deletion has its own revision");
}

#[tokio::test]
async fn from_a_revision_and_through_a_selector() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &labelled("a", "x")).await.expect(201);
    let list = server.get(CONFIG_MAPS).await.expect(200);
    let path = format!("{CONFIG_MAPS}?watch=1&labelSelector=tier%3Dx&resourceVersion={}", version(&list));
    server.post(CONFIG_MAPS, &labelled("b", "y")).await.expect(201);
    let mut events = Events::open(&server, &path, "*/*").await;
    let tier = |tier: &str| json!({"metadata": {"labels": {"tier": tier}}});
    server.patch(&format!("{CONFIG_MAPS}/b"), "merge-patch+json", &tier("x")).await.expect(200);
    server.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &tier("y")).await.expect(200);
    server.delete(&format!("{CONFIG_MAPS}/a"), &json!({})).await.expect(200);
    server.delete(&format!("{CONFIG_MAPS}/b"), &json!({})).await.expect(200);
    assert_eq!(events.brief().await, pair("ADDED", "b"), "entering the selection");
    let left = events.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("a")));
    assert_eq!(left["object"]["metadata"]["labels"]["tier"], "x", "the last state that was selected");
    assert_eq!(events.brief().await, pair("DELETED", "b"));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let options =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&server, &format!("{CONFIG_MAPS}?{options}"), "*/*").await;
    assert_eq!(events.brief().await, pair("ADDED", "a"));
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201);
    assert_eq!(events.brief().await, pair("ADDED", "b"));
    let refused = server.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await.expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "resourceVersionMatch");
    server
        .get(&format!("{CONFIG_MAPS}?watch=true&resourceVersionMatch=Exact&resourceVersion=1"))
        .await
        .expect(422);
}

#[tokio::test]
async fn a_revision_that_is_not_known_is_expired() {
    let server = Server::new().await;
    let mut events =
        Events::open(&server, &format!("{CONFIG_MAPS}?watch=true&resourceVersion=999999"), "*/*").await;
    let error = events.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_timeout_ends_with_a_bookmark() {
    let server = Server::new().await;
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true");
    let mut events = Events::open(&server, &path, "*/*").await;
    assert_eq!(events.next().await.unwrap()["type"], "BOOKMARK");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn tables_carry_columns_once_and_names_are_watched() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut events = Events::open(&server, &format!("{CONFIG_MAPS}?watch=true"), table).await;
    let first = events.next().await.unwrap();
    assert_eq!(
        (&first["object"]["kind"], &first["object"]["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    let second = events.next().await.unwrap();
    assert!(second["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    let mut one = Events::open(&server, &format!("{CONFIG_MAPS}/b?watch=true"), "*/*").await;
    assert_eq!(one.brief().await, pair("ADDED", "b"));
}
