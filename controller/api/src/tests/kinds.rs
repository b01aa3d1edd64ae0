//! Kinds that are stored and not yet acted upon, other versions, what is derived, and what is refused by name.

use super::*;

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

fn job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "main", "image": "perl:5"}]}}}})
}

#[tokio::test]
async fn what_nobody_does_yet_is_said_with_every_write() {
    let server = Server::new().await;
    let idle = warren_objects::kinds::of("persistentvolumeclaims").unwrap().idle;
    let warning = format!("299 - \"{idle}\"");
    let warning = warning.as_str();
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "web"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let created = server.post(claims, &claim).await;
    assert_eq!(created.warnings(), [warning]);
    let stored = created.expect(201);
    let path = format!("{claims}/web");
    assert_eq!(server.put(&path, &stored).await.warnings(), [warning]);
    let patched = server.patch(&path, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(patched.warnings(), [warning]);
}

#[tokio::test]
async fn what_a_job_is_to_do_is_completed_and_stays() {
    let server = Server::new().await;
    let created = server.post(JOBS, &job("pi")).await;
    assert_eq!(created.warnings(), [""; 0]);
    let stored = created.expect(201);
    let uid = stored["metadata"]["uid"].as_str().unwrap();
    assert_eq!(stored["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], uid);
    let path = format!("{JOBS}/pi");
    let refused =
        server.patch(&path, "merge-patch+json", &json!({"spec": {"completions": 2}})).await.expect(422);
    assert_eq!(
        refused["message"],
        "Job.batch \"pi\" is invalid: spec.completions: Invalid value: 2: field is immutable"
    );
    let mut always = job("always");
    always["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    let refused = server.post(JOBS, &always).await.expect(422);
    let cause = &refused["details"]["causes"][0];
    assert_eq!(cause["field"], "spec.template.spec.restartPolicy");
    assert_eq!(cause["message"], "Required value: valid values: \"OnFailure\", \"Never\"");
}

#[tokio::test]
async fn who_deletes_a_job_without_a_policy_is_told_that_its_pods_stay() {
    let server = Server::new().await;
    server.post(JOBS, &job("pi")).await.expect(201);
    let path = format!("{JOBS}/pi");
    let deleted = server.delete(&path, &json!({})).await;
    let warning = "299 - \"child pods are preserved by default when jobs are deleted; set \
        propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning\"";
    assert_eq!(deleted.warnings(), [warning]);
    assert_eq!(deleted.expect(200)["metadata"]["finalizers"], json!(["orphan"]));
    let again = server.delete(&path, &json!({"propagationPolicy": "Background"})).await;
    assert_eq!(again.warnings(), [""; 0]);
}

#[tokio::test]
async fn first_statuses_have_their_counters() {
    let server = Server::new().await;
    let mut set = deployment("set");
    set["kind"] = json!("DaemonSet");
    let stored = server.post("/apis/apps/v1/namespaces/default/daemonsets", &set).await.expect(201);
    let counters = ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"];
    for counter in counters {
        assert_eq!(stored["status"][counter], 0, "{stored}");
    }
}

#[tokio::test]
async fn an_autoscaler_has_two_faces() {
    let server = Server::new().await;
    let [v1, v2] = ["v1", "v2"]
        .map(|version| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers"));
    let body = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"}, "spec": {"maxReplicas": 4, "targetCPUUtilizationPercentage": 70,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let created = server.post(&v1, &body).await.expect(201);
    assert_eq!(created["apiVersion"], "autoscaling/v1");
    assert_eq!(created["spec"]["targetCPUUtilizationPercentage"], 70);
    let stored = server.get(&format!("{v2}/web")).await.expect(200);
    assert_eq!(stored["apiVersion"], "autoscaling/v2");
    assert_eq!(stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 50}});
    let patched = server.patch(&format!("{v1}/web"), "merge-patch+json", &patch).await.expect(200);
    assert_eq!(patched["spec"]["targetCPUUtilizationPercentage"], 50);
    let stored = server.get(&format!("{v2}/web")).await.expect(200);
    assert_eq!(stored["spec"]["metrics"].as_array().unwrap().len(), 1);
    let table = server.get_as(&v1, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
    assert_eq!(table["rows"][0]["cells"][2], "cpu: <unknown>/50%");
    let mut typo = body;
    typo["spec"]["maxReplicaz"] = json!(1);
    server.post(&format!("{v1}?fieldValidation=Strict"), &typo).await.expect(400);
}

#[tokio::test]
async fn events_are_the_same_in_both_groups() {
    let server = Server::new().await;
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({"metadata": {"name": "e1", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "test.example/c", "reportingInstance": "i", "action": "Did", "reason": "Because",
        "type": "Normal", "note": "hello", "regarding": {"kind": "Pod", "name": "web", "namespace": "default"}});
    server.post(new, &event).await.expect(201);
    let old = server.get("/api/v1/namespaces/default/events/e1").await.expect(200);
    assert_eq!((&old["message"], &old["involvedObject"]["name"]), (&json!("hello"), &json!("web")));
    assert_eq!(old["apiVersion"], "v1");
    let found = server.get(&format!("{new}?fieldSelector=regarding.name%3Dweb")).await.expect(200);
    assert_eq!(found["items"][0]["note"], "hello");
    server.get(&format!("{new}?fieldSelector=involvedObject.name%3Dweb")).await.expect(400);
}

#[tokio::test]
async fn network_policies_are_refused_by_name() {
    let server = Server::new().await;
    let path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let policy = json!({"metadata": {"name": "deny"}, "spec": {"podSelector": {}}});
    let refused = server.post(path, &policy).await.expect(405);
    assert!(refused["message"].as_str().unwrap().starts_with("NetworkPolicies are refused"), "{refused}");
    assert_eq!(server.get(path).await.expect(200)["items"], json!([]));
    for (path, word) in [
        ("/apis/certificates.k8s.io/v1/certificatesigningrequests", "certificate"),
        ("/apis/resource.k8s.io/v1", "dynamic resource"),
    ] {
        let refused = server.get(path).await.expect(404);
        assert!(refused["message"].as_str().unwrap().contains(word), "{refused}");
    }
    server.post("/api/v1/namespaces/default/pods", &pod("web")).await.expect(201);
    let refused = server
        .patch("/api/v1/namespaces/default/pods/web/ephemeralcontainers", "merge-patch+json", &json!({}))
        .await
        .expect(405);
    assert!(
        refused["message"].as_str().unwrap().starts_with("ephemeral containers are not run"),
        "{refused}"
    );
}

#[tokio::test]
async fn usage_and_leases_come_from_the_nodes() {
    let server = Server::new().await;
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "kube-node-lease"}})).await.expect(201);
    let nodes = server.post("/api/v1/nodes", &json!({"metadata": {"name": "node-1"}})).await.expect(201);
    let metrics = server.get("/apis/metrics.k8s.io/v1beta1/nodes/node-1").await.expect(200);
    assert_eq!(metrics["usage"], json!({"cpu": "1500000000n", "memory": "1048576Ki"}));
    assert_eq!(metrics["window"], "10s");
    let list = server.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods").await.expect(200);
    assert_eq!((&list["kind"], &list["items"]), (&json!("PodMetricsList"), &json!([])), "no such pod");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let found = server.get(&format!("{lease}/node-1")).await.expect(200);
    assert_eq!(found["spec"]["holderIdentity"], "node-1");
    assert_eq!(found["spec"]["renewTime"], "2026-01-01T00:00:10.500000Z");
    assert_eq!(found["metadata"]["ownerReferences"][0]["uid"], nodes["metadata"]["uid"]);
    let own = json!({"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a"}});
    server.post("/apis/coordination.k8s.io/v1/namespaces/default/leases", &own).await.expect(201);
    let all = server.get("/apis/coordination.k8s.io/v1/leases").await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn questions_are_answered_and_not_kept() {
    let server = Server::new().await;
    let access = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}});
    assert_eq!(server.post(access, &question).await.expect(201)["status"]["allowed"], true);
    server.get(access).await.expect(405);
    let empty = server.post(access, &json!({"spec": {}})).await.expect(422);
    assert_eq!(empty["details"]["causes"][0]["field"], "spec.resourceAttributes");
    for (resource, object) in warren_access::defaults::all() {
        if object["metadata"]["name"] == "system:basic-user" {
            let plural = resource.split('.').next().unwrap();
            server.post(&format!("/apis/rbac.authorization.k8s.io/v1/{plural}"), &object).await.expect(201);
        }
    }
    let jane = [("content-type", "application/json"), ("impersonate-user", "jane")];
    let asked = Server::request(Method::POST, access, &jane, question.to_string());
    assert_eq!(server.send(asked).await.expect(201)["status"]["allowed"], false);
    let about =
        json!({"spec": {"user": "jane", "nonResourceAttributes": {"verb": "get", "path": "/healthz"}}});
    let subject = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(server.post(subject, &about).await.expect(201)["status"]["allowed"], true);
    let me = server.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.expect(201);
    assert_eq!(me["status"]["userInfo"]["username"], "warren-admin");
    let token = json!({"spec": {"token": "x"}});
    let judged = server.post("/apis/authentication.k8s.io/v1/tokenreviews", &token).await.expect(201);
    assert_eq!(judged["status"]["authenticated"], false);
    let rules = json!({"spec": {"namespace": "default"}});
    let listed =
        server.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &rules).await.expect(201);
    assert_eq!(listed["status"]["resourceRules"][0]["verbs"], json!(["*"]));
}

