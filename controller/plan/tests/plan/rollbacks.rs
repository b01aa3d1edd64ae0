//! Rollouts that fail and are taken back: what shows it, what comes back, and that it happens once.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::{Model, condition, is_deleting, is_ready, rolling};

const SWITCH: &str = "warren.dev/automatic-rollback";
pub(crate) const ROLLED_BACK: &str = "warren.dev/rolled-back";
const COMPLETE: &str = "warren.dev/complete";
const CAUSE: &str = "kubernetes.io/change-cause";

pub(crate) fn annotate(model: &mut Model, key: &Key, name: &str, text: &str) {
    model.change(key, |value| value["metadata"]["annotations"][name] = text.into());
}

/// Lets an object say whether rollouts are taken back, or nothing.
pub(crate) fn switch(model: &mut Model, key: &Key, said: Option<&str>) {
    match said {
        Some(said) => annotate(model, key, SWITCH, said),
        None => model.change(key, |value| {
            let annotations = value["metadata"]["annotations"].as_object_mut();
            annotations.map(|annotations| annotations.remove(SWITCH));
        }),
    }
}

/// A deployment that runs `image:1` and is to be rolled back from images that contain `bad`.
pub(crate) fn running(replicas: i64, strategy: Value) -> (Model, Key) {
    let mut model = Model::new(3);
    model.broken = Some("bad");
    let key = model.deployment("web", replicas, strategy);
    annotate(&mut model, &key, SWITCH, "true");
    model.settle();
    (model, key)
}

fn waiting(reason: &str, restarts: i32) -> Value {
    json!([{"name": "main", "image": "bad", "imageID": "", "ready": false, "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": format!("{reason} in the node's words")}},
        "lastState": {"terminated": {"exitCode": 7, "reason": "Error"}}}])
}

/// The containers of some pods of broken images wait for this reason; whether any have begun to.
pub(crate) fn fail(model: &mut Model, reason: &str, restarts: i32, which: impl Fn(usize) -> bool) -> bool {
    let bad = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().contains("bad");
    let keys: Vec<_> = model
        .pods()
        .filter(|(_, pod)| bad(pod) && !is_deleting(pod) && pod["status"]["podIP"].is_string())
        .map(|(key, _)| key.clone())
        .collect();
    let mut changed = false;
    for (_, key) in keys.iter().enumerate().filter(|(index, _)| which(*index)) {
        let statuses = waiting(reason, restarts);
        changed |= model.get(key)["status"]["containerStatuses"] != statuses;
        model.change(key, |pod| pod["status"]["containerStatuses"] = statuses);
    }
    changed
}

/// Passes, agents and failing pods until nothing happens any more.
fn settle(model: &mut Model, reason: &str, restarts: i32) {
    for _ in 0..200 {
        model.settle();
        if !fail(model, reason, restarts, |_| true) {
            return;
        }
    }
    panic!("it does not come to rest");
}

pub(crate) fn told(model: &Model) -> Vec<String> {
    let events = model.list(EVENTS).filter(|(_, event)| event["reason"] == "RolledBack");
    events
        .map(|(_, event)| {
            assert_eq!((&event["type"], &event["count"]), (&json!("Warning"), &json!(1)));
            event["message"].as_str().unwrap().to_owned()
        })
        .collect()
}

pub(crate) fn image<'m>(model: &'m Model, key: &Key) -> &'m str {
    model.get(key)["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap()
}

pub(crate) fn note<'m>(model: &'m Model, key: &Key, name: &str) -> Option<&'m str> {
    model.get(key)["metadata"]["annotations"][name].as_str()
}

fn set_of<'m>(model: &'m Model, image: &str) -> (&'m Key, &'m Value) {
    let of = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["image"] == image;
    model.list(REPLICASETS).find(|(_, set)| of(set)).unwrap()
}

pub(crate) fn all_ready(model: &Model, image: &str) -> usize {
    let good = |pod: &Value| is_ready(pod) && pod["spec"]["containers"][0]["image"] == image;
    model.active("web").filter(|(_, pod)| good(pod)).count()
}

