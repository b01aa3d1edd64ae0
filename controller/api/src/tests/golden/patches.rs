//! §3: patches over the wire. The directives of strategic patches are also in `patch/strategic_tests.rs`.

use super::*;

fn containers(object: &Value) -> Vec<(&str, &str)> {
    let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    list.iter().map(|c| (c["name"].as_str().unwrap(), c["image"].as_str().unwrap())).collect()
}

fn template(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

async fn web(server: &Server) -> String {
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    format!("{DEPLOYMENTS}/web")
}

#[tokio::test]
async fn json_patch_operations_and_a_failed_test() {
    let server = Server::new().await;
    let path = web(&server).await;
    let patch = json!([
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "add", "path": "/metadata/annotations", "value": {"a.b/c": "1"}},
        {"op": "copy", "from": "/metadata/annotations/a.b~1c", "path": "/metadata/annotations/d"},
        {"op": "move", "from": "/metadata/annotations/d", "path": "/metadata/annotations/e"},
        {"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "side", "image": "i:1"}},
        {"op": "remove", "path": "/spec/template/spec/containers/0"},
    ]);
    let patched = server.patch(&path, JSON_PATCH, &patch).await.expect(200);
    assert_eq!((&patched["spec"]["replicas"], containers(&patched)), (&json!(3), vec![("side", "i:1")]));
    assert_eq!(patched["metadata"]["annotations"], json!({"a.b/c": "1", "e": "1"}));
    for (patch, why) in [
        (
            json!([{"op": "test", "path": "/spec/replicas", "value": 1}]),
            "operation '/0' failed at path '/spec/replicas': value did not match",
        ),
        (
            json!([{"op": "test", "path": "/spec/replicas", "value": 3}, {"op": "remove", "path": "/none"}]),
            "operation '/1' failed at path '/none': path is invalid",
        ),
    ] {
        let message = format!("the server rejected our request due to an error in our request: {why}");
        fails(&server.patch(&path, JSON_PATCH, &patch).await, 422, "Invalid", &message, &json!({}));
    }
    assert_eq!(server.get(&path).await.expect(200), patched, "all or nothing");
    server.patch(&path, JSON_PATCH, &json!({"op": "test"})).await.expect(400);
    server.patch(&path, JSON_PATCH, &json!([{"op": "invent", "path": "/a"}])).await.expect(400);
    let doubling: Vec<Value> =
        std::iter::once(json!({"op": "add", "path": "/x", "value": ["y".repeat(1_000)]}))
            .chain((0..30).map(|_| json!({"op": "copy", "from": "/x", "path": "/x/-"})))
            .collect();
    let refused = server.patch(&path, JSON_PATCH, &json!(doubling)).await.expect(413);
    assert_eq!(refused["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn merge_patch_nulls_delete_and_lists_are_replaced() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v", "l": "w"}))).await.expect(201);
    let patch = json!({"data": {"k": null, "m": "x"}});
    is(
        &server.patch(&map_path("a"), MERGE, &patch).await,
        200,
        &stored_map("a", json!({"l": "w", "m": "x"})),
    );
    let path = web(&server).await;
    let patch = template(json!({"containers": [{"name": "other", "image": "i:2"}]}));
    assert_eq!(containers(&server.patch(&path, MERGE, &patch).await.expect(200)), [("other", "i:2")]);
    server.patch(&path, MERGE, &json!([])).await.expect(400);
}

#[tokio::test]
async fn strategic_patch_merges_lists_by_their_keys() {
    let server = Server::new().await;
    let path = web(&server).await;
    for (spec, expected) in [
        // What is new comes before what only the server has.
        (
            json!({"containers": [{"name": "side", "image": "i:1"}]}),
            vec![("side", "i:1"), ("main", "nginx:1")],
        ),
        (
            json!({"containers": [{"name": "main", "image": "nginx:2"}]}),
            vec![("side", "i:1"), ("main", "nginx:2")],
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "main"}, {"name": "side"}], "containers": []}),
            vec![("main", "nginx:2"), ("side", "i:1")],
        ),
        (json!({"containers": [{"name": "side", "$patch": "delete"}]}), vec![("main", "nginx:2")]),
        (
            json!({"containers": [{"$patch": "replace"}, {"name": "new", "image": "n:1"}]}),
            vec![("new", "n:1")],
        ),
    ] {
        let patched = server.patch(&path, STRATEGIC, &template(spec.clone())).await.expect(200);
        assert_eq!(containers(&patched), expected, "{spec}");
    }
}

