//! §2 resourceVersion: optimistic writes, lists at a revision, pages.

use super::*;

#[tokio::test]
async fn one_decimal_sequence_counts_all_writes() {
    let server = Server::new().await;
    let map = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let pod = server.post(PODS, &pod("a")).await.expect(201);
    let service = server.post(SERVICES, &service("a")).await.expect(201);
    assert!(number(&map) < number(&pod) && number(&pod) < number(&service));
    assert_eq!(number(&service), server.revision());
}

#[tokio::test]
async fn a_stale_write_is_a_conflict_and_an_unversioned_one_is_not() {
    let server = Server::new().await;
    let old = server.post(CONFIG_MAPS, &config_map("a", json!({"n": "1"}))).await.expect(201);
    let patch = |revision: &str| json!({"metadata": {"resourceVersion": revision}, "data": {"n": "2"}});
    server.patch(&map_path("a"), MERGE, &patch(version(&old))).await.expect(200);
    let message = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                   changes to the latest version and try again";
    let details = json!({"name": "a", "kind": "configmaps"});
    for answer in [
        server.put(&map_path("a"), &old).await,
        server.patch(&map_path("a"), MERGE, &patch(version(&old))).await,
        server.patch(&map_path("a"), STRATEGIC, &patch(version(&old))).await,
    ] {
        fails(&answer, 409, "Conflict", message, &details);
    }
    is(
        &server.put(&map_path("a"), &config_map("a", json!({"n": "3"}))).await,
        200,
        &stored_map("a", json!({"n": "3"})),
    );
    let answer = server.patch(&map_path("a"), MERGE, &patch("x")).await;
    let message = "metadata.resourceVersion: Invalid value: \"x\": must be a number";
    fails(&answer, 400, "BadRequest", message, &json!({}));
    let mut other = config_map("a", json!({}));
    other["metadata"]["uid"] = json!("other");
    let refused = server.put(&map_path("a"), &other).await.expect(409);
    assert_eq!(refused["reason"], "Conflict", "an object of this name, but another one");
}

#[tokio::test]
async fn a_list_is_the_latest_or_not_older_or_exact() {
    let server = Server::new().await;
    let empty = server.revision();
    let a = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201);
    let now = server.revision();
    for (query, revision, expected) in [
        (String::new(), now, vec!["a", "b"]),
        ("?resourceVersion=0".to_owned(), now, vec!["a", "b"]),
        (format!("?resourceVersion={empty}"), now, vec!["a", "b"]),
        (format!("?resourceVersion={empty}&resourceVersionMatch=NotOlderThan"), now, vec!["a", "b"]),
        (format!("?resourceVersion={now}&resourceVersionMatch=Exact"), now, vec!["a", "b"]),
        (format!("?resourceVersion={}&resourceVersionMatch=Exact", version(&a)), number(&a), vec!["a"]),
        (format!("?resourceVersion={empty}&resourceVersionMatch=Exact"), empty, vec![]),
    ] {
        let list = server.get(&format!("{CONFIG_MAPS}{query}")).await.expect(200);
        assert_eq!((number(&list), names(&list)), (revision, expected), "{query}");
    }
    let list = server.get(CONFIG_MAPS).await;
    let items = [stored_map("a", json!({})), stored_map("b", json!({}))];
    let body = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "<rv>"}, "items": items});
    is(&list, 200, &body);
}

#[tokio::test]
async fn a_revision_that_has_not_happened_is_a_timeout() {
    let server = Server::new().await;
    let (now, wanted) = (server.revision(), server.revision() + 5);
    for path in [CONFIG_MAPS.to_owned(), map_path("a")] {
        let answer = server.get(&format!("{path}?resourceVersion={wanted}")).await;
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let details = json!({"retryAfterSeconds": 1, "causes": [cause]});
        let message = format!("Too large resource version: {wanted}, current: {now}");
        fails(&answer, 504, "Timeout", &message, &details);
        assert_eq!(answer.headers["retry-after"], "1");
    }
}

/// 422 about list options.
#[track_caller]
fn refuses_options(answer: &Answer, causes: &[(&str, &str, &str)]) {
    let texts: Vec<String> = causes.iter().map(|(_, field, message)| format!("{field}: {message}")).collect();
    let text = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {text}");
    let causes: Vec<Value> = causes
        .iter()
        .map(|(reason, field, message)| json!({"reason": reason, "message": message, "field": field}))
        .collect();
    let details = json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": causes});
    fails(answer, 422, "Invalid", &message, &details);
}

