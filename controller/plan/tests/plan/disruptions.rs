//! Disruption budgets: how many pods may go.

use jiff::SignedDuration;
use serde_json::{Value, json};
use warren_objects::DEFINITIONS;
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, condition},
    sets::{daemon, gated, set, stateful},
};

/// A budget of the pods of an app.
pub(crate) fn budget(model: &mut Model, name: &str, app: &str, spec: Value) -> Key {
    let mut spec = spec;
    if spec["selector"].is_null() {
        spec["selector"] = json!({"matchLabels": {"app": app}});
    }
    model.put(
        PODDISRUPTIONBUDGETS,
        "default",
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}),
    )
}

/// Expected, needed, healthy, allowed.
pub(crate) fn counts(model: &Model, key: &Key) -> [i64; 4] {
    let status = &model.get(key)["status"];
    ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
        .map(|field| status[field].as_i64().unwrap_or(-1))
}

fn said(model: &Model, key: &Key) -> (String, String) {
    let condition = condition(model.get(key), "DisruptionAllowed");
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn bare(model: &mut Model, name: &str, app: &str, ready: bool) -> Key {
    let ready = if ready { "True" } else { "False" };
    model.put(
        PODS,
        "default",
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"schedulerName": "other", "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready,
                "lastTransitionTime": "2026-11-22T12:00:00Z"}]}}),
    )
}

#[test]
fn what_may_go_is_what_is_healthy_beyond_what_is_needed() {
    for (spec, [needed, allowed]) in [
        (json!({"minAvailable": 3}), [3, 2]),
        (json!({"minAvailable": 7}), [7, 0]),
        (json!({"minAvailable": 0}), [0, 5]),
        (json!({"minAvailable": "50%"}), [3, 2]),
        (json!({"minAvailable": "41%"}), [3, 2]),
        (json!({"minAvailable": "100%"}), [5, 0]),
        (json!({"maxUnavailable": 1}), [4, 1]),
        (json!({"maxUnavailable": 9}), [0, 5]),
        (json!({"maxUnavailable": "21%"}), [3, 2]),
        (json!({"maxUnavailable": "0%"}), [5, 0]),
        (json!({"maxUnavailable": i32::MAX}), [0, 5]),
    ] {
        let mut model = gated(3);
        model.deployment("web", 5, json!({}));
        model.settle();
        let key = budget(&mut model, "web", "web", spec.clone());
        model.settle();
        assert_eq!(counts(&model, &key), [5, needed, 5, allowed], "{spec}");
        let (holds, reason) =
            if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        assert_eq!(said(&model, &key), (holds.to_owned(), reason.to_owned()), "{spec}");
        assert_eq!(model.get(&key)["status"]["observedGeneration"], 1);
        assert_eq!(condition(model.get(&key), "DisruptionAllowed")["observedGeneration"], 1);
    }
}

#[test]
fn a_pod_that_is_not_ready_or_goes_does_not_count() {
    let mut model = gated(2);
    let key = budget(&mut model, "web", "web", json!({"minAvailable": 1}));
    model.settle();
    assert_eq!(counts(&model, &key), [0, 1, 0, 0]);
    assert!(model.told("web").contains("NoPods"));
    let first = bare(&mut model, "a", "web", true);
    bare(&mut model, "b", "web", true);
    bare(&mut model, "c", "web", false);
    bare(&mut model, "d", "api", true);
    model.settle();
    assert_eq!(counts(&model, &key), [3, 1, 2, 1]);
    model.change(&first, |pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-22T12:10:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 600.into();
        pod["spec"]["nodeName"] = "node-1".into();
    });
    model.pass();
    assert_eq!(counts(&model, &key), [3, 1, 1, 0]);
    model.remove(&first);
    model.pass();
    assert_eq!(counts(&model, &key), [2, 1, 1, 0]);
}