#[test]
fn a_crashing_rollout_returns_whole_and_says_why() {
    for strategy in [rolling(json!(1), json!(0)), rolling(json!(0), json!(1)), json!({"type": "Recreate"})] {
        let (mut model, key) = running(3, strategy);
        model.gate = Some(warren_write::Gate::new(&warren_vocabulary::ClusterConfig::default()));
        annotate(&mut model, &key, CAUSE, "one");
        model.settle();
        let before = model.get(&key)["spec"]["template"].clone();
        model.change(&key, |value| {
            value["spec"]["template"]["spec"]["containers"][0]["image"] = "bad".into();
            value["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
            value["spec"]["template"]["metadata"]["labels"]["more"] = "x".into();
            value["metadata"]["annotations"][CAUSE] = "two".into();
        });
        settle(&mut model, "CrashLoopBackOff", 1);
        let deployment = model.get(&key);
        assert_eq!(deployment["spec"]["template"], before);
        assert_eq!(deployment["metadata"]["generation"], deployment["status"]["observedGeneration"]);
        assert_eq!(note(&model, &key, CAUSE), Some("one"));
        assert_eq!(note(&model, &key, SWITCH), Some("true"));
        let (_, failed) = set_of(&model, "bad");
        assert_eq!(
            note(&model, &key, ROLLED_BACK),
            failed["metadata"]["labels"]["pod-template-hash"].as_str()
        );
        assert_eq!((all_ready(&model, "image:1"), model.active("web").count()), (3, 3));
        let said = condition(deployment, "RolledBack");
        assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("CrashLoopBackOff")));
        let messages = told(&model);
        assert_eq!(json!(messages), json!([said["message"]]));
        let (good, _) = set_of(&model, "image:1");
        let beginning = format!(
            "Rolled back from revision 2 to revision 1 (ReplicaSet \"{}\"): Pod \"{}-",
            good.name,
            failed["metadata"]["name"].as_str().unwrap()
        );
        assert!(messages[0].starts_with(&beginning), "{messages:?}");
        let end = "container main ended with exit code 7 (Error), CrashLoopBackOff: CrashLoopBackOff in the node's words";
        assert!(messages[0].ends_with(end), "{messages:?}");
    }
}

#[test]
fn a_container_that_restarts_again_and_again_crashes_too() {
    for (restarts, expected) in [(2, "bad"), (3, "image:1"), (i32::MAX, "image:1"), (i32::MIN, "bad")] {
        let (mut model, key) = running(2, json!({}));
        model.set_image(&key, "bad");
        settle(&mut model, "Waking", restarts);
        assert_eq!(image(&model, &key), expected, "{restarts}");
    }
}

#[test]
fn a_missing_image_is_borne_for_a_minute() {
    for reason in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"] {
        let (mut model, key) = running(2, json!({}));
        model.set_image(&key, "bad");
        settle(&mut model, reason, 0);
        assert_eq!(image(&model, &key), "bad");
        model.now = model.wake_at();
        model.settle();
        assert_eq!(image(&model, &key), "image:1", "{reason}");
        assert_eq!(condition(model.get(&key), "RolledBack")["reason"], reason);
    }
}

#[test]
fn a_missed_deadline_takes_the_rollout_back_and_is_said_first() {
    let (mut model, key) = running(2, json!({}));
    model.set_image(&key, "bad");
    model.settle();
    model.now = model.wake_at();
    model.pass();
    assert_eq!(condition(model.get(&key), "Progressing")["reason"], "ProgressDeadlineExceeded");
    assert_eq!(image(&model, &key), "bad", "whoever waits for the rollout hears of the deadline");
    model.settle();
    assert_eq!((image(&model, &key), all_ready(&model, "image:1")), ("image:1", 2));
    let said = condition(model.get(&key), "RolledBack");
    assert_eq!(said["reason"], "ProgressDeadlineExceeded");
    assert!(said["message"].as_str().unwrap().contains("has timed out progressing."), "{said}");
}

#[test]
fn what_was_said_of_another_rollout_takes_nothing_back() {
    let (mut model, key) = running(2, json!({}));
    model.set_image(&key, "image:2");
    model.settle();
    annotate(&mut model, &key, SWITCH, "false");
    model.set_image(&key, "bad");
    model.settle();
    model.now = model.wake_at();
    model.settle();
    // By hand, to the first one, whose set exists: Progressing speaks of the failed set until something moves.
    annotate(&mut model, &key, SWITCH, "true");
    model.set_image(&key, "image:1");
    for _ in 0..3 {
        model.pass();
        assert_eq!(image(&model, &key), "image:1");
    }
    model.settle();
    assert_eq!((all_ready(&model, "image:1"), told(&model).len()), (2, 0));
}

