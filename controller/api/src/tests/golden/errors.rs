//! §2 Errors: each row of the table, with Kubernetes' reason, message and details.

use super::*;

fn as_peer(peer: Option<(&str, &str)>, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    if let Some((name, group)) = peer {
        request = request.extension(PeerIdentity {
            common_name: name.into(),
            organizations: vec![group.into()],
            ..PeerIdentity::default()
        });
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn unauthorized_401() {
    let server = Server::new().await;
    let answer = server.send(as_peer(None, PODS, &[("authorization", "Bearer nonsense")])).await;
    fails(&answer, 401, "Unauthorized", "Unauthorized", &json!({}));
}

#[tokio::test]
async fn forbidden_403() {
    let server = Server::new().await;
    let jane = Some(("jane", "developers"));
    let answer = server.send(as_peer(jane, PODS, &[])).await;
    let message = "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \
                   \"default\"";
    fails(&answer, 403, "Forbidden", message, &json!({"kind": "pods"}));
    let answer = server.send(as_peer(jane, &format!("{DEPLOYMENTS}/web"), &[])).await;
    let message = "deployments.apps \"web\" is forbidden: User \"jane\" cannot get resource \"deployments\" in API \
                   group \"apps\" in the namespace \"default\"";
    fails(
        &answer,
        403,
        "Forbidden",
        message,
        &json!({"name": "web", "group": "apps", "kind": "deployments"}),
    );
    let answer = server.send(as_peer(None, "/apis", &[])).await;
    let message = "forbidden: User \"system:anonymous\" cannot get path \"/apis\"";
    fails(&answer, 403, "Forbidden", message, &json!({}));
}

#[tokio::test]
async fn not_found_404() {
    let server = Server::new().await;
    let answer = server.get(&format!("{DEPLOYMENTS}/x")).await;
    let details = json!({"name": "x", "group": "apps", "kind": "deployments"});
    fails(&answer, 404, "NotFound", "deployments.apps \"x\" not found", &details);
    let answer = server.post("/api/v1/namespaces/none/configmaps", &config_map("a", json!({}))).await;
    fails(
        &answer,
        404,
        "NotFound",
        "namespaces \"none\" not found",
        &json!({"name": "none", "kind": "namespaces"}),
    );
    for path in ["/api/v1/widgets", "/apis/example.com/v1/widgets", "/api/v2/pods", "/nothing"] {
        let message = "the server could not find the requested resource";
        fails(&server.get(path).await, 404, "NotFound", message, &json!({}));
    }
    for request in ["PUT", "PATCH"] {
        let headers =
            [("content-type", if request == "PUT" { JSON } else { "application/merge-patch+json" })];
        let body = config_map("x", json!({})).to_string();
        let request = Server::request(request.parse().unwrap(), &map_path("x"), &headers, body);
        let details = json!({"name": "x", "kind": "configmaps"});
        fails(&server.send(request).await, 404, "NotFound", "configmaps \"x\" not found", &details);
    }
}

#[tokio::test]
async fn method_not_allowed_405() {
    let server = Server::new().await;
    let message = "the server does not allow this method on the requested resource";
    for line in [
        format!("POST {CONFIG_MAPS}/a"),
        "POST /api/v1/configmaps".to_owned(),
        format!("PUT {CONFIG_MAPS}"),
        "DELETE /api/v1/pods".to_owned(),
        "POST /apis".to_owned(),
        format!("DELETE {DEPLOYMENTS}/web/scale"),
    ] {
        fails(
            &ask(&server, &line, config_map("a", json!({}))).await,
            405,
            "MethodNotAllowed",
            message,
            &json!({}),
        );
    }
}

#[tokio::test]
async fn not_acceptable_406() {
    let server = Server::new().await;
    for accept in ["image/png", "application/vnd.kubernetes.protobuf", "application/json;q=0"] {
        let message = "only the following media types are accepted: application/json, application/yaml";
        fails(&server.get_as(PODS, accept).await, 406, "NotAcceptable", message, &json!({}));
    }
}

#[tokio::test]
async fn already_exists_and_conflict_409() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let details = json!({"name": "web", "group": "apps", "kind": "deployments"});
    let answer = server.post(DEPLOYMENTS, &deployment("web")).await;
    fails(&answer, 409, "AlreadyExists", "deployments.apps \"web\" already exists", &details);
    let mut stale = deployment("web");
    stale["metadata"]["resourceVersion"] = json!("1");
    let message = "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please \
                   apply your changes to the latest version and try again";
    fails(&server.put(&format!("{DEPLOYMENTS}/web"), &stale).await, 409, "Conflict", message, &details);
}

#[tokio::test]
async fn too_large_413_and_unknown_format_415() {
    let server = Server::new().await;
    let limit = 3 * 1024 * 1024;
    let body = |length: usize| {
        let empty = config_map("big", json!({"k": ""})).to_string().len();
        config_map("big", json!({"k": "x".repeat(length - empty)}))
    };
    let message = format!("Request entity too large: limit is {limit}");
    let answer = server.post(CONFIG_MAPS, &body(limit + 1)).await;
    fails(&answer, 413, "RequestEntityTooLarge", &message, &json!({}));
    let fits = server.post(CONFIG_MAPS, &body(limit)).await;
    assert_ne!(fits.code, 413, "the limit itself is allowed; the kind may have its own");
    let request = Server::request(Method::POST, CONFIG_MAPS, &[("content-type", "text/plain")], "x");
    let message = "the body of the request was in an unknown format (text/plain) - accepted media types include: \
                   application/json, application/yaml";
    fails(&server.send(request).await, 415, "UnsupportedMediaType", message, &json!({}));
}

#[tokio::test]
async fn invalid_422() {
    let server = Server::new().await;
    let mut body = deployment("web");
    body["spec"]["replicas"] = json!(-1);
    let detail = "Invalid value: -1: must be greater than or equal to 0";
    let cause = |reason: &str, message: &str, field: &str| json!({"reason": reason, "message": message, "field": field});
    fails(
        &server.post(DEPLOYMENTS, &body).await,
        422,
        "Invalid",
        &format!("Deployment.apps \"web\" is invalid: spec.replicas: {detail}"),
        &json!({
            "name": "web", "group": "apps", "kind": "Deployment",
            "causes": [cause("FieldValueInvalid", detail, "spec.replicas")],
        }),
    );
    body["spec"]["template"]["spec"]["containers"][0]["name"].take();
    let several = server.post(DEPLOYMENTS, &body).await.expect(422);
    let causes = several["details"]["causes"].as_array().unwrap();
    assert!(causes.len() >= 2, "{several}");
    let listed: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}: {}", cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap()))
        .collect();
    let message = format!("Deployment.apps \"web\" is invalid: [{}]", listed.join(", "));
    assert_eq!(several["message"], message, "all at once");
}

