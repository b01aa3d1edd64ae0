//! §2 Delete: options, finalizers, grace, owners, namespaces, collections. What waits for the garbage collector is
//! finished by the real planners.

use std::collections::BTreeSet;

use warren_store::{Key, Transaction};

use super::*;
use crate::kinds::KINDS;

fn gone(name: &str, resource: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "kind": resource, "uid": "<uid>"},
    })
}

#[tokio::test]
async fn what_goes_at_once_is_answered_by_a_status() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    is(&ask(&server, &format!("DELETE {CONFIG_MAPS}/a"), None).await, 200, &gone("a", "configmaps"));
    let details = json!({"name": "a", "kind": "configmaps"});
    let again = ask(&server, &format!("DELETE {CONFIG_MAPS}/a"), None).await;
    fails(&again, 404, "NotFound", "configmaps \"a\" not found", &details);
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let mut status = gone("web", "deployments");
    status["details"]["group"] = json!("apps");
    is(&ask(&server, &format!("DELETE {DEPLOYMENTS}/web"), None).await, 200, &status);
}

#[tokio::test]
async fn some_kinds_answer_with_what_is_gone() {
    let server = Server::new().await;
    let expected = [
        "pods",
        "podtemplates",
        "persistentvolumeclaims",
        "persistentvolumes",
        "resourcequotas",
        "serviceaccounts",
        "services",
        "csidrivers",
        "csinodes",
        "storageclasses",
        "volumeattachments",
    ];
    let kinds = KINDS.iter().filter(|kind| kind.returns_deleted);
    assert_eq!(kinds.map(|kind| &*kind.plural).collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    for (path, body) in [
        (PODS, pod("a")),
        ("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "a"}})),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"metadata": {"name": "a"}, "provisioner": "a.test"}),
        ),
    ] {
        let created = server.post(path, &body).await.expect(201);
        let deleted = ask(&server, &format!("DELETE {path}/a"), None).await.expect(200);
        assert_eq!(masked(&deleted), masked(&created), "{path}");
        assert!(number(&deleted) > number(&created), "the revision is that of the deletion");
        assert_eq!(server.get(&format!("{path}/a")).await.code, 404);
    }
}

#[tokio::test]
async fn a_status_is_the_text_that_kubernetes_writes() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let deleted = ask(&server, &format!("DELETE {CONFIG_MAPS}/a"), None).await;
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let success = format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Success\",\
         \"details\":{{\"name\":\"a\",\"kind\":\"configmaps\",\"uid\":\"{uid}\"}}}}\n"
    );
    assert_eq!(String::from_utf8_lossy(&deleted.body), success);
    let failure = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
                   \"message\":\"configmaps \\\"a\\\" not found\",\"reason\":\"NotFound\",\
                   \"details\":{\"name\":\"a\",\"kind\":\"configmaps\"},\"code\":404}\n";
    let again = ask(&server, &format!("DELETE {CONFIG_MAPS}/a"), None).await;
    assert_eq!(String::from_utf8_lossy(&again.body), failure);
}

