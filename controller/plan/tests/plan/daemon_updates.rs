//! Updates of daemon sets: node by node, the old pod first or the new one, and back again.

use jiff::SignedDuration;
use serde_json::{Value, json};
use warren_vocabulary::resources::*;

use crate::{
    daemon_sets::{nodes, status},
    model::Model,
    sets::{daemon, gated, images, plans, ready, revisions},
};

fn rolling(unavailable: Value, surge: Value) -> Value {
    json!({"updateStrategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}})
}

#[test]
fn an_update_replaces_one_after_the_other_and_a_rollback_finds_its_revision() {
    let mut model = gated(4);
    let key = daemon(&mut model, &json!({}));
    model.settle();
    let first = revisions(&model)[0].1.clone();
    for (image, numbers) in [("image:2", vec![1, 2]), ("image:1", vec![2, 3])] {
        model.set_image(&key, image);
        for _ in 0..200 {
            assert!(ready(&model, "every") >= 3);
            let planned = model.pass();
            if !model.agents() && !planned {
                break;
            }
        }
        assert!(images(&model, "every").iter().all(|other| other == image));
        assert_eq!(revisions(&model).into_iter().map(|(number, _)| number).collect::<Vec<_>>(), numbers);
        assert_eq!(status(&model)["updatedNumberScheduled"], 4);
    }
    assert_eq!(revisions(&model)[1].1, first);
}

#[test]
fn with_a_surge_the_new_pod_comes_first() {
    let mut model = gated(4);
    let key = daemon(&mut model, &rolling(json!(0), json!("50%")));
    model.settle();
    model.set_image(&key, "image:2");
    let mut most = 0;
    for _ in 0..200 {
        assert!(ready(&model, "every") >= 4, "no node is without");
        most = most.max(model.active("every").count());
        let planned = model.pass();
        if !model.agents() && !planned {
            break;
        }
    }
    assert_eq!(most, 6);
    assert_eq!(nodes(&model), ["node-1", "node-2", "node-3", "node-4"]);
    assert!(images(&model, "every").iter().all(|image| image == "image:2"));
}

#[test]
fn on_delete_nobody_but_the_user_replaces_pods() {
    let mut model = gated(2);
    let key = daemon(&mut model, &json!({"updateStrategy": {"type": "OnDelete"}}));
    model.settle();
    model.set_image(&key, "image:2");
    model.settle();
    assert_eq!(images(&model, "every"), ["image:1", "image:1"]);
    assert!(status(&model)["updatedNumberScheduled"].is_null());
    let pod = model.active("every").next().unwrap().0.clone();
    model.remove(&pod);
    model.settle();
    let mut all = images(&model, "every");
    all.sort();
    assert_eq!(all, ["image:1", "image:2"]);
}

#[test]
fn pods_that_have_just_become_ready_hold_the_update() {
    let mut model = gated(2);
    let key = daemon(&mut model, &json!({"minReadySeconds": 60}));
    model.settle();
    model.now += SignedDuration::from_secs(70);
    model.settle();
    assert_eq!(status(&model)["numberAvailable"], 2);
    model.set_image(&key, "image:2");
    model.settle();
    assert_eq!(images(&model, "every").iter().filter(|image| *image == "image:2").count(), 1);
    model.now += SignedDuration::from_secs(70);
    model.settle();
    assert_eq!(images(&model, "every"), ["image:2", "image:2"]);
}

#[test]
fn a_rollback_restarts_no_pod_that_the_update_has_not_reached() {
    let mut model = gated(3);
    model.broken = Some("non-existent");
    let key = daemon(&mut model, &json!({}));
    model.settle();
    model.set_image(&key, "foo:non-existent");
    model.settle();
    let of = |model: &Model, image: &str| -> Vec<String> {
        let is_of = |pod: &Value| pod["spec"]["containers"][0]["image"] == image;
        model.active("every").filter(|(_, pod)| is_of(pod)).map(|(key, _)| key.name.to_string()).collect()
    };
    let untouched = of(&model, "image:1");
    assert_eq!((untouched.len(), of(&model, "foo:non-existent").len()), (2, 1));
    model.set_image(&key, "image:1");
    model.settle();
    assert_eq!(ready(&model, "every"), 3);
    let after = of(&model, "image:1");
    assert!(untouched.iter().all(|name| after.contains(name)), "{untouched:?} {after:?}");
}

#[test]
fn with_a_surge_no_pod_waits_for_the_end_of_another() {
    let mut model = gated(2);
    let key = daemon(&mut model, &rolling(json!(0), json!(1)));
    model.settle();
    let gone = model.active("every").next().unwrap().0.clone();
    model.delete_pod(&gone);
    plans(&mut model, 3);
    assert!(model.objects.contains_key(&gone), "it has its grace");
    assert_eq!(nodes(&model), ["node-1", "node-2"]);
    model.settle();
    // Without one, it does: two pods of a node may want the same.
    model.change(&key, |value| {
        value["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 1, "maxSurge": 0});
    });
    let gone = model.active("every").next().unwrap().0.clone();
    model.delete_pod(&gone);
    plans(&mut model, 3);
    assert_eq!(nodes(&model).len(), 1);
    model.settle();
    assert_eq!(nodes(&model), ["node-1", "node-2"]);
}

#[test]
fn a_pod_that_is_adopted_is_brought_up_to_date() {
    let mut model = gated(1);
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "labels": {"app": "every"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "mine"}]}, "status": {"phase": "Pending"}});
    let bare = model.put(PODS, "default", bare);
    let key = daemon(&mut model, &json!({"updateStrategy": {"type": "OnDelete"}}));
    model.settle();
    assert_eq!(images(&model, "every"), ["mine"], "it is the one of its node");
    assert_eq!(model.get(&bare)["metadata"]["ownerReferences"][0]["name"], "every");
    model.change(&key, |value| value["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"}));
    model.settle();
    assert_eq!(images(&model, "every"), ["image:1"]);
}
