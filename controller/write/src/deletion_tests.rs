//! Deletion, case by case.

use serde_json::json;
use warren_objects::kinds::find;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn decided(plural: &str, object: &Value, options: &DeleteOptions) -> Decision {
    let kind = warren_objects::kinds::KINDS.iter().find(|kind| kind.plural == plural).unwrap();
    decide(kind, object, options, now())
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_seconds: Some(seconds), ..DeleteOptions::default() }
}

fn policy(propagation: Propagation) -> DeleteOptions {
    DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() }
}

fn pod() -> Value {
    json!({"metadata": {"name": "a", "generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 60}})
}

fn marked(decision: Decision) -> Value {
    match decision {
        Decision::Mark(object) => object,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_end_gracefully() {
    let dying = marked(decided("pods", &pod(), &DeleteOptions::default()));
    assert_eq!(dying["metadata"]["deletionTimestamp"], "2026-01-01T00:01:00Z");
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 60);
    assert_eq!(dying["metadata"]["generation"], 2);
    assert_eq!(decided("pods", &dying, &DeleteOptions::default()), Decision::Pending);
    assert_eq!(decided("pods", &dying, &grace(90)), Decision::Pending, "never longer");
    let shorter = marked(decided("pods", &dying, &grace(10)));
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
    assert_eq!(shorter["metadata"]["generation"], 2);
    assert_eq!(decided("pods", &dying, &grace(0)), Decision::Remove);
    assert_eq!(marked(decided("pods", &pod(), &grace(-1)))["metadata"]["deletionGracePeriodSeconds"], 1);
}

#[test]
fn pods_of_jobs_stay_unless_the_request_says_otherwise() {
    let job = json!({"metadata": {"name": "a", "generation": 1}});
    let kind = find("batch", "v1", "jobs").unwrap();
    assert!(
        warning(kind, &DeleteOptions::default()).is_some_and(|text| text.contains("=Orphan to suppress"))
    );
    let kept = marked(decided("jobs", &job, &DeleteOptions::default()));
    assert_eq!(kept["metadata"]["finalizers"], json!(["orphan"]));
    assert_eq!(decided("jobs", &job, &policy(Propagation::Background)), Decision::Remove);
    assert_eq!(warning(kind, &policy(Propagation::Background)), None);
    let dying = marked(decided("jobs", &job, &policy(Propagation::Foreground)));
    assert_eq!(decided("jobs", &dying, &DeleteOptions::default()), Decision::Pending, "that has been said");
    assert_eq!(decided("cronjobs", &job, &DeleteOptions::default()), Decision::Remove);
}

#[test]
fn pods_that_run_nowhere_go_at_once() {
    let unscheduled = json!({"metadata": {"name": "a"}, "spec": {}});
    assert_eq!(decided("pods", &unscheduled, &DeleteOptions::default()), Decision::Remove);
    let mut finished = pod();
    finished["status"] = json!({"phase": "Succeeded"});
    assert_eq!(decided("pods", &finished, &DeleteOptions::default()), Decision::Remove);
    assert_eq!(decided("pods", &pod(), &grace(0)), Decision::Remove);
    let mut held = unscheduled;
    held["metadata"]["finalizers"] = json!(["x"]);
    let held = marked(decided("pods", &held, &DeleteOptions::default()));
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
}

#[test]
fn finalizers_hold_and_policies_add_them() {
    let object = json!({"metadata": {"name": "a", "generation": 4}});
    assert_eq!(decided("deployments", &object, &policy(Propagation::Background)), Decision::Remove);
    let foreground = marked(decided("deployments", &object, &policy(Propagation::Foreground)));
    assert_eq!(foreground["metadata"]["finalizers"], json!([FOREGROUND]));
    assert_eq!(foreground["metadata"]["generation"], 5);
    assert_eq!(foreground["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(decided("deployments", &foreground, &policy(Propagation::Foreground)), Decision::Pending);
    assert_eq!(decided("deployments", &foreground, &policy(Propagation::Background)), Decision::Remove);
    let orphan = marked(decided("deployments", &foreground, &policy(Propagation::Orphan)));
    assert_eq!(orphan["metadata"]["finalizers"], json!([ORPHAN]));
}

#[test]
fn namespaces_are_emptied_first() {
    let object = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let dying = marked(decided("namespaces", &object, &DeleteOptions::default()));
    assert_eq!(dying["status"]["phase"], "Terminating");
    assert_eq!(decided("namespaces", &dying, &DeleteOptions::default()), Decision::Pending);
    let kind = find("", "v1", "namespaces").unwrap();
    assert!(!is_finished(kind, &dying));
    let mut finalized = dying;
    finalized["spec"]["finalizers"] = json!([]);
    assert!(is_finished(kind, &finalized));
}
