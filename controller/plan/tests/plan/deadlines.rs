//! Pods that may run for so long and no longer.

use jiff::SignedDuration;
use serde_json::json;
use warren_vocabulary::resources::EVENTS;

use crate::{model::Model, scheduling::pod};

#[test]
fn a_pod_ends_when_its_time_is_over() {
    let mut model = Model::new(1);
    let key = pod(&mut model, "short", json!({"activeDeadlineSeconds": 60}));
    let other = pod(&mut model, "other", json!({}));
    model.settle();
    for key in [&key, &other] {
        model.change(key, |pod| pod["status"]["startTime"] = "2026-11-22T12:00:05Z".into());
    }
    model.settle();
    assert_eq!(model.get(&key)["status"]["phase"], "Running");
    assert!(model.wake_at() <= "2026-11-22T12:01:05Z".parse().unwrap());
    model.now = "2026-11-22T12:01:04Z".parse().unwrap();
    model.settle();
    assert_eq!(model.get(&key)["status"]["phase"], "Running", "it has a second left");
    model.now += SignedDuration::from_secs(1);
    model.settle();
    let status = &model.get(&key)["status"];
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(model.get(&other)["status"]["phase"], "Running");
    let told = model.list(EVENTS).filter(|(_, event)| event["reason"] == "DeadlineExceeded").count();
    assert_eq!(told, 1);
    model.now += SignedDuration::from_secs(600);
    model.settle();
    let told = model.list(EVENTS).filter(|(_, event)| event["reason"] == "DeadlineExceeded").count();
    assert_eq!(told, 1, "it ends once");
}

#[test]
fn a_deadline_that_was_missed_or_is_made_shorter_counts_at_once() {
    let mut model = Model::new(1);
    let key = pod(&mut model, "short", json!({"activeDeadlineSeconds": 600}));
    model.settle();
    model.change(&key, |pod| pod["status"]["startTime"] = "2026-11-22T12:00:00Z".into());
    model.settle();
    model.now = "2026-11-22T12:01:00Z".parse().unwrap();
    model.settle();
    assert_eq!(model.get(&key)["status"]["phase"], "Running");
    model.change(&key, |pod| pod["spec"]["activeDeadlineSeconds"] = 5.into());
    model.restart();
    model.settle();
    assert_eq!(model.get(&key)["status"]["reason"], "DeadlineExceeded");
}
