//! What an operator has set aside exists, and nothing is planned for it; and what we fail on is said at the object.

use serde_json::json;
use warren_plan::World;
use warren_state::Key;
use warren_vocabulary::{guard::Failure, resources::*};

use crate::model::{Model, condition};

/// A pass in a world from which some objects are set aside.
fn pass_without(model: &mut Model, keys: &[Key]) -> bool {
    let mut world = model.world();
    let (snapshot, quarantined) = world.snapshot.without(keys);
    (world.snapshot, world.quarantined) = (snapshot.into(), quarantined);
    commit(model, &world)
}

fn commit(model: &mut Model, world: &World) -> bool {
    let plan = warren_plan::plan(world, model.now);
    assert!(plan.failures.is_empty(), "{:?}", plan.failures);
    plan.steps.iter().filter(|step| model.commit(&step.transaction)).count() > 0
}

fn settle_without(model: &mut Model, keys: &[Key]) {
    for _ in 0..40 {
        let planned = pass_without(model, keys);
        model.now += jiff::SignedDuration::from_secs(1);
        if !model.agents() && !planned {
            return;
        }
    }
    panic!("does not come to rest");
}

#[test]
fn what_it_owns_stays() {
    let mut model = Model::new(2);
    let key = model.deployment("web", 2, json!({}));
    model.service("web", "web");
    model.settle();
    let set = model.list(REPLICASETS).next().unwrap().0.clone();
    let pods: Vec<Key> = model.pods().map(|(key, _)| key.clone()).collect();
    for aside in
        [vec![key.clone()], vec![set.clone()], vec![key.clone(), Key::new(SERVICES, "default", "web")]]
    {
        settle_without(&mut model, &aside);
        let still: Vec<Key> = model.pods().map(|(key, _)| key.clone()).collect();
        assert_eq!(still, pods, "{aside:?}");
        assert!(model.objects.contains_key(&set) && model.endpoints("web").len() == 2);
    }
    model.change(&key, |value| value["spec"]["replicas"] = 5.into());
    settle_without(&mut model, std::slice::from_ref(&key));
    assert_eq!(model.active("web").count(), 2, "nothing is planned for it");
    model.settle();
    assert_eq!(model.active("web").count(), 5, "until it is back");
}

#[test]
fn a_node_keeps_its_pods_and_its_place() {
    let mut model = Model::new(2);
    model.deployment("web", 4, json!({}));
    model.settle();
    let node = Key::new(NODES, "", "node-1");
    settle_without(&mut model, std::slice::from_ref(&node));
    assert_eq!(model.spread("web"), [2, 2]);
    assert!(model.objects.contains_key(&Key::new(MEMBERS, "", "node-1")));
}

#[test]
fn a_pod_keeps_its_address_and_holds_its_namespace() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 1, json!({}));
    model.settle();
    let pod = model.pods().next().unwrap().0.clone();
    // Its set makes another one, which gets another address: the model checks that none is given twice.
    settle_without(&mut model, std::slice::from_ref(&pod));
    model.check();
    assert_eq!(model.pods().count(), 2);
    model.namespace("held");
    let map = model.put(CONFIGMAPS, "held", json!({"metadata": {"name": "aside"}}));
    let namespace = Key::new(NAMESPACES, "", "held");
    let now = model.now.to_string();
    model.change(&namespace, |value| value["metadata"]["deletionTimestamp"] = now.into());
    settle_without(&mut model, std::slice::from_ref(&map));
    assert!(model.objects.contains_key(&map) && model.objects.contains_key(&namespace));
    model.settle();
    assert!(!model.objects.contains_key(&map) && !model.objects.contains_key(&namespace));
    assert!(model.objects.contains_key(&key));
}

#[test]
fn what_we_failed_on_is_said_at_the_object_once_and_taken_back() {
    let mut model = Model::new(1);
    let deployment = model.deployment("web", 1, json!({}));
    let map = model.put(CONFIGMAPS, "default", json!({"metadata": {"name": "c"}}));
    model.settle();
    let failing = |model: &Model, message: &str| {
        let failure =
            |key: &Key| Failure { stage: "compiling pods", key: key.clone(), message: message.to_owned() };
        World {
            failures: vec![failure(&deployment), failure(&map), failure(&Key::new(PODS, "default", "none"))],
            ..model.world()
        }
    };
    let world = failing(&model, "attempt to add with overflow (at a.rs:7)");
    assert!(commit(&mut model, &world));
    for key in [&deployment, &map] {
        assert!(model.told(&key.name).contains("PlanningFailed"), "{key}");
    }
    let said = condition(model.get(&deployment), "warren.dev/PlanningFailed").clone();
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("PlanningFailed")));
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("compiling pods: attempt to add with overflow (at a.rs:7)")
    );
    assert!(model.get(&map).get("status").is_none(), "its kind has no conditions");
    let world = failing(&model, "attempt to add with overflow (at a.rs:7)");
    assert!(!commit(&mut model, &world), "said once");
    let events = model.list(EVENTS).count();
    model.settle();
    assert_eq!(condition(model.get(&deployment), "warren.dev/PlanningFailed")["status"], "False");
    assert_eq!(model.list(EVENTS).count(), events);
}
