//! Stateful sets: order, identity, updates.

use serde_json::{Value, json};
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, is_ready},
    sets::{end, gated, images, names, passes, plans, pod, quiet, ready, revisions, stateful, unready},
};

fn status(model: &Model) -> Value {
    model.list(STATEFULSETS).next().unwrap().1["status"].clone()
}

fn parallel() -> Value {
    json!({"podManagementPolicy": "Parallel"})
}

fn rolling(more: Value) -> Value {
    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": more}})
}

#[test]
fn pods_come_one_after_the_other_each_when_the_last_one_is_ready() {
    let mut model = gated(2);
    stateful(&mut model, 3, json!({}));
    for expected in [&["db-0"][..], &["db-0", "db-1"], &["db-0", "db-1", "db-2"]] {
        quiet(&mut model);
        assert_eq!(names(&model, "db"), expected);
        model.agents();
    }
    quiet(&mut model);
    let status = status(&model);
    for field in ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"] {
        assert_eq!(status[field], 3, "{field}: {status}");
    }
    let (_, revision) = revisions(&model).remove(0);
    assert_eq!((&status["currentRevision"], &status["updateRevision"]), (&json!(revision), &json!(revision)));
    assert_eq!((&status["observedGeneration"], &status["collisionCount"]), (&json!(1), &json!(0)));
    assert!(model.told("db").contains("SuccessfulCreate"));
}

#[test]
fn a_pod_has_a_name_for_life_and_its_number_among_its_labels() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, json!({}));
    model.settle();
    let first = model.get(&pod("db-1")).clone();
    let (labels, spec) = (&first["metadata"]["labels"], &first["spec"]);
    assert_eq!((&spec["hostname"], &spec["subdomain"]), (&json!("db-1"), &json!("db")));
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(labels["controller-revision-hash"], json!(revisions(&model)[0].1));
    assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], model.get(&key)["metadata"]["uid"]);
    model.remove(&pod("db-1"));
    model.settle();
    let second = model.get(&pod("db-1"));
    assert_ne!(second["metadata"]["uid"], first["metadata"]["uid"], "another pod of the same name");
    assert!(is_ready(second));
}

#[test]
fn in_parallel_all_come_and_go_at_once() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, parallel());
    quiet(&mut model);
    assert_eq!(model.active("db").count(), 3);
    model.change(&key, |value| value["spec"]["replicas"] = 0.into());
    quiet(&mut model);
    assert_eq!(model.active("db").count(), 0);
}

#[test]
fn ordinals_begin_where_the_set_says() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, json!({"ordinals": {"start": 5}}));
    model.settle();
    assert_eq!(names(&model, "db"), ["db-5", "db-6"]);
    model.change(&key, |value| value["spec"]["ordinals"]["start"] = 6.into());
    model.settle();
    assert_eq!(names(&model, "db"), ["db-6", "db-7"]);
}

#[test]
fn a_set_shrinks_from_its_end_and_halts_when_a_pod_is_not_well() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, json!({}));
    model.settle();
    unready(&mut model, &pod("db-0"));
    model.change(&key, |value| value["spec"]["replicas"] = 1.into());
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1", "db-2"], "one that stays is not ready");
    model.set_ready(&pod("db-0"));
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1"], "the last one goes first");
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1"], "and the next one when it is gone");
    model.settle();
    assert_eq!(names(&model, "db"), ["db-0"]);
    assert!(model.told("db").contains("SuccessfulDelete"));
}

#[test]
fn all_that_are_not_well_wait_for_the_first() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, json!({}));
    model.settle();
    ["db-0", "db-1", "db-2"].iter().for_each(|name| unready(&mut model, &pod(name)));
    model.change(&key, |value| value["spec"]["replicas"] = 0.into());
    quiet(&mut model);
    assert_eq!(model.active("db").count(), 3);
    model.settle();
    assert_eq!(model.active("db").count(), 0);
}