#[tokio::test]
async fn unavailable_503_asks_to_come_back() {
    let server = Server::new().await;
    let store = Arc::clone(&server.store);
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    let answer = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let message = "the store is closed: the controller is stopping";
    fails(&answer, 503, "ServiceUnavailable", message, &json!({"retryAfterSeconds": 1}));
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn full_507_says_what_to_do() {
    struct Full(Arc<EmbeddedStore>);
    impl Store for Full {
        fn commit(
            &self,
            _: warren_store::Transaction,
        ) -> warren_store::BoxFuture<'_, Result<u64, warren_store::CommitError>> {
            let directory = "/data".into();
            let problem = "No space left on device".to_owned();
            Box::pin(async { Err(warren_store::CommitError::Full { directory, problem }) })
        }
        fn snapshot(&self) -> Arc<warren_store::Snapshot> {
            self.0.snapshot()
        }
        fn watch(&self, after: u64) -> Result<warren_store::Watch, warren_store::Expired> {
            self.0.watch(after)
        }
    }
    let server = Server::new().await;
    let router = serve(Arc::new(Full(Arc::clone(&server.store))));
    let full = Server { router, store: Arc::clone(&server.store), directory: tempfile::tempdir().unwrap() };
    let answer = full.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let message = "the controller's disk is full (No space left on device): free space on the file system of /data; \
                   until then only deletions are accepted";
    fails(&answer, 507, "InsufficientStorage", message, &json!({}));
}
