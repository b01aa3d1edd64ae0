//! Updates of stateful sets as their users meet them: halts, canaries, rollbacks.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, is_deleting, is_ready},
    sets::{end, gated, images, names, pod, quiet, ready, revisions, stateful, unready},
};

fn status(model: &Model) -> &Value {
    &model.list(STATEFULSETS).next().unwrap().1["status"]
}

/// The revisions of the status: what pods are of, and what they shall be of.
fn current_and_update(model: &Model) -> (String, String) {
    let field = |name: &str| status(model)[name].as_str().unwrap().to_owned();
    (field("currentRevision"), field("updateRevision"))
}

/// The revision that each pod says it is of.
fn labels(model: &Model) -> Vec<String> {
    let label =
        |pod: &Value| pod["metadata"]["labels"]["controller-revision-hash"].as_str().unwrap().to_owned();
    model.active("db").map(|(_, pod)| label(pod)).collect()
}

fn partition(model: &mut Model, key: &Key, partition: i64) {
    model.change(key, |value| {
        value["spec"]["updateStrategy"] =
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    });
}

fn uids(model: &Model) -> Vec<String> {
    model.pods().map(|(_, pod)| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_update_and_its_rollback_halt_while_a_pod_is_not_ready() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, json!({}));
    model.settle();
    let (first, _) = current_and_update(&model);
    let mut before = first.clone();
    for (image, number) in [("image:2", 2), ("image:1", 3)] {
        let old = images(&model, "db");
        unready(&mut model, &pod("db-1"));
        model.set_image(&key, image);
        quiet(&mut model);
        assert_eq!(images(&model, "db"), old, "nothing is replaced");
        let (current, update) = current_and_update(&model);
        assert_eq!(current, before);
        assert_ne!(update, before);
        assert_eq!(status(&model)["observedGeneration"], number);
        model.set_ready(&pod("db-1"));
        model.settle();
        assert!(images(&model, "db").iter().all(|other| other == image));
        assert_eq!(current_and_update(&model), (update.clone(), update.clone()));
        assert!(labels(&model).iter().all(|label| *label == update));
        before = update;
    }
    assert_eq!(before, first, "a rollback is to the revision that it was");
}

#[test]
fn a_canary_becomes_an_update_phase_by_phase() {
    let mut model = gated(2);
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}});
    let key = stateful(&mut model, 3, json!({"updateStrategy": strategy}));
    model.settle();
    let (old, _) = current_and_update(&model);
    model.set_image(&key, "image:2");
    model.settle();
    let (current, new) = current_and_update(&model);
    assert_eq!(current, old);
    assert_eq!(labels(&model), vec![old.clone(); 3], "the partition is behind the last pod");
    for from in [2, 1, 0] {
        partition(&mut model, &key, from);
        model.settle();
        let expected: Vec<_> = (0..3).map(|at| if at < from { old.clone() } else { new.clone() }).collect();
        assert_eq!(labels(&model), expected);
        let current = if from == 0 { &new } else { &old };
        assert_eq!(current_and_update(&model), (current.clone(), new.clone()));
        assert_eq!(status(&model)["updatedReplicas"], 3 - from);
        for name in ["db-0", "db-2"] {
            model.delete_pod(&pod(name));
        }
        model.settle();
        assert_eq!(labels(&model), expected, "what is deleted comes back as it was");
    }
}

#[test]
fn a_pod_that_is_gone_for_a_moment_does_not_end_the_update() {
    let mut model = gated(2);
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    let key = stateful(&mut model, 3, json!({"updateStrategy": strategy}));
    model.settle();
    model.set_image(&key, "image:2");
    model.settle();
    let (old, new) = current_and_update(&model);
    for _ in 0..2 {
        model.change(&pod("db-0"), |pod| pod["metadata"]["finalizers"] = json!(["a/b"]));
        model.delete_pod(&pod("db-0"));
        model.settle();
        assert!(is_deleting(model.get(&pod("db-0"))), "somebody holds it");
        model.take_off(&pod("db-0"), "a/b");
        assert_eq!(model.pods().count(), 2);
        for _ in 0..20 {
            model.pass();
            assert_eq!(current_and_update(&model), (old.clone(), new.clone()));
            model.agents();
        }
        assert_eq!(images(&model, "db"), ["image:1", "image:2", "image:2"]);
        assert_eq!(ready(&model, "db"), 3);
    }
}

#[test]
fn a_set_without_pods_is_up_to_date() {
    let mut model = gated(1);
    let key = stateful(&mut model, 0, json!({}));
    model.settle();
    model.set_image(&key, "image:2");
    model.settle();
    let (current, update) = current_and_update(&model);
    assert_eq!(current, update);
    assert_eq!(revisions(&model).len(), 2);
}

#[test]
fn on_delete_the_status_tells_what_is_left() {
    let mut model = gated(2);
    let key = stateful(&mut model, 3, json!({"updateStrategy": {"type": "OnDelete"}}));
    model.settle();
    let (old, _) = current_and_update(&model);
    ["db-0", "db-1", "db-2"].iter().for_each(|name| model.delete_pod(&pod(name)));
    model.settle();
    assert_eq!(labels(&model), vec![old.clone(); 3]);
    model.set_image(&key, "image:2");
    model.settle();
    let (current, new) = current_and_update(&model);
    assert_eq!(current, old);
    assert_ne!(new, old);
    ["db-0", "db-1", "db-2"].iter().for_each(|name| model.delete_pod(&pod(name)));
    model.settle();
    assert_eq!(labels(&model), vec![new; 3]);
    assert_eq!(images(&model, "db"), ["image:2"; 3]);
}