#[test]
fn an_update_goes_from_the_last_pod_to_the_first_one_at_a_time() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, json!({}));
    model.settle();
    model.set_image(&key, "image:2");
    let mut order = Vec::new();
    for _ in 0..200 {
        assert!(ready(&model, "db") >= 2);
        let new: Vec<_> = model
            .active("db")
            .filter(|(_, pod)| pod["spec"]["containers"][0]["image"] == "image:2")
            .map(|(key, _)| key.name.to_string())
            .collect();
        order.extend(new.into_iter().filter(|name| !order.contains(name)).collect::<Vec<_>>());
        let planned = model.pass();
        if !model.agents() && !planned {
            break;
        }
    }
    assert_eq!(order, ["db-2", "db-1", "db-0"]);
    let (status, all) = (status(&model), revisions(&model));
    assert_eq!(all.len(), 2);
    assert_eq!((&status["currentRevision"], &status["updateRevision"]), (&json!(all[1].1), &json!(all[1].1)));
    assert_eq!((&status["currentReplicas"], &status["updatedReplicas"]), (&json!(3), &json!(3)));
}

#[test]
fn a_partition_keeps_the_pods_before_it() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, rolling(json!({"partition": 2})));
    model.settle();
    model.set_image(&key, "image:2");
    model.settle();
    assert_eq!(images(&model, "db"), ["image:1", "image:1", "image:2"]);
    let (status, all) = (status(&model), revisions(&model));
    assert_eq!((&status["currentRevision"], &status["updateRevision"]), (&json!(all[0].1), &json!(all[1].1)));
    assert_eq!((&status["currentReplicas"], &status["updatedReplicas"]), (&json!(2), &json!(1)));
    // What is deleted comes back as it was, on either side.
    model.remove(&pod("db-0"));
    model.remove(&pod("db-2"));
    model.settle();
    assert_eq!(images(&model, "db"), ["image:1", "image:1", "image:2"]);
    model.change(&key, |value| value["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 0.into());
    model.settle();
    assert_eq!(images(&model, "db"), ["image:2", "image:2", "image:2"]);
}

#[test]
fn an_equal_template_is_the_revision_that_it_was() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, json!({}));
    model.settle();
    let first = revisions(&model)[0].1.clone();
    assert!(first.starts_with("db-"));
    model.set_image(&key, "image:2");
    model.settle();
    model.set_image(&key, "image:1");
    model.settle();
    let all = revisions(&model);
    assert_eq!((all.len(), &all[1]), (2, &(3, first.clone())), "{all:?}");
    assert_eq!(status(&model)["currentRevision"], json!(first));
    assert_eq!(images(&model, "db"), ["image:1", "image:1"]);
    let revision = model.list(CONTROLLERREVISIONS).next().unwrap().1;
    assert_eq!(revision["data"]["spec"]["template"]["$patch"], "replace");
    assert_eq!(revision["metadata"]["labels"]["app"], "db");
}

#[test]
fn a_template_that_never_works_is_left_by_the_next_one() {
    let mut model = gated(2);
    model.broken = Some("bad");
    let key = stateful(&mut model, 3, parallel());
    model.settle();
    model.set_image(&key, "bad");
    model.settle();
    assert_eq!(ready(&model, "db"), 2, "the first that does not get ready holds the update");
    model.set_image(&key, "image:2");
    model.settle();
    assert_eq!(images(&model, "db"), ["image:2", "image:2", "image:2"]);
    assert_eq!(ready(&model, "db"), 3);
}

#[test]
fn so_many_revisions_are_kept_and_no_more() {
    let mut model = gated(2);
    let key = stateful(&mut model, 1, json!({"revisionHistoryLimit": 2}));
    for image in 1..8 {
        model.set_image(&key, &format!("image:{image}"));
        model.settle();
    }
    let numbers: Vec<_> = revisions(&model).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [5, 6, 7]);
}

#[test]
fn on_delete_nobody_but_the_user_replaces_pods() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, json!({"updateStrategy": {"type": "OnDelete"}}));
    model.settle();
    model.set_image(&key, "image:2");
    model.settle();
    assert_eq!(images(&model, "db"), ["image:1", "image:1"]);
    model.remove(&pod("db-0"));
    model.settle();
    assert_eq!(images(&model, "db"), ["image:2", "image:1"]);
}

