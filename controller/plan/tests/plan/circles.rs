//! Owners in circles, owners out of reach, and finalizers that hold one of them.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::{Model, finalizers, is_deleting};

fn pod(model: &mut Model, name: &str, grace: i64) -> Key {
    model.put(
        PODS,
        "default",
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": grace, "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Pending"},
        }),
    )
}

fn own(model: &mut Model, dependent: &Key, owner: &Key) {
    let kind = warren_objects::kinds::of(&owner.resource).unwrap();
    let reference = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "name": &*owner.name, "uid": model.get(owner)["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    });
    model.change(dependent, |value| value["metadata"]["ownerReferences"] = json!([reference]));
}

/// As the API server does on DELETE with propagationPolicy Foreground.
fn delete_in_foreground(model: &mut Model, key: &Key, grace: i64) {
    let now = model.now.to_string();
    model.change(key, |value| {
        let mut all = finalizers(value);
        all.push("foregroundDeletion".to_owned());
        value["metadata"]["finalizers"] = json!(all);
        value["metadata"]["deletionTimestamp"] = now.into();
        value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    });
}

/// Three pods: the first belongs to the third, the third to the second, the second to the first.
fn circle(model: &mut Model) -> [Key; 3] {
    let keys = ["pod1", "pod2", "pod3"].map(|name| pod(model, name, 30));
    for (dependent, owner) in [(0, 2), (1, 0), (2, 1)] {
        own(model, &keys[dependent], &keys[owner]);
    }
    model.settle();
    keys
}

#[test]
fn a_circle_of_owners_goes_with_any_of_them() {
    for first in 0..3 {
        let mut model = Model::new(2);
        let keys = circle(&mut model);
        assert!(keys.iter().all(|key| !is_deleting(model.get(key))), "a circle alone is no reason to go");
        delete_in_foreground(&mut model, &keys[first], 30);
        model.settle();
        assert!(keys.iter().all(|key| !model.objects.contains_key(key)), "deleted the {first}.");
    }
}

#[test]
fn pods_of_a_circle_end_gracefully() {
    let mut model = Model::new(2);
    let keys = circle(&mut model);
    delete_in_foreground(&mut model, &keys[0], 30);
    for _ in 0..4 {
        model.pass();
    }
    for key in &keys {
        let pod = model.get(key);
        assert!(is_deleting(pod), "{key}");
        assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30, "{key}: its node has not let it go");
    }
}

#[test]
fn a_foreign_finalizer_holds_its_object_and_whoever_waits_for_it() {
    let mut model = Model::new(2);
    let keys = circle(&mut model);
    model.change(&keys[1], |value| value["metadata"]["finalizers"] = json!(["example.com/hold"]));
    delete_in_foreground(&mut model, &keys[0], 30);
    model.settle();
    assert!(model.objects.contains_key(&keys[1]));
    model.take_off(&keys[1], "example.com/hold");
    model.settle();
    assert!(keys.iter().all(|key| !model.objects.contains_key(key)));
}

#[test]
fn who_owns_himself_goes_when_deleted_and_not_before() {
    let mut model = Model::new(1);
    let narcissus = pod(&mut model, "narcissus", 30);
    own(&mut model, &narcissus, &narcissus);
    model.settle();
    assert!(!is_deleting(model.get(&narcissus)));
    delete_in_foreground(&mut model, &narcissus, 30);
    model.settle();
    assert!(!model.objects.contains_key(&narcissus));
}

#[test]
fn who_waits_for_a_circle_goes_after_it() {
    let mut model = Model::new(1);
    let keys = circle(&mut model);
    let above = model.put(CONFIGMAPS, "default", json!({"metadata": {"name": "above"}}));
    let uid = model.get(&above)["metadata"]["uid"].clone();
    model.change(&keys[0], |value| {
        value["metadata"]["ownerReferences"].as_array_mut().unwrap().push(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": "above", "uid": uid, "blockOwnerDeletion": true,
        }));
    });
    delete_in_foreground(&mut model, &above, 0);
    delete_in_foreground(&mut model, &keys[2], 30);
    for _ in 0..40 {
        model.pass();
        model.agents();
        let there = |key: &Key| model.objects.contains_key(key);
        assert!(there(&above) || !there(&keys[0]), "who is owned goes first");
    }
    assert!(!model.objects.contains_key(&above));
}

fn map(model: &mut Model, namespace: &str, name: &str, owners: Value) -> Key {
    model.put(CONFIGMAPS, namespace, json!({"metadata": {"name": name, "ownerReferences": owners}}))
}

