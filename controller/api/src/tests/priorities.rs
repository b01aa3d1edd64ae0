//! Priority classes, and what pods get of them.

use super::*;

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

fn class(name: &str, value: i64) -> Value {
    json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": name, "labels": {"e2e": "yes"}}, "value": value})
}

#[tokio::test]
async fn a_class_keeps_what_it_means() {
    let server = Server::new().await;
    for (name, value) in [("p1", 1), ("p2", 2)] {
        let made = server.post(CLASSES, &class(name, value)).await;
        assert_eq!(made.warnings(), [""; 0]);
        assert_eq!(made.expect(201)["preemptionPolicy"], "PreemptLowerPriority");
    }
    let path = format!("{CLASSES}/p1");
    let kind = "strategic-merge-patch+json";
    let refused = server.patch(&path, kind, &json!({"value": 10})).await.expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "value");
    let described = server.patch(&path, kind, &json!({"description": "updated"})).await.expect(200);
    assert_eq!((&described["description"], &described["value"]), (&json!("updated"), &json!(1)));
    let mut second = server.get(&format!("{CLASSES}/p2")).await.expect(200);
    second["value"] = json!(20);
    server.put(&format!("{CLASSES}/p2"), &second).await.expect(422);
    let deleted = server.delete(&format!("{CLASSES}?labelSelector=e2e%3Dyes"), &json!({})).await;
    assert_eq!(deleted.expect(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_pod_gets_the_priority_of_its_class() {
    let server = Server::new().await;
    server.post(CLASSES, &class("high", 1_000)).await.expect(201);
    let mut high = pod("high");
    high["spec"]["priorityClassName"] = json!("high");
    let made = server.post(PODS, &high).await;
    assert_eq!(made.warnings(), [""; 0]);
    let made = made.expect(201);
    assert_eq!(made["spec"]["priority"], 1_000);
    assert_eq!(made["spec"]["preemptionPolicy"], "PreemptLowerPriority");
    // A client that knows no priorities changes the pod.
    let mut plain = made.clone();
    for field in ["priority", "preemptionPolicy"] {
        plain["spec"].as_object_mut().unwrap().remove(field);
    }
    plain["metadata"]["labels"]["a"] = json!("b");
    let changed = server.put(&format!("{PODS}/high"), &plain).await.expect(200);
    assert_eq!(changed["spec"], made["spec"]);
    let mut lost = pod("lost");
    lost["spec"]["priorityClassName"] = json!("nowhere");
    let refused = server.post(PODS, &lost).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"lost\" is forbidden: no PriorityClass with name nowhere was found"
    );
}