#[tokio::test]
async fn options_come_in_the_body_or_in_the_query() {
    let server = Server::new().await;
    let orphan = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"});
    for (name, query, body, finalizer) in [
        ("a", "?propagationPolicy=Foreground", None, "foregroundDeletion"),
        ("b", "", Some(orphan.clone()), "orphan"),
        ("c", "?propagationPolicy=Foreground", Some(orphan), "orphan"),
        ("d", "?orphanDependents=true", None, "orphan"),
        ("e", "", Some(json!({"orphanDependents": true})), "orphan"),
    ] {
        server.post(CONFIG_MAPS, &config_map(name, json!({}))).await.expect(201);
        let pending = ask(&server, &format!("DELETE {CONFIG_MAPS}/{name}{query}"), body).await;
        let mut expected = stored_map(name, json!({}));
        expected["metadata"]["finalizers"] = json!([finalizer]);
        expected["metadata"]["deletionTimestamp"] = json!("<time>");
        expected["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        is(&pending, 200, &expected);
    }
}

#[tokio::test]
async fn options_that_are_none_are_refused() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let path = format!("DELETE {CONFIG_MAPS}/a");
    for (body, message) in [
        (
            json!({"dryRun": ["Some"]}),
            "DeleteOptions.dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
        (
            json!({"gracePeriodSeconds": "x"}),
            "DeleteOptions.gracePeriodSeconds: must be a whole number, found \"x\"",
        ),
        (
            json!({"kind": "Pod"}),
            "the kind in the data (Pod) does not match the expected kind (DeleteOptions)",
        ),
    ] {
        fails(&ask(&server, &path, body).await, 400, "BadRequest", message, &json!({}));
    }
    let detail = "Unsupported value: \"X\": supported values: \"Background\", \"Foreground\", \"Orphan\"";
    let cause = json!({"reason": "FieldValueNotSupported", "message": detail, "field": "propagationPolicy"});
    fails(
        &ask(&server, &path, json!({"propagationPolicy": "X"})).await,
        422,
        "Invalid",
        &format!("DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: {detail}"),
        &json!({"group": "meta.k8s.io", "kind": "DeleteOptions", "causes": [cause]}),
    );
    ask(&server, &path, json!({"propagationPolicy": "Orphan", "orphanDependents": false})).await.expect(422);
    server.get(&map_path("a")).await.expect(200);
}

#[tokio::test]
async fn preconditions_name_the_object_that_is_meant() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let (uid, revision) = (created["metadata"]["uid"].as_str().unwrap(), version(&created));
    let path = format!("DELETE {CONFIG_MAPS}/a");
    let details = json!({"name": "a", "kind": "configmaps"});
    let message = |why: &str| format!("Operation cannot be fulfilled on configmaps \"a\": {why}");
    let answer = ask(&server, &path, json!({"preconditions": {"uid": "other"}})).await;
    let why = format!(
        "the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been \
         deleted and then recreated"
    );
    fails(&answer, 409, "Conflict", &message(&why), &details);
    let answer = ask(&server, &path, json!({"preconditions": {"resourceVersion": "1"}})).await;
    let why = format!(
        "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({revision}). The \
         object might have been modified"
    );
    fails(&answer, 409, "Conflict", &message(&why), &details);
    let both = json!({"preconditions": {"uid": uid, "resourceVersion": revision}});
    is(&ask(&server, &path, both).await, 200, &gone("a", "configmaps"));
}

