//! §2 Selectors.

use super::*;
use crate::kinds::KINDS;

fn encoded(selector: &str) -> String {
    selector.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn label_operators() {
    let server = Server::new().await;
    for (name, labels) in [
        ("a", json!({"app": "web", "tier": "front"})),
        ("b", json!({"app": "web"})),
        ("c", json!({"app": "db", "tier": ""})),
        ("d", json!({})),
    ] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["labels"] = labels;
        server.post(CONFIG_MAPS, &object).await.expect(201);
    }
    for (selector, expected) in [
        ("app=web", "ab"),
        ("app==web", "ab"),
        ("app!=web", "cd"),
        ("app in (web,db)", "abc"),
        ("app notin (web)", "cd"),
        ("tier", "ac"),
        ("!tier", "bd"),
        ("app=web,tier", "a"),
        ("tier=", "c"),
        ("", "abcd"),
        ("app=web,!tier", "b"),
        ("app in (web), tier notin (front)", "b"),
    ] {
        let list =
            server.get(&format!("{CONFIG_MAPS}?labelSelector={}", encoded(selector))).await.expect(200);
        assert_eq!(names(&list).concat(), expected, "{selector}");
    }
    for wrong in ["a=b=c", "a in b", "a in (b", "!", ",", "a b", "-a", "a=-"] {
        let refused =
            server.get(&format!("{CONFIG_MAPS}?labelSelector={}", encoded(wrong))).await.expect(400);
        assert_eq!(refused["reason"], "BadRequest");
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with("unable to parse requirement: "), "{wrong}: {message}");
    }
}

#[tokio::test]
async fn names_and_namespaces_select_objects_of_every_kind() {
    let server = Server::new().await;
    for kind in KINDS.iter().filter(|kind| kind.verbs.contains(&"list")) {
        let path = if kind.group.is_empty() {
            format!("/api/v1/{}", kind.plural)
        } else {
            format!("/apis/{}/{}/{}", kind.group, kind.version, kind.plural)
        };
        server.get(&format!("{path}?fieldSelector=metadata.name%3Dx")).await.expect(200);
        let expected = if kind.namespaced { 200 } else { 400 };
        server.get(&format!("{path}?fieldSelector=metadata.namespace%3Dx")).await.expect(expected);
        let answer = server.get(&format!("{path}?fieldSelector=spec.nothing%3Dx")).await;
        fails(&answer, 400, "BadRequest", "field label not supported: spec.nothing", &json!({}));
    }
}

#[tokio::test]
async fn fields_of_pods() {
    let server = Server::new().await;
    let robot = json!({"metadata": {"name": "robot"}});
    server.post("/api/v1/namespaces/default/serviceaccounts", &robot).await.expect(201);
    for (name, node, phase, address) in
        [("a", "n1", "Running", "10.42.1.2"), ("b", "n2", "Failed", "10.42.2.2"), ("c", "", "Pending", "")]
    {
        let mut body = pod(name);
        body["spec"]["restartPolicy"] = json!(if name == "c" { "Never" } else { "Always" });
        body["spec"]["serviceAccountName"] = json!(if name == "a" { "robot" } else { "default" });
        server.post(PODS, &body).await.expect(201);
        server
            .report("pods", name, |pod| {
                if !node.is_empty() {
                    pod["spec"]["nodeName"] = json!(node);
                    pod["status"]["podIP"] = json!(address);
                }
                pod["status"]["phase"] = json!(phase);
            })
            .await;
    }
    for (selector, expected) in [
        ("spec.nodeName=n1", "a"),
        ("spec.nodeName==n2", "b"),
        ("spec.nodeName!=n1", "bc"),
        ("spec.nodeName=", "c"),
        ("status.phase=Running", "a"),
        ("status.phase!=Running,status.phase!=Failed", "c"),
        ("status.podIP=10.42.2.2", "b"),
        ("spec.restartPolicy=Never", "c"),
        ("spec.serviceAccountName=robot", "a"),
        ("metadata.name=a", "a"),
        ("metadata.namespace=default", "abc"),
        ("metadata.namespace=other", ""),
        ("metadata.name!=a,spec.nodeName=n2", "b"),
    ] {
        let list = server.get(&format!("{PODS}?fieldSelector={}", encoded(selector))).await.expect(200);
        assert_eq!(names(&list).concat(), expected, "{selector}");
    }
    let answer = server.get(&format!("{PODS}?fieldSelector=nonsense")).await;
    fails(
        &answer,
        400,
        "BadRequest",
        "invalid selector: 'nonsense'; can't understand 'nonsense'",
        &json!({}),
    );
}

#[tokio::test]
async fn fields_of_other_kinds() {
    let server = Server::new().await;
    let secret = |name: &str, kind: &str| json!({"metadata": {"name": name}, "type": kind});
    let secrets = "/api/v1/namespaces/default/secrets";
    server.post(secrets, &secret("a", "Opaque")).await.expect(201);
    server.post(secrets, &secret("b", "example.com/x")).await.expect(201);
    let event = |name: &str, about: &str| {
        json!({
            "metadata": {"name": name}, "reason": "Scheduled", "type": "Normal", "source": {"component": "scheduler"},
            "involvedObject": {
                "kind": "Pod", "apiVersion": "v1", "namespace": "default", "name": about, "uid": format!("uid-{about}"),
                "fieldPath": "spec.containers{main}",
            },
        })
    };
    let events = "/api/v1/namespaces/default/events";
    server.post(events, &event("a", "p")).await.expect(201);
    server.post(events, &event("b", "q")).await.expect(201);
    server.post("/api/v1/nodes", &json!({"metadata": {"name": "a"}})).await.expect(201);
    server
        .post("/api/v1/nodes", &json!({"metadata": {"name": "b"}, "spec": {"unschedulable": true}}))
        .await
        .expect(201);
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "b"}})).await.expect(201);
    server.delete("/api/v1/namespaces/b", &json!({})).await.expect(200);
    for (path, selector, expected) in [
        (secrets, "type=Opaque", "a"),
        (secrets, "type!=Opaque", "b"),
        (events, "involvedObject.name=p", "a"),
        (events, "involvedObject.uid=uid-q", "b"),
        (
            events,
            "involvedObject.kind=Pod,involvedObject.namespace=default,involvedObject.apiVersion=v1",
            "ab",
        ),
        (events, "involvedObject.fieldPath=spec.containers{main}", "ab"),
        (events, "reason=Scheduled,type=Normal,source=scheduler", "ab"),
        (events, "type=Warning", ""),
        ("/api/v1/nodes", "spec.unschedulable=true", "b"),
        ("/api/v1/nodes", "spec.unschedulable=false", "a"),
        ("/api/v1/namespaces", "status.phase=Terminating", "b"),
        ("/api/v1/namespaces", "status.phase=Active", "default"),
    ] {
        let list = server.get(&format!("{path}?fieldSelector={}", encoded(selector))).await.expect(200);
        assert_eq!(names(&list).concat(), expected, "{path} {selector}");
    }
}
