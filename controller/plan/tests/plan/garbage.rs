//! Owners, finalizers, namespaces, nodes, addresses and events that go; and what a namespace has while it lives.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::{Model, is_deleting};

fn web(model: &mut Model) -> Key {
    let key = model.deployment("web", 2, json!({}));
    model.settle();
    key
}

fn delete_with(model: &mut Model, key: &Key, finalizer: &str) {
    let now = model.now.to_string();
    model.change(key, |value| {
        value["metadata"]["finalizers"] = json!([finalizer]);
        value["metadata"]["deletionTimestamp"] = now.into();
        value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    });
}

#[test]
fn dependents_follow_their_owner() {
    let mut model = Model::new(2);
    let key = web(&mut model);
    model.service("web", "web");
    model.settle();
    model.remove(&key);
    model.remove(&Key::new(SERVICES, "default", "web"));
    model.settle();
    for resource in [REPLICASETS, PODS, ENDPOINTSLICES] {
        assert_eq!(model.list(resource).count(), 0, "{resource}");
    }
}

#[test]
fn foreground_deletion_waits_for_the_dependents() {
    let mut model = Model::new(2);
    let key = web(&mut model);
    delete_with(&mut model, &key, "foregroundDeletion");
    while model.pods().next().is_some() {
        assert!(model.objects.contains_key(&key), "the owner goes last");
        model.pass();
        model.agents();
    }
    model.settle();
    assert!(!model.objects.contains_key(&key));
    assert_eq!(model.list(REPLICASETS).count(), 0);
}

#[test]
fn orphans_stay() {
    let mut model = Model::new(2);
    let key = web(&mut model);
    delete_with(&mut model, &key, "orphan");
    model.settle();
    assert!(!model.objects.contains_key(&key));
    assert_eq!(model.list(REPLICASETS).count(), 1);
    assert_eq!(model.active("web").count(), 2);
    assert_eq!(model.list(REPLICASETS).next().unwrap().1["metadata"].get("ownerReferences"), None);
}

#[test]
fn a_deployment_made_anew_gets_new_pods() {
    let mut model = Model::new(2);
    let key = web(&mut model);
    let old: Vec<_> = model.pods().map(|(_, pod)| pod["metadata"]["uid"].clone()).collect();
    model.remove(&key);
    web(&mut model);
    assert_eq!(model.active("web").count(), 2);
    assert!(model.pods().all(|(_, pod)| !old.contains(&pod["metadata"]["uid"])));
    assert_eq!(model.get(&key)["status"].get("collisionCount"), None);
}

/// A config map with owners, each with `blockOwnerDeletion`.
fn owned(model: &mut Model, name: &str, owners: &[&Key]) -> Key {
    let reference = |key: &&Key| {
        let uid = &model.get(key)["metadata"]["uid"];
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": &*key.name, "uid": uid, "blockOwnerDeletion": true})
    };
    let owners: Vec<Value> = owners.iter().map(reference).collect();
    model.put(CONFIGMAPS, "default", json!({"metadata": {"name": name, "ownerReferences": owners}}))
}

#[test]
fn an_object_goes_with_the_last_of_its_owners() {
    let mut model = Model::new(1);
    let (first, second) = (owned(&mut model, "first", &[]), owned(&mut model, "second", &[]));
    let shared = owned(&mut model, "shared", &[&first, &second]);
    model.settle();
    model.remove(&first);
    model.settle();
    let left = &model.get(&shared)["metadata"]["ownerReferences"];
    assert_eq!(
        left.as_array().map(|owners| owners.iter().map(|o| o["name"].clone()).collect()),
        Some(vec![json!("second")])
    );
    model.remove(&second);
    model.settle();
    assert!(!model.objects.contains_key(&shared));
}

#[test]
fn a_foreground_deletion_spares_what_another_owner_keeps() {
    let mut model = Model::new(1);
    let (going, staying) = (owned(&mut model, "going", &[]), owned(&mut model, "staying", &[]));
    let shared = owned(&mut model, "shared", &[&going, &staying]);
    let own = owned(&mut model, "own", &[&going]);
    delete_with(&mut model, &going, "foregroundDeletion");
    model.settle();
    assert!(!model.objects.contains_key(&going) && !model.objects.contains_key(&own));
    assert_eq!(model.get(&shared)["metadata"]["ownerReferences"][0]["name"], "staying");
    assert!(!is_deleting(model.get(&shared)));
}

#[test]
fn a_foreground_deletion_goes_from_the_leaves_up() {
    let mut model = Model::new(1);
    let root = owned(&mut model, "root", &[]);
    let middle = owned(&mut model, "middle", &[&root]);
    let leaf = owned(&mut model, "leaf", &[&middle]);
    delete_with(&mut model, &root, "foregroundDeletion");
    for _ in 0..20 {
        model.pass();
        let there = |key: &Key| model.objects.contains_key(key);
        assert!(!there(&leaf) || there(&middle) && there(&root), "who is owned goes first");
        assert!(!there(&middle) || there(&root));
    }
    assert!(!model.objects.contains_key(&root));
}