#[test]
fn a_deployment_or_its_namespace_or_the_cluster_switches_it_on() {
    let all = [Some("true"), Some("false"), None, Some("perhaps")];
    for number in 0..64 {
        let (own, namespace, cluster) = (all[number % 4], all[number / 4 % 4], all[number / 16]);
        let (mut model, key) = running(1, json!({}));
        model.namespace("kube-system");
        switch(&mut model, &key, own);
        model.set_image(&key, "bad");
        settle(&mut model, "CrashLoopBackOff", 1);
        switch(&mut model, &Key::new(NAMESPACES, "", "default"), namespace);
        model.settle();
        switch(&mut model, &Key::new(NAMESPACES, "", "kube-system"), cluster);
        model.settle();
        let first = [own, namespace, cluster].into_iter().flatten().find(|said| *said != "perhaps");
        let expected = if first == Some("true") { "image:1" } else { "bad" };
        assert_eq!(image(&model, &key), expected, "{own:?} {namespace:?} {cluster:?}");
    }
}

#[test]
fn a_rollback_is_not_rolled_back_nor_is_a_template_that_somebody_insists_on() {
    let (mut model, key) = running(2, json!({}));
    model.set_image(&key, "image:2");
    model.settle();
    model.set_image(&key, "bad");
    settle(&mut model, "CrashLoopBackOff", 1);
    assert_eq!(image(&model, &key), "image:2");
    // What came back fails, too.
    let pods: Vec<_> = model.active("web").map(|(key, _)| key.clone()).collect();
    for pod in &pods {
        model.change(pod, |pod| {
            pod["status"]["containerStatuses"] = waiting("CrashLoopBackOff", 5);
            pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        });
    }
    model.broken = Some("image:2");
    model.settle();
    assert_eq!(image(&model, &key), "image:2");
    // The failed one once more.
    model.broken = Some("bad");
    model.settle();
    model.set_image(&key, "bad");
    settle(&mut model, "CrashLoopBackOff", 1);
    assert_eq!((image(&model, &key), told(&model).len()), ("bad", 1));
    // Another one fails: the newest that has run comes back, and the earlier rollback is forgotten.
    model.set_image(&key, "worse:bad");
    settle(&mut model, "CrashLoopBackOff", 1);
    assert_eq!((image(&model, &key), told(&model).len()), ("image:2", 2));
    let (_, failed) = set_of(&model, "worse:bad");
    assert_eq!(note(&model, &key, ROLLED_BACK), failed["metadata"]["labels"]["pod-template-hash"].as_str());
    // The first failed one is tried again, now with success: nothing is left of the rollbacks.
    model.broken = None;
    model.set_image(&key, "worse:bad");
    model.settle();
    assert_eq!(all_ready(&model, "worse:bad"), 2);
    assert_eq!(note(&model, &key, ROLLED_BACK), None);
    assert_eq!(condition(model.get(&key), "RolledBack"), &Value::Null);
}

#[test]
fn what_has_never_run_never_comes_back() {
    let (mut model, key) = running(2, json!({}));
    for image in ["bad:2", "bad:3"] {
        annotate(&mut model, &key, SWITCH, "false");
        model.set_image(&key, image);
        settle(&mut model, "CrashLoopBackOff", 1);
    }
    annotate(&mut model, &key, SWITCH, "true");
    model.settle();
    assert_eq!(image(&model, &key), "image:1", "not bad:2, which is newer");
    // The first rollout of all has nothing to go back to.
    let mut model = Model::new(1);
    model.broken = Some("bad");
    let key = model.deployment("web", 1, json!({}));
    annotate(&mut model, &key, SWITCH, "true");
    model.set_image(&key, "bad");
    settle(&mut model, "CrashLoopBackOff", 1);
    assert_eq!(image(&model, &key), "bad");
    // Nor is a size of none a proof.
    model.set_image(&key, "image:1");
    model.change(&key, |value| value["spec"]["replicas"] = 0.into());
    model.settle();
    assert!(model.list(REPLICASETS).all(|(_, set)| set["metadata"]["annotations"][COMPLETE].is_null()));
}

