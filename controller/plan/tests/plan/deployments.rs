//! Rolling updates, rollbacks, scaling, recreation, pauses, deadlines, history.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::{Model, condition, is_ready, rolling};

const REVISION: &str = "deployment.kubernetes.io/revision";

fn sets(model: &Model) -> Vec<(i64, i64)> {
    let mut sets: Vec<_> = model
        .list(REPLICASETS)
        .map(|(_, set)| {
            let revision = set["metadata"]["annotations"][REVISION].as_str().unwrap().parse().unwrap();
            (revision, set["spec"]["replicas"].as_i64().unwrap())
        })
        .collect();
    sets.sort_unstable();
    sets
}

/// Rolls step by step; after every commit at least `min` pods are ready and serve, at most `max` exist.
fn roll_checked(model: &mut Model, app: &str, min: usize, max: usize) {
    for _ in 0..400 {
        let plan = model.plan();
        for step in &plan.steps {
            assert!(model.commit(&step.transaction), "{}", step.why);
            model.check();
            let ready = model.active(app).filter(|(_, pod)| is_ready(pod)).count();
            let all = model.active(app).count();
            assert!(ready >= min, "{ready} ready pods after: {}", step.why);
            assert!(all <= max, "{all} pods after: {}", step.why);
            if model.list(SERVICES).next().is_some() {
                assert!(model.ready_endpoints("web") >= min.min(1), "no endpoint after: {}", step.why);
            }
        }
        model.now += jiff::SignedDuration::from_secs(1);
        // One pod at a time, so that every intermediate state is met.
        let keys: Vec<_> = model.pods().map(|(key, _)| key.clone()).collect();
        let moved = keys.iter().any(|key| model.agent(key));
        if !moved && plan.steps.is_empty() {
            return;
        }
    }
    panic!("the rollout does not end");
}

#[test]
fn a_new_deployment_gets_a_set_and_pods() {
    let mut model = Model::new(3);
    let key = model.deployment("web", 6, json!({}));
    model.settle();
    let deployment = model.get(&key).clone();
    let status = &deployment["status"];
    for name in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[name], 6, "{name}");
    }
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status.get("unavailableReplicas"), None);
    assert_eq!(deployment["metadata"]["annotations"][REVISION], "1");
    assert_eq!(condition(&deployment, "Available")["reason"], "MinimumReplicasAvailable");
    assert_eq!(condition(&deployment, "Progressing")["reason"], "NewReplicaSetAvailable");
    let (_, set) = model.list(REPLICASETS).next().unwrap();
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(set["metadata"]["name"], format!("web-{hash}"));
    assert_eq!(set["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    let owner = &set["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["controller"], &owner["blockOwnerDeletion"]), (&json!(true), &json!(true)));
    assert_eq!(owner["uid"], deployment["metadata"]["uid"]);
    assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"], "6");
    assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/max-replicas"], "8");
    for name in ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(set["status"][name], 6, "{name}");
    }
    assert_eq!(set["status"]["observedGeneration"], set["metadata"]["generation"]);
    assert!(
        model
            .told("web")
            .is_superset(&["ScalingReplicaSet", "SuccessfulCreate", "Scheduled"].map(str::to_owned).into())
    );
}