#[test]
fn several_pods_may_be_replaced_at_a_time() {
    let mut model = gated(2);
    let mut spec = rolling(json!({"maxUnavailable": 2}));
    spec["podManagementPolicy"] = "Parallel".into();
    let key = stateful(&mut model, 5, spec);
    model.settle();
    model.set_image(&key, "image:2");
    let mut least = 5;
    for _ in 0..200 {
        least = least.min(ready(&model, "db"));
        let planned = model.pass();
        if !model.agents() && !planned {
            break;
        }
    }
    assert_eq!(least, 3);
    assert!(images(&model, "db").iter().all(|image| image == "image:2"));
}

#[test]
fn a_pod_that_has_ended_is_made_anew() {
    let mut model = gated(2);
    stateful(&mut model, 2, json!({}));
    model.settle();
    for (phase, name) in [("Failed", "db-0"), ("Succeeded", "db-1")] {
        let uid = model.get(&pod(name))["metadata"]["uid"].clone();
        end(&mut model, &pod(name), phase);
        model.settle();
        assert_ne!(model.get(&pod(name))["metadata"]["uid"], uid, "{phase}");
        assert_eq!(ready(&model, "db"), 2);
    }
}

#[test]
fn a_pod_counts_when_it_has_been_ready_for_long_enough() {
    let mut model = gated(2);
    stateful(&mut model, 2, json!({"minReadySeconds": 30}));
    quiet(&mut model);
    model.agents();
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0"]);
    assert_eq!(
        (&status(&model)["readyReplicas"], &status(&model)["availableReplicas"]),
        (&json!(1), &json!(0))
    );
    model.now += jiff::SignedDuration::from_secs(31);
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1"]);
    assert_eq!(status(&model)["availableReplicas"], 1);
}

#[test]
fn matching_orphans_are_adopted_by_name_and_others_are_let_go() {
    let mut model = gated(2);
    for name in ["db-0", "db-00", "other"] {
        model.put(
            PODS,
            "default",
            json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": "mine"}]}, "status": {"phase": "Pending"}}),
        );
    }
    let key = stateful(&mut model, 2, json!({"updateStrategy": {"type": "OnDelete"}}));
    model.settle();
    let uid = model.get(&key)["metadata"]["uid"].clone();
    assert_eq!(model.get(&pod("db-0"))["metadata"]["ownerReferences"][0]["uid"], uid);
    for name in ["db-00", "other"] {
        assert!(model.get(&pod(name))["metadata"]["ownerReferences"].is_null(), "{name}");
    }
    model.change(&pod("db-1"), |value| value["metadata"]["labels"]["app"] = "x".into());
    model.settle();
    assert!(model.get(&pod("db-1"))["metadata"]["ownerReferences"].is_null());
    assert!(model.told("db").contains("FailedCreate"), "its name is taken");
    model.remove(&pod("db-1"));
    model.settle();
    assert_eq!(model.get(&pod("db-1"))["metadata"]["ownerReferences"][0]["uid"], uid);
}

#[test]
fn a_pod_on_a_lost_node_keeps_its_place_until_somebody_removes_it() {
    let mut model = gated(3);
    stateful(&mut model, 3, json!({}));
    model.settle();
    let on =
        |model: &Model, name: &str| model.get(&pod(name))["spec"]["nodeName"].as_str().unwrap().to_owned();
    let node: usize = on(&model, "db-1").strip_prefix("node-").unwrap().parse().unwrap();
    model.hear(node, 60);
    passes(&mut model, 40);
    assert!(model.objects.contains_key(&pod("db-1")), "nobody knows whether it still runs");
    assert_eq!(names(&model, "db"), ["db-0", "db-2"]);
    model.remove(&pod("db-1"));
    passes(&mut model, 40);
    assert_eq!(ready(&model, "db"), 3);
    assert_ne!(on(&model, "db-1"), format!("node-{node}"));
}

#[test]
fn a_set_that_nobody_can_run_fills_no_memory() {
    let mut model = gated(1);
    let key = stateful(&mut model, i64::from(i32::MAX), parallel());
    plans(&mut model, 12);
    assert!(model.pods().count() <= 610, "{}", model.pods().count());
    assert!(model.told("db").contains("FailedCreate"));
    model.change(&key, |value| value["spec"]["ordinals"] = json!({"start": i32::MAX}));
    plans(&mut model, 3);
}