#[test]
fn a_set_grows_when_its_pods_are_ready() {
    let mut model = gated(2);
    let key = stateful(&mut model, 1, json!({}));
    model.settle();
    unready(&mut model, &pod("db-0"));
    quiet(&mut model);
    assert!(status(&model)["readyReplicas"].is_null());
    model.change(&key, |value| value["spec"]["replicas"] = 3.into());
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0"]);
    model.set_ready(&pod("db-0"));
    model.settle();
    assert_eq!(ready(&model, "db"), 3);
}

#[test]
fn in_parallel_it_grows_and_shrinks_whether_they_are_ready_or_not() {
    let mut model = gated(2);
    let key = stateful(&mut model, 1, json!({"podManagementPolicy": "Parallel"}));
    model.settle();
    unready(&mut model, &pod("db-0"));
    model.change(&key, |value| value["spec"]["replicas"] = 3.into());
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1", "db-2"]);
    model.settle();
    names(&model, "db").iter().for_each(|name| unready(&mut model, &pod(name)));
    model.change(&key, |value| value["spec"]["replicas"] = 0.into());
    model.settle();
    assert_eq!((model.pods().count(), &status(&model)["replicas"]), (0, &json!(0)));
}

#[test]
fn a_pod_comes_back_though_one_after_it_is_not_ready() {
    let mut model = gated(2);
    stateful(&mut model, 2, json!({}));
    quiet(&mut model);
    model.set_ready(&pod("db-0"));
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1"]);
    model.remove(&pod("db-0"));
    quiet(&mut model);
    assert_eq!(names(&model, "db"), ["db-0", "db-1"]);
    model.settle();
    assert_eq!(ready(&model, "db"), 2);
}

#[test]
fn availability_follows_the_time_that_is_asked_for() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, json!({"podManagementPolicy": "Parallel", "minReadySeconds": 30}));
    model.settle();
    assert_eq!(
        (&status(&model)["readyReplicas"], &status(&model)["availableReplicas"]),
        (&json!(2), &json!(0))
    );
    model.now += jiff::SignedDuration::from_secs(60);
    model.settle();
    assert_eq!(status(&model)["availableReplicas"], 2);
    for (seconds, available) in [(3_600, 0), (0, 2)] {
        model.change(&key, |value| value["spec"]["minReadySeconds"] = seconds.into());
        model.settle();
        assert_eq!(status(&model)["availableReplicas"], available, "{seconds} s");
    }
}

#[test]
fn the_first_ordinal_may_be_set_raised_and_taken_away() {
    let mut model = gated(2);
    let key = stateful(&mut model, 2, json!({}));
    model.settle();
    for (ordinals, replicas, expected) in [
        (json!({"start": 2}), 3, vec!["db-2", "db-3", "db-4"]),
        (json!({"start": 4}), 3, vec!["db-4", "db-5", "db-6"]),
        (json!({"start": 3}), 2, vec!["db-3", "db-4"]),
        (Value::Null, 2, vec!["db-0", "db-1"]),
    ] {
        model.change(&key, |value| {
            value["spec"]["ordinals"] = ordinals;
            value["spec"]["replicas"] = replicas.into();
        });
        model.settle();
        assert_eq!(names(&model, "db"), expected);
        assert_eq!(ready(&model, "db"), expected.len());
        assert_eq!(status(&model)["replicas"], expected.len());
    }
}

#[test]
fn a_pod_says_which_one_it_is_whoever_made_or_changed_it() {
    let mut model = gated(2);
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0", "labels": {"app": "db"}},
        "spec": {"containers": [{"name": "c", "image": "mine"}]}, "status": {"phase": "Pending"}});
    model.put(PODS, "default", bare);
    stateful(&mut model, 2, json!({"updateStrategy": {"type": "OnDelete"}}));
    model.settle();
    model.change(&pod("db-1"), |value| value["metadata"]["labels"] = json!({"app": "db", "mine": "too"}));
    let before = uids(&model);
    model.settle();
    for (name, index) in [("db-0", "0"), ("db-1", "1")] {
        let labels = &model.get(&pod(name))["metadata"]["labels"];
        assert_eq!(labels["statefulset.kubernetes.io/pod-name"], name);
        assert_eq!(labels["apps.kubernetes.io/pod-index"], index);
    }
    assert_eq!(model.get(&pod("db-1"))["metadata"]["labels"]["mine"], "too");
    assert_eq!(uids(&model), before, "nothing is replaced");
    assert!(model.told("db").contains("SuccessfulUpdate"));
}

#[test]
fn what_ends_is_told_before_it_is_made_anew() {
    let mut model = gated(1);
    stateful(&mut model, 1, json!({}));
    model.settle();
    for (phase, reason) in [("Failed", "RecreatingFailedPod"), ("Succeeded", "RecreatingTerminatedPod")] {
        assert!(!model.told("db").contains(reason));
        end(&mut model, &pod("db-0"), phase);
        model.settle();
        assert!(model.told("db").contains(reason), "{reason}");
        assert!(is_ready(model.get(&pod("db-0"))));
    }
}