#[test]
fn an_empty_selector_is_about_all_and_none_about_nothing() {
    let mut model = gated(1);
    let all = budget(&mut model, "all", "", json!({"minAvailable": 1, "selector": {}}));
    let named = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]});
    let others = budget(&mut model, "others", "", json!({"minAvailable": 1, "selector": named}));
    let none = budget(&mut model, "none", "", json!({"minAvailable": 1}));
    model.change(&none, |value| drop(value["spec"].as_object_mut().unwrap().remove("selector")));
    model.settle();
    for (name, app) in [("a", "web"), ("b", "web"), ("c", "api")] {
        bare(&mut model, name, app, true);
    }
    model.settle();
    assert_eq!(counts(&model, &all), [3, 1, 3, 2]);
    assert_eq!(counts(&model, &others), [1, 1, 1, 0]);
    assert_eq!(counts(&model, &none), [0, 1, 0, 0]);
    // The pod is of another app by now.
    model.change(&Key::new(PODS, "default", "a"), |pod| pod["metadata"]["labels"]["app"] = "api".into());
    model.pass();
    assert_eq!(counts(&model, &others), [2, 1, 2, 1]);
}

#[test]
fn who_controls_pods_says_how_many_there_should_be() {
    let mut model = gated(4);
    let key = budget(&mut model, "all", "", json!({"maxUnavailable": 1, "selector": {}}));
    let deployment = model.deployment("web", 3, json!({}));
    stateful(&mut model, 2, json!({}));
    set(&mut model, REPLICATIONCONTROLLERS, "old", &json!({"replicas": 1}));
    model.settle();
    assert_eq!(counts(&model, &key), [6, 5, 6, 1]);
    // What is to come counts, too: there should be more than there are.
    model.change(&deployment, |value| value["spec"]["replicas"] = 8.into());
    model.pass();
    assert_eq!(counts(&model, &key), [11, 10, 6, 0]);
    model.settle();
    assert_eq!(counts(&model, &key), [11, 10, 11, 1]);
    // A rollout has two replica sets, of one deployment.
    model.set_image(&deployment, "image:2");
    model.pass();
    model.pass();
    assert!(model.list(REPLICASETS).count() == 2 && counts(&model, &key)[0] == 11);
    // A replica set that lost its deployment speaks for itself.
    model.settle();
    model.remove(&deployment);
    model.pass();
    assert_eq!(counts(&model, &key)[0], 11);
}

#[test]
fn without_a_scale_no_pod_may_go() {
    let mut model = gated(3);
    daemon(&mut model, &json!({}));
    model.settle();
    let key = budget(&mut model, "every", "every", json!({"minAvailable": 1}));
    model.settle();
    assert_eq!(counts(&model, &key), [3, 1, 3, 2], "a number needs no scale");
    model.change(&key, |value| value["spec"]["minAvailable"] = "10%".into());
    model.settle();
    let condition = condition(model.get(&key), "DisruptionAllowed").clone();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("SyncFailed")));
    assert_eq!(condition["message"], "daemonsets.apps does not implement the scale subresource");
    assert_eq!(counts(&model, &key)[3], 0);
    assert_eq!(model.get(&key)["status"]["observedGeneration"], 1, "it was not counted");
    assert!(model.told("every").contains("CalculateExpectedPodCountFailed"));
    model.change(&key, |value| value["spec"]["minAvailable"] = 3.into());
    model.settle();
    assert_eq!(said(&model, &key), ("False".to_owned(), "InsufficientPods".to_owned()));
    assert_eq!(condition_message(&model, &key), "");
}