#[tokio::test]
async fn strategic_directives() {
    let server = Server::new().await;
    let path = web(&server).await;
    let patched = server
        .patch(
            &path,
            STRATEGIC,
            &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        )
        .await
        .expect(200);
    assert_eq!(patched["spec"]["strategy"], json!({"type": "Recreate"}), "$retainKeys");
    let finalizers = json!({"metadata": {"finalizers": ["e.com/a", "e.com/b"]}});
    server.patch(&path, STRATEGIC, &finalizers).await.expect(200);
    let patched = server
        .patch(&path, STRATEGIC, &json!({"metadata": {"finalizers": ["e.com/c"], "$deleteFromPrimitiveList/finalizers": ["e.com/a"]}}))
        .await
        .expect(200);
    assert_eq!(patched["metadata"]["finalizers"], json!(["e.com/c", "e.com/b"]), "$deleteFromPrimitiveList");
    let labels = |patch: Value| json!({"metadata": {"labels": patch}});
    server.patch(&path, STRATEGIC, &labels(json!({"a": "1", "b": "2"}))).await.expect(200);
    let merged =
        server.patch(&path, STRATEGIC, &labels(json!({"$patch": "merge", "c": "3"}))).await.expect(200);
    assert_eq!(merged["metadata"]["labels"], json!({"a": "1", "b": "2", "c": "3"}), "merge");
    let replaced =
        server.patch(&path, STRATEGIC, &labels(json!({"$patch": "replace", "d": "4"}))).await.expect(200);
    assert_eq!(replaced["metadata"]["labels"], json!({"d": "4"}), "replace");
    let deleted = server.patch(&path, STRATEGIC, &labels(json!({"$patch": "delete"}))).await.expect(200);
    assert!(deleted["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty), "delete");
    let message = "metadata.labels: unknown value \"x\" of $patch: supported values: \"delete\", \"merge\", \"replace\"";
    let answer = server.patch(&path, STRATEGIC, &labels(json!({"$patch": "x"}))).await;
    fails(&answer, 400, "BadRequest", message, &json!({}));
    let answer = server.patch(&path, STRATEGIC, &template(json!({"containers": [{"image": "x"}]}))).await;
    let message =
        "spec.template.spec.containers[0]: every item must be an object with the merge key \"name\"";
    fails(&answer, 400, "BadRequest", message, &json!({}));
}

#[tokio::test]
async fn other_types_are_415() {
    let server = Server::new().await;
    let path = web(&server).await;
    let apply = server.patch(&path, "apply-patch+yaml", &json!({})).await.expect(415);
    assert!(apply["message"].as_str().unwrap().contains("client-side apply"), "not yet, and what to do");
    let message = "the body of the request was in an unknown format (application/json) - accepted media types include: \
                   application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";
    fails(&server.patch(&path, "json", &json!({})).await, 415, "UnsupportedMediaType", message, &json!({}));
}

#[tokio::test]
async fn a_patch_is_defaulted_validated_and_keeps_immutables() {
    let server = Server::new().await;
    let path = web(&server).await;
    let added = template(json!({"containers": [{"name": "side", "image": "i:1"}]}));
    let patched = server.patch(&path, STRATEGIC, &added).await.expect(200);
    assert_eq!(patched["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"], "IfNotPresent");
    let selector = json!({"spec": {
        "selector": {"matchLabels": {"app": "other"}},
        "template": {"metadata": {"labels": {"app": "other"}}},
    }});
    let refused = server.patch(&path, MERGE, &selector).await.expect(422);
    let cause = &refused["details"]["causes"][0];
    assert_eq!((&cause["field"], &cause["reason"]), (&json!("spec.selector"), &json!("FieldValueInvalid")));
    assert!(cause["message"].as_str().unwrap().ends_with("field is immutable"), "{cause}");
    let renamed = server.patch(&path, MERGE, &json!({"metadata": {"name": "other"}})).await.expect(400);
    assert_eq!(renamed["message"], "the name of the object (other) does not match the name on the URL (web)");
}

#[tokio::test]
async fn an_object_does_not_grow_without_end() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let environment = |prefix: &str| -> Vec<Value> {
        (0..9_000).map(|n| json!({"name": format!("{prefix}{n}"), "value": "x".repeat(200)})).collect()
    };
    let patch =
        |prefix: &str| template(json!({"containers": [{"name": "main", "env": environment(prefix)}]}));
    server.patch(&path, STRATEGIC, &patch("a")).await.expect(200);
    let refused = server.patch(&path, STRATEGIC, &patch("b")).await.expect(413);
    assert_eq!(refused["message"], "Request entity too large: limit is 3145728");
}

#[tokio::test]
async fn patches_without_a_revision_are_tried_again() {
    let server = Arc::new(Server::new().await);
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    // Two writers at a time can lose a race once each; five more tries are allowed.
    for round in 0..20 {
        let both = [0, 1].map(|writer| {
            let server = Arc::clone(&server);
            async move {
                let patch = json!({"data": {format!("k{writer}"): round.to_string()}});
                server.patch(&map_path("a"), MERGE, &patch).await.expect(200);
            }
        });
        futures_util::future::join_all(both).await;
    }
    let data = server.get(&map_path("a")).await.expect(200)["data"].clone();
    assert_eq!(data, json!({"k0": "19", "k1": "19"}));
}
