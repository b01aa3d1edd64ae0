//! Claims of persistent volumes: those of stateful sets, and pods that wait for theirs.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, condition},
    sets::{gated, names, pod, quiet, stateful},
};

fn templates(more: Value) -> Value {
    let claim = json!({"metadata": {"name": "data", "labels": {"of": "me"}}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let mut spec = more;
    spec["volumeClaimTemplates"] = json!([claim]);
    spec
}

fn retention(deleted: &str, scaled: &str) -> Value {
    templates(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}))
}

fn claim(name: &str) -> Key {
    Key::new(PERSISTENTVOLUMECLAIMS, "default", name)
}

/// Somebody binds all claims; whether there was anything to bind.
fn bind(model: &mut Model) -> bool {
    let mut news = false;
    let claims: Vec<_> = model.list(PERSISTENTVOLUMECLAIMS).map(|(key, _)| key.clone()).collect();
    for key in claims {
        if model.get(&key)["status"]["phase"] != "Bound" {
            model.change(&key, |value| {
                value["spec"]["volumeName"] = "v".into();
                value["status"]["phase"] = "Bound".into();
            });
            news = true;
        }
    }
    news
}

/// Passes, agents and whoever binds claims.
fn run(model: &mut Model) {
    for _ in 0..60 {
        let planned = model.pass();
        let bound = bind(model);
        if !model.agents() && !planned && !bound {
            return;
        }
    }
}

fn owners(model: &Model, name: &str) -> Vec<String> {
    let list = model.get(&claim(name))["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    list.iter().map(|owner| owner["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_claim_is_made_with_its_pod_which_waits_until_it_is_bound() {
    let mut model = gated(1);
    stateful(&mut model, 2, templates(json!({})));
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0"]);
    let made = model.get(&claim("data-db-0"));
    assert_eq!(made["metadata"]["labels"], json!({"app": "db", "of": "me"}));
    assert_eq!(made["spec"]["resources"]["requests"]["storage"], "1Gi");
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}]);
    let waiting = model.get(&pod("db-0"));
    assert_eq!(waiting["spec"]["volumes"][0], volumes[0]);
    assert!(waiting["spec"]["nodeName"].is_null());
    let said = condition(waiting, "PodScheduled");
    assert_eq!((&said["status"], &said["reason"]), (&json!("False"), &json!("Unschedulable")));
    assert_eq!(said["message"], "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
    assert!(model.told("db-0").contains("FailedScheduling"));
    run(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1"]);
    assert!(model.active("db").all(|(_, pod)| !pod["spec"]["nodeName"].is_null()));
}

#[test]
fn a_claim_that_is_not_there_or_going_away_is_named() {
    let mut model = gated(1);
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "mine"}}]);
    let key = model.put(PODS, "default", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes}, "status": {"phase": "Pending"}}));
    quiet(&mut model);
    let said =
        |model: &Model| condition(model.get(&key), "PodScheduled")["message"].as_str().unwrap().to_owned();
    assert_eq!(said(&model), "0/1 nodes are available: persistentvolumeclaim \"mine\" not found.");
    let mut object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "mine", "finalizers": ["a/b"], "deletionTimestamp": "2026-11-22T12:00:00Z"},
        "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
    model.put(PERSISTENTVOLUMECLAIMS, "default", object.clone());
    quiet(&mut model);
    assert_eq!(said(&model), "0/1 nodes are available: persistentvolumeclaim \"mine\" is being deleted.");
    object["metadata"]["deletionTimestamp"] = Value::Null;
    model.put(PERSISTENTVOLUMECLAIMS, "default", object);
    quiet(&mut model);
    assert_eq!(model.get(&key)["spec"]["nodeName"], "node-1");
}

#[test]
fn claims_outlive_their_pods_and_updates_leave_them_alone() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, templates(json!({})));
    run(&mut model);
    let before: Vec<_> = model.list(PERSISTENTVOLUMECLAIMS).map(|(_, claim)| claim.clone()).collect();
    model.set_image(&key, "image:2");
    run(&mut model);
    model.change(&key, |value| value["spec"]["replicas"] = 0.into());
    run(&mut model);
    assert_eq!(model.pods().count(), 0);
    model.change(&key, |value| value["spec"]["replicas"] = 2.into());
    run(&mut model);
    model.remove(&key);
    run(&mut model);
    let after: Vec<_> = model.list(PERSISTENTVOLUMECLAIMS).map(|(_, claim)| claim.clone()).collect();
    assert_eq!((before.len(), &after), (2, &before));
}

#[test]
fn claims_go_with_the_set_if_it_says_so() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, retention("Delete", "Retain"));
    run(&mut model);
    assert_eq!(owners(&model, "data-db-1"), ["db"]);
    model.change(&key, |value| value["spec"]["replicas"] = 1.into());
    run(&mut model);
    assert_eq!(model.list(PERSISTENTVOLUMECLAIMS).count(), 2, "what is scaled away stays");
    model.remove(&key);
    run(&mut model);
    assert_eq!(model.list(PERSISTENTVOLUMECLAIMS).count(), 0);
}

#[test]
fn claims_go_with_the_pods_that_are_too_many_if_the_set_says_so() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, retention("Retain", "Delete"));
    run(&mut model);
    assert!(owners(&model, "data-db-2").is_empty());
    model.remove(&pod("db-2"));
    run(&mut model);
    assert_eq!(model.list(PERSISTENTVOLUMECLAIMS).count(), 3, "a pod that is made anew finds its data");
    model.change(&key, |value| value["spec"]["replicas"] = 1.into());
    quiet(&mut model);
    assert_eq!(owners(&model, "data-db-2"), ["db-2"]);
    run(&mut model);
    let left: Vec<_> = model.list(PERSISTENTVOLUMECLAIMS).map(|(key, _)| key.name.to_string()).collect();
    assert_eq!(left, ["data-db-0"]);
    model.remove(&key);
    run(&mut model);
    assert_eq!(model.list(PERSISTENTVOLUMECLAIMS).count(), 1);
}