#[test]
fn an_owner_in_another_namespace_does_not_exist() {
    let mut model = Model::new(1);
    model.namespace("other");
    let owner = map(&mut model, "other", "owner", json!([]));
    let reference = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": model.get(&owner)["metadata"]["uid"],
    }]);
    let dependent = map(&mut model, "default", "dependent", reference.clone());
    let global = model.put(
        "persistentvolumes",
        "",
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "global", "ownerReferences": reference}}),
    );
    model.settle();
    assert!(!model.objects.contains_key(&dependent), "its owner is not in its namespace");
    assert!(model.told("dependent").contains("OwnerRefInvalidNamespace"));
    assert!(model.objects.contains_key(&global), "such an owner cannot be judged");
    assert!(model.told("global").contains("OwnerRefInvalidNamespace"));
    model.remove(&owner);
    model.settle();
    assert!(model.objects.contains_key(&global), "nor can it when it is gone");
}

#[test]
fn a_dependent_in_a_namespace_may_have_an_owner_in_none() {
    let mut model = Model::new(1);
    let node = Key::new(NODES, "", "node-1");
    let uid = model.get(&node)["metadata"]["uid"].clone();
    let dependent = map(
        &mut model,
        "default",
        "of-the-node",
        json!([{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": uid}]),
    );
    model.settle();
    assert!(model.objects.contains_key(&dependent));
    model.remove(&node);
    model.settle();
    assert!(!model.objects.contains_key(&dependent));
}

fn doomed(model: &mut Model) -> (Key, Key, Key) {
    model.namespace("doomed");
    model.settle();
    let mut held = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "held", "finalizers": ["example.com/hold"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending"},
    });
    held["metadata"]["namespace"] = "doomed".into();
    let pod = model.put(PODS, "doomed", held);
    let map = map(model, "doomed", "config", json!([]));
    model.settle();
    (Key::new(NAMESPACES, "", "doomed"), pod, map)
}

/// As the API server does on DELETE.
fn delete_namespace(model: &mut Model, key: &Key) {
    let now = model.now.to_string();
    model.change(key, |value| {
        value["metadata"]["deletionTimestamp"] = now.into();
        value["status"]["phase"] = "Terminating".into();
    });
}

#[test]
fn a_namespace_goes_after_its_pods_and_these_after_their_finalizers() {
    // With a node that runs the pod, and with none: then it never ran.
    for nodes in [1, 0] {
        let mut model = Model::new(nodes);
        let (namespace, pod, map) = doomed(&mut model);
        delete_namespace(&mut model, &namespace);
        model.settle();
        assert!(is_deleting(model.get(&pod)) && model.objects.contains_key(&namespace));
        assert!(!is_deleting(model.get(&map)), "what pods may need to end stays until they have");
        let said = model.get(&namespace)["status"]["conditions"].to_string();
        assert!(said.contains("example.com/hold in 1 resource instances"), "{said}");
        // Something made meanwhile, past the API server's refusal, goes as well.
        let late = self::map(&mut model, "doomed", "late", json!([]));
        model.take_off(&pod, "example.com/hold");
        model.settle();
        for key in [&pod, &map, &late, &namespace] {
            assert!(!model.objects.contains_key(key), "{key} with {nodes} nodes");
        }
    }
}

#[test]
fn a_finalizer_that_goes_before_the_node_lets_go_holds_nothing_up() {
    let mut model = Model::new(1);
    let (namespace, pod, _) = doomed(&mut model);
    delete_namespace(&mut model, &namespace);
    model.pass();
    model.take_off(&pod, "example.com/hold");
    assert!(model.objects.contains_key(&pod), "its node has not let it go");
    model.settle();
    assert!(!model.objects.contains_key(&namespace));
}

#[test]
fn a_pod_that_nobody_holds_any_more_goes() {
    // Let go by its node, and then freed by somebody who only takes finalizers off.
    let mut model = Model::new(1);
    let (namespace, pod, _) = doomed(&mut model);
    delete_namespace(&mut model, &namespace);
    model.settle();
    model.change(&pod, |value| value["metadata"]["finalizers"] = json!([]));
    model.settle();
    assert!(!model.objects.contains_key(&pod) && !model.objects.contains_key(&namespace));
}

#[test]
fn a_namespace_with_a_finalizer_of_its_own_is_emptied_and_waits_for_it() {
    let mut model = Model::new(1);
    let (namespace, pod, map) = doomed(&mut model);
    model.change(&pod, |value| value["metadata"]["finalizers"] = json!([]));
    model.change(&namespace, |value| value["metadata"]["finalizers"] = json!(["example.com/mine"]));
    delete_namespace(&mut model, &namespace);
    model.settle();
    assert!(!model.objects.contains_key(&pod) && !model.objects.contains_key(&map));
    assert_eq!(model.get(&namespace)["spec"]["finalizers"], json!([]));
    model.take_off(&namespace, "example.com/mine");
    assert!(!model.objects.contains_key(&namespace));
}