#[test]
fn what_was_complete_may_fail_for_two_minutes_and_not_later() {
    for (seconds, expected) in [(0, "image:1"), (60, "image:1"), (300, "bad")] {
        let (mut model, key) = running(2, json!({}));
        model.broken = None;
        model.set_image(&key, "bad");
        model.settle();
        model.broken = Some("bad");
        model.now += jiff::SignedDuration::from_secs(seconds);
        let pods: Vec<_> = model.active("web").map(|(key, _)| key.clone()).collect();
        for pod in &pods {
            model.change(pod, |pod| {
                for condition in pod["status"]["conditions"].as_array_mut().unwrap() {
                    if condition["type"] != "PodScheduled" {
                        condition["status"] = "False".into();
                    }
                }
            });
        }
        settle(&mut model, "CrashLoopBackOff", 1);
        assert_eq!(image(&model, &key), expected, "{seconds}");
        let proof = &set_of(&model, "bad").1["metadata"]["annotations"][COMPLETE];
        assert_eq!(proof.is_string(), expected == "bad", "what failed has not run: {proof}");
    }
}

#[test]
fn a_paused_deployment_is_left_alone() {
    let (mut model, key) = running(2, json!({}));
    model.set_image(&key, "bad");
    model.settle();
    model.change(&key, |value| value["spec"]["paused"] = true.into());
    settle(&mut model, "CrashLoopBackOff", 1);
    model.now += jiff::SignedDuration::from_secs(10_000);
    model.settle();
    assert_eq!(image(&model, &key), "bad");
    model.change(&key, |value| value["spec"]["paused"] = false.into());
    model.settle();
    assert_eq!(image(&model, &key), "image:1");
}

#[test]
fn one_pod_among_many_and_one_on_a_silent_node_prove_nothing() {
    let (mut model, key) = running(4, rolling(json!(3), json!(0)));
    model.set_image(&key, "bad");
    model.settle();
    fail(&mut model, "CrashLoopBackOff", 9, |index| index == 0);
    model.settle();
    assert_eq!(image(&model, &key), "bad");
    (1..=3).for_each(|node| model.hear(node, 5));
    fail(&mut model, "CrashLoopBackOff", 9, |_| true);
    for _ in 0..5 {
        model.pass();
    }
    assert_eq!(image(&model, &key), "bad");
    (1..=3).for_each(|node| model.hear(node, 0));
    model.settle();
    assert_eq!(image(&model, &key), "image:1");
}

#[test]
fn any_text_where_completeness_is_noted_is_borne() {
    for text in [
        "",
        "true",
        " ",
        "1 9999-12-30T22:00:00Z",
        "2 -009999-01-02T01:59:59Z",
        "x y z",
        "99999999999999999999 ",
    ] {
        let (mut model, key) = running(2, json!({}));
        let sets: Vec<_> = model.list(REPLICASETS).map(|(key, _)| key.clone()).collect();
        annotate(&mut model, &sets[0], COMPLETE, text);
        annotate(&mut model, &key, COMPLETE, text);
        model.settle();
        annotate(&mut model, &key, ROLLED_BACK, text);
        annotate(&mut model, &key, "warren.dev/rolled-back-to", text);
        model.set_image(&key, "bad");
        settle(&mut model, "CrashLoopBackOff", 1);
        assert_eq!((image(&model, &key), all_ready(&model, "image:1")), ("image:1", 2), "{text:?}");
        assert_eq!(
            set_of(&model, "bad").1["metadata"]["annotations"][COMPLETE],
            Value::Null,
            "it is not copied"
        );
    }
}

#[test]
fn any_time_of_a_pod_is_borne() {
    for time in ["9999-12-30T22:00:00Z", "-009999-01-02T01:59:59Z", "1970-01-01T00:00:00Z"] {
        let (mut model, key) = running(1, json!({}));
        model.set_image(&key, "bad");
        model.settle();
        let pods: Vec<_> = model.active("web").map(|(key, _)| key.clone()).collect();
        for pod in &pods {
            model.change(pod, |pod| {
                for condition in pod["status"]["conditions"].as_array_mut().unwrap() {
                    condition["lastTransitionTime"] = time.into();
                }
            });
        }
        settle(&mut model, "ErrImagePull", 0);
        assert_eq!(image(&model, &key) == "bad", time.starts_with("9999"), "{time}");
    }
}