#[test]
fn a_namespace_that_is_held_says_by_what() {
    let mut model = Model::new(1);
    model.namespace("held");
    let map =
        model.put(CONFIGMAPS, "held", json!({"metadata": {"name": "c", "finalizers": ["example.com/hold"]}}));
    model.settle();
    let key = Key::new(NAMESPACES, "", "held");
    let now = model.now.to_string();
    model.change(&key, |value| value["metadata"]["deletionTimestamp"] = now.into());
    model.settle();
    let condition = |model: &Model, kind: &str| {
        let conditions = model.get(&key)["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
    };
    let held = condition(&model, "NamespaceFinalizersRemaining");
    assert_eq!(held["status"], "True");
    assert_eq!(
        held["message"],
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    assert_eq!(
        condition(&model, "NamespaceContentRemaining")["message"],
        "Some resources are remaining: configmaps. has 1 resource instances"
    );
    // Clients wait for all of them to be there, as Kubernetes' own tests of the order of deletion do.
    for kind in ["DiscoveryFailure", "GroupVersionParsingFailure", "ContentFailure"] {
        assert_eq!(condition(&model, &format!("NamespaceDeletion{kind}"))["status"], "False", "{kind}");
    }
    model.change(&map, |value| drop(value["metadata"].as_object_mut().unwrap().remove("finalizers")));
    model.settle();
    assert!(!model.objects.contains_key(&key));
}

#[test]
fn unknown_owners_and_foreign_finalizers_are_respected() {
    let mut model = Model::new(1);
    let owned = |kind: &str| json!([{"apiVersion": "example.com/v1", "kind": kind, "name": "x", "uid": "no-such-uid"}]);
    let custom = model.put(
        CONFIGMAPS,
        "default",
        json!({
        "metadata": {"name": "custom", "ownerReferences": owned("Widget")}}),
    );
    let held = model.put(CONFIGMAPS, "default", json!({"metadata": {"name": "held"}}));
    delete_with(&mut model, &held, "example.com/keep");
    model.settle();
    assert!(model.objects.contains_key(&custom) && model.objects.contains_key(&held));
    model.change(&held, |value| drop(value["metadata"].as_object_mut().unwrap().remove("finalizers")));
    model.settle();
    assert!(!model.objects.contains_key(&held));
}

#[test]
fn a_namespace_takes_its_content_along() {
    let mut model = Model::new(2);
    model.namespace("doomed");
    model.settle();
    assert!(model.objects.contains_key(&Key::new(SERVICEACCOUNTS, "doomed", "default")));
    model.put(CONFIGMAPS, "doomed", json!({"metadata": {"name": "c"}, "data": {}}));
    let pod = model.put(
        PODS,
        "doomed",
        json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending"}}),
    );
    model.settle();
    let key = Key::new(NAMESPACES, "", "doomed");
    let now = model.now.to_string();
    model.change(&key, |value| value["metadata"]["deletionTimestamp"] = now.into());
    model.pass();
    assert!(is_deleting(model.get(&pod)), "gracefully");
    assert_eq!(model.get(&key)["status"]["phase"], "Terminating");
    model.settle();
    assert!(!model.objects.keys().any(|key| &*key.namespace == "doomed"));
    assert!(!model.objects.contains_key(&key));
}

#[test]
fn pods_of_a_node_that_is_gone_are_replaced() {
    let mut model = Model::new(2);
    web(&mut model);
    model.remove(&Key::new(NODES, "", "node-1"));
    model.settle();
    assert_eq!(model.spread("web"), [0, 2]);
    assert_eq!(model.pods().count(), 2);
}

#[test]
fn a_service_address_lives_with_its_service() {
    let mut model = Model::new(1);
    let address = |name: &str| Key::new(SERVICEADDRESSES, "", name);
    for name in ["10.43.0.77", "10.43.0.78", "10.43.0.1", "10.43.0.10"] {
        model.write(address(name), json!({"metadata": {"name": name}}));
    }
    let service = model.service("web", "web");
    model.settle();
    let kept = ["10.43.0.77", "10.43.0.78", "10.43.0.1", "10.43.0.10"];
    assert_eq!(kept.map(|name| model.objects.contains_key(&address(name))), [true, false, true, true]);
    delete_with(&mut model, &service, "orphan");
    model.settle();
    assert!(!model.objects.contains_key(&address("10.43.0.77")));
}

#[test]
fn events_are_counted_and_forgotten_after_an_hour() {
    let mut model = Model::new(1);
    let key = web(&mut model);
    for replicas in [0, 2, 0, 2] {
        model.change(&key, |value| value["spec"]["replicas"] = replicas.into());
        model.settle();
    }
    let counts: Vec<&Value> = model
        .list(EVENTS)
        .map(|(_, event)| event)
        .filter(|event| event["message"].as_str().unwrap().ends_with("from 2 to 0"))
        .collect();
    assert_eq!(counts.len(), 1);
    assert_eq!(counts[0]["count"], 2);
    let mut passes = 0;
    while model.list(EVENTS).next().is_some() {
        model.now = model.wake_at();
        model.settle();
        passes += 1;
        assert!(passes < 100, "events stay");
    }
}

#[test]
fn old_events_that_go_otherwise_or_happen_again_hold_up_no_others() {
    let mut model = Model::new(1);
    let key = web(&mut model);
    let scale = |model: &mut Model, replicas: i64| {
        model.change(&key, |value| value["spec"]["replicas"] = replicas.into());
    };
    for replicas in [0, 2] {
        scale(&mut model, replicas);
        model.settle();
    }
    model.now += jiff::SignedDuration::from_secs(4_000);
    let dying = model.list(EVENTS).next().unwrap().0.clone();
    let now = model.now.to_string();
    model.change(&dying, |event| {
        event["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
        event["metadata"]["deletionTimestamp"] = now.into();
    });
    scale(&mut model, 0);
    // Each step of a plan can be carried out.
    model.pass();
    model.settle();
    let told: Vec<&Value> = model.list(EVENTS).map(|(_, event)| &event["message"]).collect();
    assert!(!model.objects.contains_key(&dying), "{told:?}");
    assert!(told.iter().any(|message| message.as_str().unwrap().ends_with("from 2 to 0")), "{told:?}");
}

#[test]
fn an_event_that_tells_of_the_past_is_kept_for_an_hour_too() {
    let mut model = Model::new(1);
    let now = model.now.to_string();
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "past", "namespace": "default", "creationTimestamp": now},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "gone"},
        "eventTime": "2017-09-19T13:49:16.000000Z",
    });
    let key = model.put(EVENTS, "default", event);
    model.settle();
    assert!(model.objects.contains_key(&key), "forgotten at once");
    let mut passes = 0;
    while model.objects.contains_key(&key) {
        model.now = model.wake_at();
        // A pass takes a second: what became due meanwhile is done by the second one.
        model.settle();
        model.settle();
        passes += 1;
        assert!(passes < 100, "the event stays");
    }
}