#[test]
fn created_pods_are_complete() {
    let mut model = Model::new(1);
    model.deployment("web", 1, json!({}));
    model.settle();
    let (key, pod) = model.pods().next().unwrap();
    assert!(serde_json::from_value::<k8s_openapi::api::core::v1::Pod>(pod.clone()).is_ok());
    let (_, set) = model.list(REPLICASETS).next().unwrap();
    let metadata = &pod["metadata"];
    assert!(key.name.starts_with(&*format!("{}-", set["metadata"]["name"].as_str().unwrap())), "{key}");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert_eq!(metadata["ownerReferences"][0]["uid"], set["metadata"]["uid"]);
    assert_eq!(metadata["labels"], set["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(pod["spec"]["nodeName"], "node-1");
    assert_eq!(pod["status"]["podIP"], "10.42.1.2");
    assert_eq!(pod["status"]["podIPs"], json!([{"ip": "10.42.1.2"}]));
    assert_eq!(condition(pod, "PodScheduled")["status"], "True");
}

#[test]
fn a_rolling_update_keeps_its_limits_after_every_commit() {
    for (replicas, surge, unavailable, min, max) in [
        (4, json!("25%"), json!("25%"), 3, 5),
        (3, json!("25%"), json!("25%"), 3, 4),
        (6, json!(2), json!(0), 6, 8),
        (6, json!(0), json!(1), 5, 6),
        (1, json!(1), json!(0), 1, 2),
        (4, json!("100%"), json!("50%"), 2, 8),
    ] {
        let mut model = Model::new(3);
        let key = model.deployment("web", replicas, rolling(surge, unavailable));
        model.service("web", "web");
        model.settle();
        model.set_image(&key, "image:2");
        roll_checked(&mut model, "web", min, max);
        assert!(model.active("web").all(|(_, pod)| pod["spec"]["containers"][0]["image"] == "image:2"));
        assert_eq!(sets(&model), [(1, 0), (2, replicas)]);
        assert_eq!(model.ready_endpoints("web"), usize::try_from(replicas).unwrap());
        assert_eq!(model.get(&key)["metadata"]["annotations"][REVISION], "2");
        assert_eq!(condition(model.get(&key), "Progressing")["reason"], "NewReplicaSetAvailable");
    }
}

#[test]
fn a_rollback_finds_the_old_set_and_gives_it_the_next_revision() {
    let mut model = Model::new(2);
    let key = model.deployment("web", 2, json!({}));
    model.settle();
    let first = model.list(REPLICASETS).next().unwrap().0.clone();
    model.set_image(&key, "image:2");
    model.change(&key, |value| value["metadata"]["annotations"]["kubernetes.io/change-cause"] = "two".into());
    model.settle();
    // As kubectl rollout undo does: the template without the hash, and the annotations of the old set.
    model.change(&key, |value| {
        value["spec"]["template"]["spec"]["containers"][0]["image"] = "image:1".into();
        value["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
        value["metadata"]["annotations"]["kubernetes.io/change-cause"] = "one again".into();
    });
    model.settle();
    assert_eq!(sets(&model), [(2, 0), (3, 2)]);
    let set = model.get(&first);
    assert_eq!(set["metadata"]["annotations"][REVISION], "3");
    assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(set["metadata"]["annotations"]["kubernetes.io/change-cause"], "one again");
    assert_eq!(model.get(&key)["metadata"]["annotations"][REVISION], "3");
}

#[test]
fn scaling_changes_one_set_and_keeps_the_rest_even() {
    let mut model = Model::new(3);
    let key = model.deployment("web", 6, json!({}));
    model.settle();
    assert_eq!(model.spread("web"), [2, 2, 2]);
    for (replicas, spread) in [(3, [1, 1, 1]), (9, [3, 3, 3]), (0, [0, 0, 0]), (3, [1, 1, 1])] {
        model.change(&key, |value| value["spec"]["replicas"] = replicas.into());
        model.settle();
        assert_eq!(model.spread("web"), spread, "{replicas}");
        assert_eq!(sets(&model), [(1, replicas)]);
        let (_, set) = model.list(REPLICASETS).next().unwrap();
        assert_eq!(
            set["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"],
            replicas.to_string()
        );
    }
    assert!(model.told("web").contains("SuccessfulDelete"));
}

#[test]
fn scaling_during_a_stuck_rollout_is_proportional() {
    let mut model = Model::new(3);
    let key = model.deployment("web", 10, rolling(json!(3), json!(2)));
    model.settle();
    model.broken = Some("bad");
    model.set_image(&key, "bad");
    model.settle();
    // The documentation's example: 8 old, 5 new; then 15 wanted.
    assert_eq!(sets(&model), [(1, 8), (2, 5)]);
    model.change(&key, |value| value["spec"]["replicas"] = 15.into());
    model.settle();
    assert_eq!(sets(&model), [(1, 11), (2, 7)]);
}

#[test]
fn a_stuck_rollout_exceeds_its_deadline_and_recovers_by_a_rollback() {
    let mut model = Model::new(2);
    let key = model.deployment("web", 3, json!({}));
    model.settle();
    model.broken = Some("bad");
    model.set_image(&key, "bad");
    model.settle();
    let wake = model.wake_at();
    assert_eq!(condition(model.get(&key), "Progressing")["reason"], "ReplicaSetUpdated");
    assert_eq!(condition(model.get(&key), "Available")["status"], "True");
    model.now = wake;
    model.settle();
    let progressing = condition(model.get(&key), "Progressing");
    assert_eq!(
        (&progressing["status"], &progressing["reason"]),
        (&json!("False"), &json!("ProgressDeadlineExceeded"))
    );
    model.set_image(&key, "image:1");
    model.settle();
    assert_eq!(condition(model.get(&key), "Progressing")["reason"], "NewReplicaSetAvailable");
    assert_eq!(model.active("web").filter(|(_, pod)| is_ready(pod)).count(), 3);
}

#[test]
fn recreate_ends_all_old_pods_first() {
    let mut model = Model::new(2);
    let key = model.deployment("web", 3, json!({"type": "Recreate"}));
    model.settle();
    model.set_image(&key, "image:2");
    for _ in 0..60 {
        model.pass();
        model.agents();
        let images: std::collections::BTreeSet<_> =
            model.pods().map(|(_, pod)| pod["spec"]["containers"][0]["image"].as_str().unwrap()).collect();
        assert!(images.len() <= 1, "old and new at the same time");
    }
    assert_eq!(sets(&model), [(1, 0), (2, 3)]);
    assert_eq!(model.active("web").filter(|(_, pod)| is_ready(pod)).count(), 3);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut model = Model::new(2);
    let key = model.deployment("web", 2, json!({}));
    model.settle();
    model.change(&key, |value| value["spec"]["paused"] = true.into());
    model.set_image(&key, "image:2");
    model.change(&key, |value| value["spec"]["replicas"] = 4.into());
    model.settle();
    assert_eq!(sets(&model), [(1, 4)]);
    assert_eq!(condition(model.get(&key), "Progressing")["reason"], "DeploymentPaused");
    model.change(&key, |value| value["spec"]["paused"] = false.into());
    model.settle();
    assert_eq!(sets(&model), [(1, 0), (2, 4)]);
}

#[test]
fn only_so_many_old_sets_are_kept() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 1, json!({}));
    model.change(&key, |value| value["spec"]["revisionHistoryLimit"] = 2.into());
    for image in 1..=5 {
        model.set_image(&key, &format!("image:{image}"));
        model.settle();
    }
    assert_eq!(sets(&model), [(3, 0), (4, 0), (5, 1)]);
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 1, json!({}));
    model.change(&key, |value| value["spec"]["minReadySeconds"] = 30.into());
    model.settle();
    assert_eq!(model.get(&key)["status"]["readyReplicas"], 1);
    assert_eq!(model.get(&key)["status"].get("availableReplicas"), None);
    model.now = model.wake_at();
    model.settle();
    assert_eq!(model.get(&key)["status"]["availableReplicas"], 1);
}