#[tokio::test]
async fn options_that_contradict_each_other_are_invalid() {
    let server = Server::new().await;
    const MATCH: &str = "resourceVersionMatch";
    const FORBIDDEN: &str = "FieldValueForbidden";
    for (query, cause) in [
        (
            "resourceVersionMatch=Exact",
            (
                FORBIDDEN,
                MATCH,
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            (
                FORBIDDEN,
                MATCH,
                "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Maybe",
            (
                "FieldValueNotSupported",
                MATCH,
                "Unsupported value: \"Maybe\": supported values: \"Exact\", \"NotOlderThan\"",
            ),
        ),
        (
            "sendInitialEvents=true",
            (FORBIDDEN, "sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"),
        ),
        (
            "watch=true&sendInitialEvents=true",
            (
                FORBIDDEN,
                MATCH,
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
        ),
        (
            "watch=true&resourceVersionMatch=NotOlderThan",
            (
                FORBIDDEN,
                MATCH,
                "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
        ),
    ] {
        refuses_options(&server.get(&format!("{CONFIG_MAPS}?{query}")).await, &[cause]);
    }
    for wrong in [
        "limit=x",
        "limit=-1",
        "resourceVersion=x",
        "timeoutSeconds=x",
        "watch=perhaps",
        "allowWatchBookmarks=2",
    ] {
        let refused = server.get(&format!("{CONFIG_MAPS}?{wrong}")).await.expect(400);
        let field = wrong.split('=').next().unwrap();
        assert!(refused["message"].as_str().unwrap().contains(field), "{refused}");
    }
}

#[tokio::test]
async fn pages_show_one_revision_and_say_what_remains() {
    let server = Server::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["labels"] = json!({"all": "yes"});
        server.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let page = |query: String| {
        let server = &server;
        async move { server.get(&format!("{CONFIG_MAPS}?limit=2{query}")).await.expect(200) }
    };
    let first = page(String::new()).await;
    assert_eq!(
        masked(&first["metadata"]),
        json!({"resourceVersion": "<rv>", "continue": "<token>", "remainingItemCount": 3})
    );
    server.delete(&map_path("c"), &json!({})).await.expect(200);
    server.post(CONFIG_MAPS, &config_map("ab", json!({}))).await.expect(201);
    let second = page(format!("&continue={}", first["metadata"]["continue"].as_str().unwrap())).await;
    assert_eq!((names(&second), version(&second)), (vec!["c", "d"], version(&first)));
    let third = page(format!("&continue={}", second["metadata"]["continue"].as_str().unwrap())).await;
    assert_eq!(
        (names(&third), &third["metadata"]),
        (vec!["e"], &json!({"resourceVersion": version(&first)}))
    );
    let selected = page("&labelSelector=all".to_owned()).await;
    assert_eq!(masked(&selected["metadata"]), json!({"resourceVersion": "<rv>", "continue": "<token>"}));
}

#[tokio::test]
async fn tokens_are_the_servers_and_end() {
    let server = Server::new().await;
    for name in ["a", "b", "c"] {
        server.post(CONFIG_MAPS, &config_map(name, json!({}))).await.expect(201);
    }
    let message = "continue key is not valid: use the token exactly as the server gave it";
    fails(&server.get(&format!("{CONFIG_MAPS}?continue=x")).await, 400, "BadRequest", message, &json!({}));
    let first = server.get(&format!("{CONFIG_MAPS}?limit=1")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let answer = server.get(&format!("{CONFIG_MAPS}?continue={token}&resourceVersion=3")).await;
    let message = "specifying resource version is not allowed when using continue";
    fails(&answer, 400, "BadRequest", message, &json!({}));
    server.delete(&map_path("a"), &json!({})).await.expect(200);
    let server = server.restart().await;
    let expired = server.get(&format!("{CONFIG_MAPS}?limit=1&continue={token}")).await;
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                   new list without the continue parameter, or use the continue token in this response to retrieve \
                   the remainder of the results. Continuing with the provided token results in an inconsistent list \
                   - objects that were created, modified, or deleted between the time the first chunk was returned \
                   and now may show up in the list.";
    is(
        &expired,
        410,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {"continue": "<token>"}, "status": "Failure",
            "message": message, "reason": "Expired", "code": 410,
        }),
    );
    let token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = server.get(&format!("{CONFIG_MAPS}?continue={token}")).await.expect(200);
    assert_eq!(names(&rest), ["b", "c"]);
}