/// Lets the planners come to rest with certificates to give away; the answer is whether they had anything to do.
fn settle_with(model: &mut Model, pem: &str) -> bool {
    for round in 0..50 {
        let mut world = model.world();
        world.config.ca_pem = pem.to_owned();
        let plan = warren_plan::plan(&world, model.now);
        if plan.steps.is_empty() {
            return round > 0;
        }
        for step in plan.steps {
            assert!(model.commit(&step.transaction), "{}", step.why);
        }
    }
    panic!("the planners do not come to rest");
}

fn certificates(namespace: &str) -> Key {
    Key::new(CONFIGMAPS, namespace, "kube-root-ca.crt")
}

#[test]
fn every_namespace_has_the_certificates_of_the_api() {
    let mut model = Model::new(1);
    model.namespace("shop");
    settle_with(&mut model, "");
    assert!(!model.objects.contains_key(&certificates("shop")), "there are none to give");
    settle_with(&mut model, "PEM");
    for namespace in ["default", "shop"] {
        let map = model.get(&certificates(namespace));
        assert_eq!(map["data"], json!({"ca.crt": "PEM"}));
        assert_eq!(map["metadata"]["namespace"], namespace);
    }
    assert!(!settle_with(&mut model, "PEM"), "stable");
    // What is changed or removed is put back; a new authority replaces the old one; what others added stays.
    model.change(&certificates("shop"), |map| {
        map["data"] = json!({"ca.crt": "forged", "more": "x"});
        map["metadata"]["labels"] = json!({"mine": "yes"});
    });
    model.remove(&certificates("default"));
    settle_with(&mut model, "PEM");
    assert_eq!(model.get(&certificates("shop"))["data"], json!({"ca.crt": "PEM"}));
    assert_eq!(model.get(&certificates("shop"))["metadata"]["labels"], json!({"mine": "yes"}));
    assert_eq!(model.get(&certificates("default"))["data"]["ca.crt"], "PEM");
    settle_with(&mut model, "NEW");
    assert_eq!(model.get(&certificates("shop"))["data"]["ca.crt"], "NEW");
}

#[test]
fn a_namespace_that_goes_gets_nothing_more() {
    let mut model = Model::new(1);
    model.namespace("shop");
    settle_with(&mut model, "PEM");
    // Somebody holds the certificates themselves.
    model.change(&certificates("shop"), |map| map["metadata"]["finalizers"] = json!(["example.com/hold"]));
    let key = Key::new(NAMESPACES, "", "shop");
    let now = model.now.to_string();
    model.change(&key, |value| value["metadata"]["deletionTimestamp"] = now.into());
    settle_with(&mut model, "NEW");
    let held = model.get(&certificates("shop"));
    assert_eq!(held["data"]["ca.crt"], "PEM", "what goes is left alone");
    assert!(!held["metadata"]["deletionTimestamp"].is_null());
    model.change(&certificates("shop"), |map| map["metadata"]["finalizers"] = Value::Null);
    model.remove(&certificates("shop"));
    settle_with(&mut model, "NEW");
    assert!(!model.objects.contains_key(&certificates("shop")));
    assert!(!model.objects.contains_key(&key));
}