fn condition_message(model: &Model, key: &Key) -> String {
    condition(model.get(key), "DisruptionAllowed")["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_custom_kind_says_its_scale_where_its_definition_says() {
    let mut model = Model::new(1);
    let key = budget(&mut model, "web", "web", json!({"maxUnavailable": 1}));
    let pod = bare(&mut model, "a", "web", true);
    model.change(&pod, |pod| {
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": "Herd", "name": "herd",
            "uid": "uid-herd", "controller": true}]);
    });
    model.settle();
    assert_eq!(condition_message(&model, &key), "no matches for kind \"Herd\" in version \"example.com/v1\"");
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = |subresources: Value| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "herds.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "herds", "kind": "Herd"}, "versions": [{"name": "v1", "served": true,
                    "storage": true, "schema": schema, "subresources": subresources}]}})
    };
    let herd = json!({"apiVersion": "example.com/v1", "kind": "Herd",
        "metadata": {"name": "herd", "uid": "uid-herd"}, "spec": {"size": 4}});
    let herd = model.put("herds.example.com", "default", herd);
    model.put(DEFINITIONS, "", definition(json!({})));
    model.settle();
    assert_eq!(condition_message(&model, &key), "herds.example.com does not implement the scale subresource");
    let scale = json!({"scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}});
    model.put(DEFINITIONS, "", definition(scale));
    model.settle();
    assert_eq!(counts(&model, &key), [4, 3, 1, 0]);
    model.change(&herd, |value| value["spec"]["size"] = 1.into());
    model.settle();
    assert_eq!(counts(&model, &key), [1, 0, 1, 1]);
    model.remove(&herd);
    model.pass();
    assert_eq!(condition_message(&model, &key), "found no controllers for pod \"a\"");
}

#[test]
fn pods_of_nobody_are_told_of_where_a_share_is_wanted() {
    let mut model = gated(1);
    bare(&mut model, "a", "web", true);
    let number = budget(&mut model, "number", "web", json!({"minAvailable": 1}));
    let share = budget(&mut model, "share", "web", json!({"minAvailable": "50%"}));
    model.settle();
    assert_eq!(counts(&model, &number), [1, 1, 1, 0]);
    assert_eq!(counts(&model, &share), [0, 0, 1, 0], "nobody says of how many it is a share");
    assert!(model.told("share").contains("UnmanagedPods") && !model.told("number").contains("UnmanagedPods"));
    for _ in 0..20 {
        assert!(!model.pass(), "it is said once");
    }
}

#[test]
fn who_was_let_go_does_not_count_until_it_was_expected_in_vain() {
    let mut model = gated(2);
    for name in ["a", "b", "c"] {
        bare(&mut model, name, "web", true);
    }
    let key = budget(&mut model, "web", "web", json!({"minAvailable": 1}));
    model.settle();
    assert_eq!(counts(&model, &key)[3], 2);
    let now = jiff::Timestamp::from_second(model.now.as_second()).unwrap();
    model.change(&key, |value| {
        value["status"]["disruptedPods"] = json!({"a": now.to_string(), "gone": now.to_string()});
    });
    model.settle();
    assert_eq!(counts(&model, &key), [3, 1, 2, 1]);
    assert_eq!(model.get(&key)["status"]["disruptedPods"], json!({"a": now.to_string()}));
    model.now = model.wake_at();
    assert_eq!(model.now, now + SignedDuration::from_secs(120));
    model.settle();
    assert_eq!(counts(&model, &key), [3, 1, 3, 2]);
    assert!(model.get(&key)["status"].get("disruptedPods").is_none());
    assert!(model.told("a").contains("NotDeleted"));
}

#[test]
fn a_pod_that_is_not_ended_says_so_no_longer() {
    let mut model = gated(1);
    let pod = bare(&mut model, "a", "web", true);
    let of_the_node = bare(&mut model, "b", "web", true);
    let now = jiff::Timestamp::from_second(model.now.as_second()).unwrap();
    for (key, reason) in [(&pod, "PreemptionByScheduler"), (&of_the_node, "TerminationByKubelet")] {
        model.change(key, |pod| {
            let marked = json!({"type": "DisruptionTarget", "status": "True", "reason": reason,
                "lastTransitionTime": now.to_string()});
            pod["status"]["conditions"].as_array_mut().unwrap().push(marked);
        });
    }
    model.settle();
    let marked = |model: &Model, key: &Key| condition(model.get(key), "DisruptionTarget")["status"].clone();
    assert_eq!(marked(&model, &pod), "True");
    model.now = now + SignedDuration::from_secs(119);
    assert!(!model.pass());
    model.now = now + SignedDuration::from_secs(120);
    model.settle();
    assert_eq!((marked(&model, &pod), marked(&model, &of_the_node)), (json!("False"), json!("True")));
}