/// What no cluster of this version can hold is an empty list to those who look, gone to those who delete, and refused by
/// name to those who make it.
#[tokio::test]
async fn what_cannot_exist_is_refused_by_name_and_deleted_in_peace() {
    let server = Server::new().await;
    let mut refused = 0;
    for kind in crate::kinds::KINDS
        .iter()
        .filter(|kind| matches!(kind.source, crate::kinds::Source::Stored) && !kind.refusal.is_empty())
    {
        refused += 1;
        let namespace = if kind.namespaced { "/namespaces/default" } else { "" };
        let path = format!("/apis/{}/{}{namespace}/{}", kind.group, kind.version, kind.plural);
        let named = format!("{path}/x");
        let list = server.get(&path).await.expect(200);
        assert_eq!((&list["items"], &list["kind"]), (&json!([]), &json!(format!("{}List", kind.kind))));
        let table = server.get_as(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
        assert_eq!(table["rows"], json!([]));
        let details = json!({"name": "x", "group": kind.group, "kind": kind.plural});
        for missing in [server.get(&named).await, server.delete(&named, &json!({})).await] {
            let missing = missing.expect(404);
            assert_eq!((&missing["reason"], &missing["details"]), (&json!("NotFound"), &details));
        }
        assert_eq!(server.delete(&path, &json!({})).await.expect(200)["items"], json!([]));
        let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "x"}});
        for answer in [
            server.post(&path, &object).await,
            server.put(&named, &object).await,
            server.patch(&named, "merge-patch+json", &object).await,
        ] {
            let message = answer.expect(405)["message"].as_str().unwrap().to_owned();
            assert_eq!(message, kind.refusal);
            assert!(message.to_lowercase().starts_with(&*kind.plural), "{message}");
        }
        let watched = server.get(&format!("{path}?watch=true&timeoutSeconds=1")).await;
        assert_eq!((watched.code.as_u16(), watched.body.len()), (200, 0));
        // Whoever validates first finds the kind.
        let discovery = server.get(&format!("/apis/{}/{}", kind.group, kind.version)).await.expect(200);
        let resources = discovery["resources"].as_array().unwrap();
        assert!(resources.iter().any(|resource| resource["kind"] == *kind.kind), "{}", kind.kind);
    }
    assert!(refused >= 7, "{refused}");
}