#[tokio::test]
async fn finalizers_hold_an_object_and_only_go() {
    let server = Server::new().await;
    let mut body = config_map("a", json!({}));
    body["metadata"]["finalizers"] = json!(["example.com/x", "example.com/y"]);
    server.post(CONFIG_MAPS, &body).await.expect(201);
    let pending = ask(&server, &format!("DELETE {CONFIG_MAPS}/a"), None).await;
    let mut expected = stored_map("a", json!({}));
    expected["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone();
    expected["metadata"]["deletionTimestamp"] = json!("<time>");
    expected["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    is(&pending, 200, &expected);
    let finalizers = |names: Value| json!({"metadata": {"finalizers": names}});
    let answer = server
        .patch(&map_path("a"), MERGE, &finalizers(json!(["example.com/x", "example.com/y", "example.com/z"])))
        .await;
    let detail = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers \
                  []string{\"example.com/z\"}";
    fails(
        &answer,
        422,
        "Invalid",
        &format!("ConfigMap \"a\" is invalid: metadata.finalizers: {detail}"),
        &json!({
            "name": "a", "kind": "ConfigMap",
            "causes": [{"reason": "FieldValueForbidden", "message": detail, "field": "metadata.finalizers"}],
        }),
    );
    let revived = json!({"metadata": {"deletionTimestamp": null, "deletionGracePeriodSeconds": null}});
    let still = server.patch(&map_path("a"), MERGE, &revived).await.expect(200);
    assert!(still["metadata"]["deletionTimestamp"].is_string(), "a deletion is never taken back");
    server.patch(&map_path("a"), MERGE, &json!({"data": {"k": "v"}})).await.expect(200);
    let details = json!({"name": "a", "kind": "configmaps"});
    let message = "object is being deleted: configmaps \"a\" already exists";
    fails(&server.post(CONFIG_MAPS, &body).await, 409, "AlreadyExists", message, &details);
    server.patch(&map_path("a"), MERGE, &finalizers(json!(["example.com/y"]))).await.expect(200);
    server.get(&map_path("a")).await.expect(200);
    server.patch(&map_path("a"), MERGE, &finalizers(Value::Null)).await.expect(200);
    server.get(&map_path("a")).await.expect(404);
}

async fn bound(server: &Server, name: &str, grace: Option<i64>) {
    let mut body = pod(name);
    if let Some(grace) = grace {
        body["spec"]["terminationGracePeriodSeconds"] = json!(grace);
    }
    server.post(PODS, &body).await.expect(201);
    server.report("pods", name, |pod| pod["spec"]["nodeName"] = json!("n1")).await;
}

#[tokio::test]
async fn pods_end_gracefully_and_a_repetition_only_shortens() {
    let server = Server::new().await;
    let grace = |answer: Answer| answer.expect(200)["metadata"]["deletionGracePeriodSeconds"].clone();
    bound(&server, "a", None).await;
    bound(&server, "b", Some(60)).await;
    assert_eq!(grace(ask(&server, &format!("DELETE {PODS}/a"), None).await), 30);
    assert_eq!(grace(ask(&server, &format!("DELETE {PODS}/b"), None).await), 60);
    let path = format!("DELETE {PODS}/b");
    assert_eq!(grace(ask(&server, &format!("{path}?gracePeriodSeconds=90"), None).await), 60, "not longer");
    let dying = ask(&server, &path, json!({"gracePeriodSeconds": 5})).await.expect(200);
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 5);
    let time = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let end = time(&dying["metadata"]["deletionTimestamp"]);
    assert!(end.duration_since(time(&dying["metadata"]["creationTimestamp"])).as_secs() >= 5);
    goes(&server, path.trim_start_matches("DELETE "), json!({"gracePeriodSeconds": 0})).await;
    server.get(&format!("{PODS}/a")).await.expect(200);
    server.get(&format!("{PODS}/b")).await.expect(404);
}

/// A deletion is answered with the object's last state, and it is gone.
async fn goes(server: &Server, path: &str, options: impl Into<Option<Value>>) {
    let last = server.get(path).await.expect(200);
    is(&ask(server, &format!("DELETE {path}"), options).await, 200, &masked(&last));
    server.get(path).await.expect(404);
}

#[tokio::test]
async fn pods_that_run_nowhere_go_at_once() {
    let server = Server::new().await;
    server.post(PODS, &pod("free")).await.expect(201);
    goes(&server, &format!("{PODS}/free"), None).await;
    bound(&server, "done", None).await;
    server.report("pods", "done", |pod| pod["status"]["phase"] = json!("Succeeded")).await;
    goes(&server, &format!("{PODS}/done"), None).await;
    bound(&server, "now", Some(0)).await;
    goes(&server, &format!("{PODS}/now"), None).await;
}

/// A deployment with the replica set and pods that the planners make for it.
async fn family(server: &Server) -> String {
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    server.settle().await;
    assert_eq!(sizes(server).await, (1, 1));
    format!("DELETE {DEPLOYMENTS}/web")
}

/// How many replica sets and pods there are.
async fn sizes(server: &Server) -> (usize, usize) {
    let sets = server.get("/apis/apps/v1/namespaces/default/replicasets").await.expect(200);
    (names(&sets).len(), names(&server.get(PODS).await.expect(200)).len())
}

#[tokio::test]
async fn background_deletes_the_owner_first() {
    let server = Server::new().await;
    let path = family(&server).await;
    let status = ask(&server, &path, json!({"propagationPolicy": "Background"})).await.expect(200);
    assert_eq!(status["status"], "Success");
    assert_eq!(sizes(&server).await, (1, 1));
    server.settle().await;
    assert_eq!(sizes(&server).await, (0, 0));
}

#[tokio::test]
async fn foreground_deletes_the_dependents_first() {
    let server = Server::new().await;
    let path = family(&server).await;
    let mut held = server.get(PODS).await.expect(200)["items"][0].clone();
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let pod = format!("{PODS}/{}", held["metadata"]["name"].as_str().unwrap());
    server.put(&pod, &held).await.expect(200);
    let dying = ask(&server, &path, json!({"propagationPolicy": "Foreground"})).await.expect(200);
    assert_eq!(dying["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    server.settle().await;
    assert!(server.get(&pod).await.expect(200)["metadata"]["deletionTimestamp"].is_string());
    server.get(&format!("{DEPLOYMENTS}/web")).await.expect(200);
    server.patch(&pod, MERGE, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    server.settle().await;
    assert_eq!(sizes(&server).await, (0, 0));
    server.get(&format!("{DEPLOYMENTS}/web")).await.expect(404);
}

#[tokio::test]
async fn orphan_leaves_the_dependents_without_an_owner() {
    let server = Server::new().await;
    let path = family(&server).await;
    let dying = ask(&server, &path, json!({"propagationPolicy": "Orphan"})).await.expect(200);
    assert_eq!(dying["metadata"]["finalizers"], json!(["orphan"]));
    server.settle().await;
    server.get(&format!("{DEPLOYMENTS}/web")).await.expect(404);
    assert_eq!(sizes(&server).await, (1, 1));
    let sets = server.get("/apis/apps/v1/namespaces/default/replicasets").await.expect(200);
    assert!(sets["items"][0]["metadata"].get("ownerReferences").is_none());
}

#[tokio::test]
async fn an_object_goes_when_all_its_owners_are_gone() {
    let server = Server::new().await;
    let mut owners = Vec::new();
    for name in ["one", "two"] {
        let owner = server.post(CONFIG_MAPS, &config_map(name, json!({}))).await.expect(201);
        owners.push(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"]}),
        );
    }
    let mut body = config_map("shared", json!({}));
    body["metadata"]["ownerReferences"] = json!(owners);
    server.post(CONFIG_MAPS, &body).await.expect(201);
    ask(&server, &format!("DELETE {CONFIG_MAPS}/one"), None).await.expect(200);
    // The same name again is another owner.
    server.post(CONFIG_MAPS, &config_map("one", json!({}))).await.expect(201);
    server.settle().await;
    let shared = server.get(&map_path("shared")).await.expect(200);
    assert_eq!(shared["metadata"]["ownerReferences"], json!([owners[1]]));
    ask(&server, &format!("DELETE {CONFIG_MAPS}/two"), None).await.expect(200);
    server.settle().await;
    server.get(&map_path("shared")).await.expect(404);
}

#[tokio::test]
async fn a_namespace_terminates_with_its_content() {
    let server = Server::new().await;
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
    let maps = "/api/v1/namespaces/shop/configmaps";
    server.post(maps, &config_map("free", json!({}))).await.expect(201);
    let mut held = config_map("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(maps, &held).await.expect(201);
    let dying = ask(&server, "DELETE /api/v1/namespaces/shop", None).await;
    is(
        &dying,
        200,
        &json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": "shop", "uid": "<uid>", "resourceVersion": "<rv>", "creationTimestamp": "<time>",
                "deletionTimestamp": "<time>", "labels": {"kubernetes.io/metadata.name": "shop"},
            },
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"},
        }),
    );
    let answer = server.post(maps, &config_map("new", json!({}))).await;
    let why = "configmaps \"new\" is forbidden: unable to create new content in namespace shop because it is being \
               terminated";
    let cause = json!({
        "reason": "NamespaceTerminating", "message": "namespace shop is being terminated",
        "field": "metadata.namespace",
    });
    fails(&answer, 403, "Forbidden", why, &json!({"name": "new", "kind": "configmaps", "causes": [cause]}));
    server.settle().await;
    assert_eq!(names(&server.get(maps).await.expect(200)), ["held"]);
    let namespace = server.get("/api/v1/namespaces/shop").await.expect(200);
    let conditions = namespace["status"]["conditions"].to_string();
    assert!(conditions.contains("example.com/hold in 1 resource instances"), "{conditions}");
    server
        .patch(&format!("{maps}/held"), MERGE, &json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    server.settle().await;
    server.get("/api/v1/namespaces/shop").await.expect(404);
}

/// Its pods first; what a finalizer holds goes with the finalizer, and nothing is left over.
#[tokio::test]
async fn a_namespace_follows_its_pods_and_these_their_finalizers() {
    let hold = "example.com/hold";
    // How far the pod has come when its namespace is deleted, and when its finalizer goes.
    for (bound, let_go_first) in [(false, false), (true, false), (true, true)] {
        let server = Server::new().await;
        server.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.expect(201);
        server.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
        let (pods, maps) = ("/api/v1/namespaces/shop/pods", "/api/v1/namespaces/shop/configmaps");
        let mut held = pod("held");
        held["metadata"]["finalizers"] = json!([hold]);
        if bound {
            held["spec"]["nodeName"] = json!("n1");
        }
        server.post(pods, &held).await.expect(201);
        server.post(maps, &config_map("config", json!({}))).await.expect(201);
        server.settle().await;
        ask(&server, "DELETE /api/v1/namespaces/shop", None).await.expect(200);
        server.settle().await;
        let path = format!("{pods}/held");
        assert!(server.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_string());
        assert_eq!(names(&server.get(maps).await.expect(200)), ["config"], "after the pods");
        // What its agent reports when it has ended the pod, as `nodes` writes it down.
        let let_go = async || {
            let key = Key::new("pods", "shop", "held");
            let Some(object) = server.store.snapshot().get(&key).cloned() else { return };
            let transaction = if object.value["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
                Transaction::new().delete(key, object.revision)
            } else {
                let mut value = object.value.clone();
                value["metadata"]["deletionGracePeriodSeconds"] = json!(0);
                Transaction::new().replace(key, object.revision, value)
            };
            server.store.commit(transaction).await.unwrap();
        };
        if let_go_first {
            let_go().await;
            server.settle().await;
        }
        server.patch(&path, MERGE, &json!({"metadata": {"finalizers": null}})).await.expect(200);
        if bound && !let_go_first {
            server.get(&path).await.expect(200);
            let_go().await;
        }
        server.get(&path).await.expect(404);
        server.settle().await;
        server.get("/api/v1/namespaces/shop").await.expect(404);
        assert!(!server.store.snapshot().iter().any(|object| &*object.key.namespace == "shop"));
    }
}

/// Three pods, each of which belongs to another one, as Kubernetes' conformance suite ties them.
#[tokio::test]
async fn a_circle_of_owners_is_deleted_in_the_foreground() {
    let server = Server::new().await;
    let mut uids = Vec::new();
    for name in ["pod1", "pod2", "pod3"] {
        uids.push(server.post(PODS, &pod(name)).await.expect(201)["metadata"]["uid"].clone());
    }
    for (dependent, owner) in [(0, 2), (1, 0), (2, 1)] {
        let owners = json!([{
            "apiVersion": "v1", "kind": "Pod", "name": format!("pod{}", owner + 1), "uid": uids[owner],
            "controller": true, "blockOwnerDeletion": true,
        }]);
        let patch = json!({"metadata": {"ownerReferences": owners}});
        server.patch(&format!("{PODS}/pod{}", dependent + 1), MERGE, &patch).await.expect(200);
    }
    server.settle().await;
    assert_eq!(names(&server.get(PODS).await.expect(200)).len(), 3);
    ask(&server, &format!("DELETE {PODS}/pod1"), json!({"propagationPolicy": "Foreground"}))
        .await
        .expect(200);
    server.settle().await;
    assert!(names(&server.get(PODS).await.expect(200)).is_empty());
}

#[tokio::test]
async fn finalize_takes_the_finalizers_of_the_spec() {
    let server = Server::new().await;
    let mut shop =
        server.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
    shop["spec"]["finalizers"] = json!(["example.com/more", "kubernetes"]);
    let kept = server.put("/api/v1/namespaces/shop", &shop).await.expect(200);
    assert_eq!(kept["spec"]["finalizers"], json!(["kubernetes"]), "not through the main resource");
    shop["metadata"]["resourceVersion"].take();
    let changed = server.put("/api/v1/namespaces/shop/finalize", &shop).await.expect(200);
    assert_eq!(changed["spec"]["finalizers"], json!(["example.com/more", "kubernetes"]));
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = Server::new().await;
    for (name, tier) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["labels"] = json!({"tier": tier});
        server.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let deleted = ask(&server, &format!("DELETE {CONFIG_MAPS}?labelSelector=tier%3Dx"), None).await;
    assert_eq!(
        (deleted.expect(200)["kind"].clone(), names(&deleted.json()).concat()),
        (json!("ConfigMapList"), "ab".into())
    );
    assert_eq!(names(&server.get(CONFIG_MAPS).await.expect(200)), ["c"]);
    let by_field =
        format!("DELETE {CONFIG_MAPS}?fieldSelector=metadata.name%3Dc&propagationPolicy=Foreground");
    ask(&server, &by_field, None).await.expect(200);
    let held = server.get(&map_path("c")).await.expect(200);
    assert_eq!(held["metadata"]["finalizers"], json!(["foregroundDeletion"]), "the options apply to each");
    server.settle().await;
    assert!(names(&server.get(CONFIG_MAPS).await.expect(200)).is_empty());
    ask(&server, "DELETE /api/v1/configmaps", None).await.expect(405);
}

#[tokio::test]
async fn namespaces_that_the_cluster_needs_stay() {
    let server = Server::new().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let refused = server.delete(&format!("/api/v1/namespaces/{name}"), &json!({})).await.expect(403);
        let message = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
        assert_eq!((&refused["reason"], &refused["message"]), (&json!("Forbidden"), &json!(message)));
    }
    let kept = server.get("/api/v1/namespaces/default").await.expect(200);
    assert!(kept["metadata"].get("deletionTimestamp").is_none(), "{kept}");
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
    let going = server.delete("/api/v1/namespaces/shop", &json!({})).await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
}

#[tokio::test]
async fn an_update_of_a_namespace_keeps_its_spec_and_label() {
    let server = Server::new().await;
    let bare = json!({"metadata": {"name": "default", "labels": {"a": "b"}}, "spec": {"finalizers": []}});
    let updated = server.put("/api/v1/namespaces/default", &bare).await.expect(200);
    assert_eq!(updated["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(updated["metadata"]["labels"], json!({"a": "b", "kubernetes.io/metadata.name": "default"}));
}

#[tokio::test]
async fn a_write_that_loses_its_object_is_not_found() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.expect(201);
    let key = Key::new("configmaps", "default", "a");
    let revision = server.store.snapshot().get(&key).unwrap().revision;
    server.store.commit(Transaction::new().delete(key, revision)).await.unwrap();
    server
        .patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &json!({"data": {"a": "b"}}))
        .await
        .expect(404);
}