#[test]
fn a_pod_that_is_wanted_again_before_it_is_gone_keeps_its_claim() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, retention("Delete", "Delete"));
    run(&mut model);
    assert_eq!(owners(&model, "data-db-1"), ["db"]);
    model.change(&key, |value| value["spec"]["replicas"] = 1.into());
    quiet(&mut model);
    assert_eq!(owners(&model, "data-db-1"), ["db-1"]);
    let uid = model.get(&claim("data-db-1"))["metadata"]["uid"].clone();
    model.change(&key, |value| value["spec"]["replicas"] = 2.into());
    quiet(&mut model);
    assert_eq!(owners(&model, "data-db-1"), ["db"]);
    run(&mut model);
    assert_eq!(model.get(&claim("data-db-1"))["metadata"]["uid"], uid);
    assert_eq!(names(&model, "db"), ["db-0", "db-1"]);
}

#[test]
fn a_claim_that_was_removed_before_its_pod_ran_is_made_again() {
    let mut model = gated(1);
    stateful(&mut model, 1, templates(json!({})));
    quiet(&mut model);
    model.remove(&claim("data-db-0"));
    quiet(&mut model);
    assert!(model.objects.contains_key(&claim("data-db-0")));
}

/// An owner that exists: a reference to it.
fn foreign(model: &mut Model, controls: bool) -> Value {
    let key = model.put(CONFIGMAPS, "default", json!({"metadata": {"name": "foreign"}}));
    let uid = &model.get(&key)["metadata"]["uid"];
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "foreign", "uid": uid, "controller": controls})
}

fn claims(model: &Model) -> Vec<String> {
    model.list(PERSISTENTVOLUMECLAIMS).map(|(key, _)| key.name.to_string()).collect()
}

fn scale(model: &mut Model, key: &Key, replicas: i64) {
    model.change(key, |value| value["spec"]["replicas"] = replicas.into());
    run(model);
}

#[test]
fn a_claim_that_somebody_else_controls_is_left_alone() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, templates(json!({})));
    run(&mut model);
    let reference = json!([foreign(&mut model, true)]);
    model.change(&claim("data-db-1"), |value| value["metadata"]["ownerReferences"] = reference.clone());
    model.change(&key, |value| {
        value["spec"]["persistentVolumeClaimRetentionPolicy"] =
            json!({"whenDeleted": "Retain", "whenScaled": "Delete"});
    });
    scale(&mut model, &key, 0);
    assert_eq!((claims(&model), model.pods().count()), (vec!["data-db-1".to_owned()], 0));
    assert_eq!(model.get(&claim("data-db-1"))["metadata"]["ownerReferences"], reference);
    model.change(&claim("data-db-1"), |value| value["metadata"]["ownerReferences"] = json!([]));
    scale(&mut model, &key, 2);
    assert_eq!(claims(&model), ["data-db-0", "data-db-1"]);
    scale(&mut model, &key, 1);
    assert_eq!(claims(&model), ["data-db-0"]);
}

#[test]
fn a_claim_may_have_other_owners_and_its_controller_is_put_right() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, templates(json!({})));
    run(&mut model);
    let other = foreign(&mut model, false);
    let stale = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "unknown", "uid": "stale", "controller": true});
    model.change(&claim("data-db-1"), |value| value["metadata"]["ownerReferences"] = json!([other]));
    model.change(&claim("data-db-2"), |value| {
        value["metadata"]["ownerReferences"] = json!([stale]);
        value["metadata"]["finalizers"] = json!(["keep/it"]);
    });
    let retain = |model: &mut Model, scaled: &str| {
        model.change(&key, |value| {
            value["spec"]["persistentVolumeClaimRetentionPolicy"] =
                json!({"whenDeleted": "Delete", "whenScaled": scaled});
        });
        run(model);
    };
    retain(&mut model, "Retain");
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true,
        "blockOwnerDeletion": true, "uid": model.get(&key)["metadata"]["uid"]});
    let references =
        |model: &Model, name: &str| model.get(&claim(name))["metadata"]["ownerReferences"].clone();
    assert_eq!(references(&model, "data-db-0"), json!([set]));
    assert_eq!(references(&model, "data-db-1"), json!([other, set]));
    assert_eq!(references(&model, "data-db-2"), json!([stale]));
    model.change(&claim("data-db-0"), |value| {
        value["metadata"]["ownerReferences"][0]["controller"] = false.into();
    });
    retain(&mut model, "Delete");
    assert_eq!(references(&model, "data-db-0"), json!([set]));
    model.remove(&key);
    run(&mut model);
    assert_eq!(claims(&model), ["data-db-1", "data-db-2"], "one has another owner, one is held");
}

#[test]
fn the_claim_of_an_orphan_goes_with_it_when_the_set_shrinks() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, retention("Retain", "Delete"));
    run(&mut model);
    model.change(&pod("db-2"), |value| value["metadata"]["ownerReferences"] = json!([]));
    scale(&mut model, &key, 1);
    assert_eq!(
        (names(&model, "db"), claims(&model)),
        (vec!["db-0".to_owned()], vec!["data-db-0".to_owned()])
    );
}