#[test]
fn old_pods_stay_available_when_the_deployment_begins_to_wait_longer() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 1, rolling(json!(1), json!(0)));
    model.settle();
    model.broken = Some("broken");
    model.change(&key, |value| {
        value["spec"]["minReadySeconds"] = 600.into();
        value["spec"]["template"]["spec"]["containers"][0]["image"] = "broken".into();
    });
    model.settle();
    assert_eq!(sets(&model), [(1, 1), (2, 1)]);
    assert_eq!(model.get(&key)["status"]["availableReplicas"], 1);
}

#[test]
fn a_foreign_set_of_the_wanted_name_is_avoided() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 1, json!({}));
    let wanted = model.plan();
    let name = wanted.steps.iter().flat_map(|step| &step.transaction.writes).find_map(|write| match write {
        warren_state::Write::Put(key, value) if *key.resource == *REPLICASETS => {
            Some((key.clone(), value.clone()))
        }
        _ => None,
    });
    let (set, mut value) = name.unwrap();
    let other = model.deployment("other", 0, json!({}));
    value["metadata"]["ownerReferences"][0]["uid"] = model.get(&other)["metadata"]["uid"].clone();
    value["spec"]["replicas"] = 0.into();
    model.write(set, value);
    model.settle();
    assert_eq!(model.get(&key)["status"]["collisionCount"], 1);
    assert_eq!(model.get(&key)["status"]["availableReplicas"], 1);
}

#[test]
fn orphans_that_match_are_adopted() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 2, json!({}));
    model.settle();
    let set = model.list(REPLICASETS).next().unwrap().0.clone();
    let pod = model.pods().next().unwrap().0.clone();
    for orphan in [&set, &pod] {
        model.change(orphan, |value| {
            drop(value["metadata"].as_object_mut().unwrap().remove("ownerReferences"))
        });
    }
    model.settle();
    assert_eq!(model.get(&set)["metadata"]["ownerReferences"][0]["uid"], model.get(&key)["metadata"]["uid"]);
    assert_eq!(model.active("web").count(), 2);
    assert_eq!(model.list(REPLICASETS).count(), 1);
    // A pod whose labels are changed is let go and replaced.
    let pod = model.pods().next().unwrap().0.clone();
    model.change(&pod, |value| value["metadata"]["labels"]["pod-template-hash"] = "other".into());
    model.settle();
    assert_eq!(model.get(&pod)["metadata"].get("ownerReferences"), None);
    assert_eq!(model.active("web").count(), 3);
}

#[test]
fn a_malformed_object_is_a_problem_and_hurts_nobody_else() {
    let mut model = Model::new(1);
    model.write(
        Key::new(DEPLOYMENTS, "default", "bad"),
        json!({"metadata": {"name": "bad"}, "spec": {"replicas": "x"}}),
    );
    model.deployment("web", 1, json!({}));
    model.settle();
    assert_eq!(model.active("web").count(), 1);
    let problems = model.plan().problems;
    assert!(problems.iter().any(|problem| &*problem.key.name == "bad"), "{problems:?}");
}
