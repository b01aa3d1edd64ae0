//! Bad input: whatever comes, there is an answer of the 4xx kind, in bounded time and memory.

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::kinds::{KINDS, Kind};

fn collection(kind: &Kind) -> String {
    let root = if kind.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let namespace = if kind.namespaced { "/namespaces/default" } else { "" };
    format!("{root}{namespace}/{}", kind.plural)
}

/// Runs cases over one server.
fn over_a_server<S: Strategy>(cases: u32, strategy: &S, case: impl AsyncFn(&Server, S::Value)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::new());
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) });
    runner
        .run(strategy, |input| {
            runtime.block_on(case(&server, input));
            Ok(())
        })
        .unwrap();
}

/// Not the server's fault; and if it is an error, a Status says so.
#[track_caller]
fn judged(answer: &Answer) {
    let code = answer.code.as_u16();
    assert!(code < 500 || code == 504, "{code}: {}", String::from_utf8_lossy(&answer.body));
    if code >= 400 {
        assert_eq!((&answer.json()["kind"], &answer.json()["code"]), (&json!("Status"), &json!(code)));
    }
}

#[test]
fn any_query_is_judged() {
    let key = prop_oneof![
        Just("labelSelector"),
        Just("fieldSelector"),
        Just("limit"),
        Just("continue"),
        Just("resourceVersion"),
        Just("resourceVersionMatch"),
        Just("timeoutSeconds"),
        Just("includeObject"),
        Just("sendInitialEvents"),
        Just("pretty"),
        Just(""),
    ];
    let value = prop_oneof![
        "[ -~]{0,30}",
        "[a-c=!,() <>./-]{0,20}",
        Just("true".to_owned()),
        Just("0".to_owned()),
        Just("1".to_owned()),
        Just("18446744073709551616".to_owned()),
        "%[0-9A-Fa-f]{0,2}",
        "\\PC{0,10}",
    ];
    let pairs = proptest::collection::vec((key, value, any::<bool>()), 0..5);
    over_a_server(200, &pairs, async |server, pairs| {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let uri_safe =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>`{}|\\^".contains(&byte));
        let query: Vec<String> = pairs
            .iter()
            .map(|(key, value, raw)| {
                let value = if *raw && uri_safe(value) { value.clone() } else { encode(value) };
                format!("{key}={value}")
            })
            .collect();
        judged(&server.get(&format!("{CONFIG_MAPS}?&{}", query.join("&"))).await);
    });
}

#[test]
fn any_path_is_judged() {
    let segment = prop_oneof![
        Just("api".to_owned()),
        Just("apis".to_owned()),
        Just("v1".to_owned()),
        Just("apps".to_owned()),
        Just("namespaces".to_owned()),
        Just("default".to_owned()),
        Just("pods".to_owned()),
        Just("status".to_owned()),
        Just("configmaps".to_owned()),
        "[a-z%0-9.~-]{0,8}",
    ];
    let path = proptest::collection::vec(segment, 0..8);
    let method = prop_oneof![
        Just("GET"),
        Just("POST"),
        Just("PUT"),
        Just("PATCH"),
        Just("DELETE"),
        Just("OPTIONS"),
        Just("BREW")
    ];
    over_a_server(200, &(method, path), async |server, (method, path)| {
        let request =
            Server::request(method.parse().unwrap(), &format!("/{}", path.join("/")), &[], Body::empty());
        judged(&server.send(request).await);
    });
}

/// Objects made of fields that kinds have, with values that they may not have.
fn object() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("status"),
        Just("data"),
        Just("name"),
        Just("labels"),
        Just("template"),
        Just("selector"),
        Just("matchLabels"),
        Just("containers"),
        Just("image"),
        Just("ports"),
        Just("replicas"),
        Just("rules"),
        Just("finalizers"),
        Just("generateName"),
        Just("type"),
        Just("clusterIP"),
        Just("strategy"),
        Just("resources"),
        Just("limits"),
        Just("cpu"),
        Just("env"),
        Just("volumes"),
        Just("annotations"),
        Just("uid"),
        Just("ownerReferences"),
        Just("schedule"),
        Just("stringData"),
        Just("endpoints"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        Just(json!("a")),
    ];
    let value = leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    (value.clone(), value.clone(), value, any::<bool>()).prop_map(|(metadata, spec, rest, named)| {
        let mut object = if rest.is_object() { rest } else { json!({"data": rest}) };
        object["spec"] = spec;
        object["metadata"] = metadata;
        if named && object["metadata"].is_object() {
            object["metadata"]["name"] = json!("a");
        }
        object
    })
}

#[test]
fn any_object_of_any_kind_is_judged() {
    let writable: Vec<&'static Kind> = KINDS.iter().filter(|kind| kind.verbs.contains(&"create")).collect();
    let kind = proptest::sample::select(writable.iter().map(|kind| collection(kind)).collect::<Vec<_>>());
    over_a_server(300, &(kind, object()), async |server, (path, object)| {
        let answer = server.post(&format!("{path}?dryRun=All"), &object).await;
        judged(&answer);
        let strict = server.post(&format!("{path}?dryRun=All&fieldValidation=Strict"), &object).await;
        judged(&strict);
        assert!(strict.code != 201 || answer.code == 201, "strict is never laxer");
    });
}

#[test]
fn any_patch_of_an_object_is_judged() {
    let kind = prop_oneof![Just(MERGE), Just(STRATEGIC)];
    over_a_server(200, &(kind, object()), async |server, (kind, patch)| {
        let path = format!("{DEPLOYMENTS}/web");
        if server.get(&path).await.code == 404 {
            server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
        }
        judged(&server.patch(&format!("{path}?dryRun=All"), kind, &patch).await);
        judged(&server.delete(&format!("{path}?dryRun=All"), &patch["spec"]).await);
    });
}

#[test]
fn any_bytes_as_a_body_are_judged() {
    let content_type = prop_oneof![
        Just("application/json"),
        Just("application/yaml"),
        Just("application/vnd.kubernetes.protobuf"),
        Just(""),
        Just("application/json;charset"),
        Just("text/plain"),
    ];
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[\\[\\]{}:,\"a-z0-9 .e+-]{0,100}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..100)
            .prop_map(|bytes| [b"k8s\0".as_slice(), &bytes].concat()),
    ];
    over_a_server(300, &(content_type, body), async |server, (content_type, body)| {
        let headers = [("content-type", content_type)];
        judged(&server.send(Server::request(Method::POST, CONFIG_MAPS, &headers, body)).await);
    });
}

#[tokio::test]
async fn an_object_that_is_nested_too_deeply_is_refused() {
    let server = Server::new().await;
    for (depth, code) in [(90, 400), (110, 400), (1_000, 400), (100_000, 400)] {
        let body = format!("{{\"data\":{}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let headers = [("content-type", JSON)];
        let refused =
            server.send(Server::request(Method::POST, CONFIG_MAPS, &headers, body)).await.expect(code);
        let message = refused["message"].as_str().unwrap();
        let deep = message.contains("nested") || message.contains("recursion");
        assert_eq!(deep, depth > 100, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let router = serve(Arc::new(cost::Memory::default()));
    let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Server::request(Method::POST, CONFIG_MAPS, &[("content-type", JSON)], body);
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 504);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status["message"], "the body of the request did not arrive within 60 s");
}
