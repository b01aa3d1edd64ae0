//! §1: version, health, discovery, and the quirks of clients.

use super::*;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

#[tokio::test]
async fn version_with_and_without_a_slash() {
    let server = Server::new().await;
    for path in ["/version", "/version/"] {
        let version = server.get(path).await.expect(200);
        assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("34")));
        assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.34."));
        for field in ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
            assert!(version[field].is_string(), "{field}");
        }
    }
}

#[tokio::test]
async fn health_is_text_for_everybody() {
    let server = Server::new().await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/readyz/store", "/livez/ping"] {
        let answer = server.send(Request::builder().uri(path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.code.as_u16(), &*answer.body), (200, &b"ok"[..]), "{path}");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    let verbose = server.get("/readyz?verbose").await;
    assert_eq!(verbose.body, "[+]ping ok\n[+]store ok\nreadyz check passed\n");
    server.get("/readyz/none").await.expect(404);
}

#[tokio::test]
async fn legacy_discovery() {
    let server = Server::new().await;
    let versions = server.get("/api").await;
    assert_eq!(
        (versions.json()["kind"].clone(), versions.json()["versions"].clone()),
        (json!("APIVersions"), json!(["v1"]))
    );
    assert_eq!(versions.headers["vary"], "Accept");
    let groups = server.get("/apis").await.expect(200);
    assert_eq!(groups["kind"], "APIGroupList");
    for group in groups["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        assert_eq!(server.get(&format!("/apis/{name}")).await.expect(200)["kind"], "APIGroup");
        for version in group["versions"].as_array().unwrap() {
            let path = format!("/apis/{}", version["groupVersion"].as_str().unwrap());
            let list = server.get(&path).await.expect(200);
            assert_eq!(
                (&list["kind"], &list["groupVersion"]),
                (&json!("APIResourceList"), &version["groupVersion"])
            );
        }
    }
    let core = server.get("/api/v1").await.expect(200);
    let entry = |name: &str| {
        core["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == name).cloned().unwrap()
    };
    assert_eq!(
        entry("pods"),
        json!({
            "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "shortNames": ["po"],
            "categories": ["all"],
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        })
    );
    assert_eq!(
        entry("pods/eviction"),
        json!({
            "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
            "kind": "Eviction", "verbs": ["create"],
        })
    );
    let apps = server.get("/apis/apps/v1").await.expect(200);
    let scale =
        apps["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "deployments/scale");
    assert_eq!(
        scale.unwrap(),
        &json!({
            "name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1",
            "kind": "Scale", "verbs": ["get", "patch", "update"],
        })
    );
}

#[tokio::test]
async fn aggregated_discovery_in_both_versions() {
    let server = Server::new().await;
    for (accept, version) in [(V2, "v2"), (V2BETA1, "v2beta1")] {
        for path in ["/api", "/apis"] {
            let answer = server.get_as(path, &format!("{accept},application/json")).await;
            assert_eq!(
                (&answer.headers["content-type"], &answer.headers["vary"]),
                (&accept.parse().unwrap(), &"Accept".parse().unwrap())
            );
            let list = answer.expect(200);
            assert_eq!(
                (&list["kind"], &list["apiVersion"]),
                (&json!("APIGroupDiscoveryList"), &json!(format!("apidiscovery.k8s.io/{version}")))
            );
        }
    }
    let core = server.get_as("/api", V2).await.expect(200);
    let version = &core["items"][0]["versions"][0];
    assert_eq!((&version["version"], &version["freshness"]), (&json!("v1"), &json!("Current")));
    let maps =
        version["resources"].as_array().unwrap().iter().find(|entry| entry["resource"] == "configmaps");
    assert_eq!(
        maps.unwrap(),
        &json!({
            "resource": "configmaps", "responseKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "scope": "Namespaced", "singularResource": "configmap", "shortNames": ["cm"],
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        })
    );
}

#[tokio::test]
async fn quirks_of_clients_are_tolerated() {
    let server = Server::new().await;
    // Python sends no content type.
    let body = config_map("python", json!({})).to_string();
    server.send(Server::request(Method::POST, CONFIG_MAPS, &[], body)).await.expect(201);
    // kube-rs begins its query with `&`.
    assert_eq!(names(&server.get(&format!("{CONFIG_MAPS}?&limit=500")).await.expect(200)), ["python"]);
    server
        .send(Server::request(Method::DELETE, &format!("{}?&dryRun=All", map_path("python")), &[], "{}"))
        .await
        .expect(200);
    // Go writes what it has not set.
    let null = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "status": {},
        "metadata": {"name": "go", "creationTimestamp": null, "labels": null},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "strategy": {},
            "template": {
                "metadata": {"creationTimestamp": null, "labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": {}, "env": null}]},
            },
        },
    });
    let created = server.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &null).await.expect(201);
    assert!(
        created["metadata"]["creationTimestamp"].is_string() && created["metadata"].get("labels").is_none()
    );
    // A trailing slash, and escapes in a path.
    server.get(&format!("{CONFIG_MAPS}/")).await.expect(200);
    server.get(&map_path("py%74hon")).await.expect(200);
    // The eviction of kubectl 1.20.
    server.post(PODS, &pod("p")).await.expect(201);
    let eviction = json!({"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "p"}});
    let evicted = server.post(&format!("{PODS}/p/eviction"), &eviction).await;
    is(
        &evicted,
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    );
}

#[tokio::test]
async fn yaml_comes_in_and_goes_out() {
    let server = Server::new().await;
    let yaml =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\n  creationTimestamp: null\ndata:\n  a: b\n";
    let headers = [("content-type", "application/yaml; charset=utf-8"), ("accept", "application/yaml")];
    let answer = server.send(Server::request(Method::POST, CONFIG_MAPS, &headers, yaml)).await;
    assert_eq!(
        (answer.code.as_u16(), &answer.headers["content-type"]),
        (201, &"application/yaml".parse().unwrap())
    );
    let value: Value = serde_yaml_ng::from_slice(&answer.body).unwrap();
    assert_eq!(masked(&value), stored_map("y", json!({"a": "b"})));
    let list = server.get_as(CONFIG_MAPS, "application/yaml").await;
    let value: Value = serde_yaml_ng::from_slice(&list.body).unwrap();
    assert_eq!(names(&value), ["y"]);
}

#[tokio::test]
async fn unknown_fields_follow_field_validation() {
    let server = Server::new().await;
    let typo = |name: &str| {
        let text = deployment(name).to_string();
        let body = text.replacen("\"spec\":{", "\"spec\":{\"replicaz\":3,\"replicas\":1,\"replicas\":2,", 1);
        let server = &server;
        async move |query: &str| {
            let path = format!("{DEPLOYMENTS}?{query}");
            server.send(Server::request(Method::POST, &path, &[("content-type", JSON)], body)).await
        }
    };
    let strict = typo("a")("fieldValidation=Strict").await;
    let message = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown \
                   field \"spec.replicaz\", duplicate field \"spec.replicas\"";
    fails(&strict, 400, "BadRequest", message, &json!({}));
    for query in ["", "fieldValidation=Warn"] {
        let warned = typo(if query.is_empty() { "b" } else { "c" })(query).await;
        assert!(warned.expect(201)["spec"].get("replicaz").is_none());
        let unknown = "299 - \"unknown field \\\"spec.replicaz\\\"\"";
        assert_eq!(warned.warnings()[..2], [unknown, "299 - \"duplicate field \\\"spec.replicas\\\"\""]);
        assert_eq!(warned.json()["spec"]["replicas"], 2, "the last one counts");
    }
    let ignored = typo("d")("fieldValidation=Ignore").await;
    assert!(ignored.expect(201)["spec"].get("replicaz").is_none());
    assert!(ignored.warnings().iter().all(|warning| !warning.contains("replica")));
    typo("e")("fieldValidation=Maybe").await.expect(400);
    let patch = "{\"spec\":{\"replicas\":1,\"replicas\":2}}";
    let path = format!("{DEPLOYMENTS}/b?fieldValidation=Strict");
    let headers = [("content-type", "application/merge-patch+json")];
    let refused = server.send(Server::request(Method::PATCH, &path, &headers, patch)).await.expect(400);
    assert!(refused["message"].as_str().unwrap().ends_with("duplicate field \"spec.replicas\""), "{refused}");
}
