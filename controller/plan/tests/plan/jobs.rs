//! Jobs: which pods they make, how these are counted, and how it ends.

use jiff::SignedDuration;
use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::{ClusterConfig, resources::*};
use warren_write::Gate;

use crate::model::{Model, condition, finalizers, has_ended, is_deleting};

pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A cluster whose planners' writes are judged.
pub(crate) fn cluster() -> Model {
    let mut model = Model::new(2);
    model.gate = Some(Gate::new(&ClusterConfig::default()));
    model
}

/// Pods of an app that run.
pub(crate) fn running(model: &Model, app: &str) -> Vec<Key> {
    let active = model.active(app).filter(|(_, pod)| !has_ended(pod));
    active.map(|(key, _)| key.clone()).collect()
}

pub(crate) fn end_all(model: &mut Model, app: &str, code: i32) {
    running(model, app).iter().for_each(|key| model.end(key, code));
    model.settle();
}

pub(crate) fn wait(model: &mut Model, seconds: i64) {
    model.now += SignedDuration::from_secs(seconds);
    model.settle();
}

pub(crate) fn passes(model: &mut Model, count: usize) {
    for _ in 0..count {
        model.pass();
    }
}

pub(crate) fn holds(job: &Value, kind: &str) -> bool {
    condition(job, kind)["status"] == "True"
}

#[track_caller]
pub(crate) fn assert_ended(job: &Value, kind: &str, reason: &str) {
    let said = condition(job, kind);
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!(reason)), "{}", job["status"]);
}

pub(crate) fn is_tracked(pod: &Value) -> bool {
    finalizers(pod).iter().any(|finalizer| finalizer == TRACKING)
}

#[test]
fn a_job_runs_so_many_pods_at_a_time_until_so_many_have_succeeded() {
    let mut model = cluster();
    let job = model.job("pi", json!({"completions": 3, "parallelism": 2}));
    model.settle();
    let status = &model.get(&job)["status"];
    assert_eq!(
        (&status["active"], &status["ready"], &status["terminating"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    assert!(status["startTime"].is_string() && status["succeeded"].is_null());
    assert!(model.active("pi").all(|(_, pod)| is_tracked(pod)));
    let (name, pod) = model.active("pi").next().unwrap();
    let uid = &model.get(&job)["metadata"]["uid"];
    assert!(name.name.starts_with("pi-") && name.name.len() == "pi-".len() + 5);
    for label in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
        assert_eq!(&pod["metadata"]["labels"][label], uid);
    }
    assert_eq!(pod["metadata"]["labels"]["job-name"], "pi");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Job");
    end_all(&mut model, "pi", 0);
    assert_eq!(running(&model, "pi").len(), 1, "one is left to do");
    assert_eq!(model.get(&job)["status"]["succeeded"], 2);
    end_all(&mut model, "pi", 0);
    let ended = model.get(&job);
    assert_ended(ended, "SuccessCriteriaMet", "CompletionsReached");
    assert_ended(ended, "Complete", "CompletionsReached");
    assert_eq!((&ended["status"]["succeeded"], &ended["status"]["active"]), (&json!(3), &Value::Null));
    assert!(ended["status"]["completionTime"].is_string());
    assert_eq!(model.pods().filter(|(_, pod)| is_tracked(pod)).count(), 0);
    assert_eq!(model.pods().count(), 3, "they are kept");
    assert!(model.told("pi").is_superset(&["Completed", "SuccessfulCreate"].map(str::to_owned).into()));
}

#[test]
fn workers_of_a_queue_end_by_themselves_once_one_has_succeeded() {
    let mut model = cluster();
    let job = model.job("queue", json!({"parallelism": 3}));
    model.settle();
    let pods = running(&model, "queue");
    assert_eq!(pods.len(), 3);
    model.end(&pods[0], 0);
    model.settle();
    assert_eq!(running(&model, "queue").len(), 2, "no new one");
    assert!(!holds(model.get(&job), "Complete"));
    end_all(&mut model, "queue", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert_eq!(model.get(&job)["status"]["succeeded"], 3);
}

#[test]
fn each_pod_of_an_indexed_job_knows_its_index() {
    let mut model = cluster();
    let spec = json!({"completions": 5, "parallelism": 3, "completionMode": "Indexed"});
    let job = model.job("index", spec);
    model.settle();
    for (key, pod) in model.active("index") {
        let index = pod["metadata"]["annotations"][INDEX].as_str().unwrap();
        assert!(key.name.starts_with(&format!("index-{index}-")), "{key}");
        assert_eq!(pod["metadata"]["labels"][INDEX], index);
        assert_eq!(pod["spec"]["hostname"], format!("index-{index}"));
        let variable = &pod["spec"]["containers"][0]["env"][0];
        assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
        let path = &variable["valueFrom"]["fieldRef"]["fieldPath"];
        assert_eq!(*path, format!("metadata.annotations['{INDEX}']"));
    }
    let of = |model: &Model, index: &str| {
        let all = model.active("index").filter(|(_, pod)| !has_ended(pod));
        all.filter(|(_, pod)| pod["metadata"]["labels"][INDEX] == *index).map(|(key, _)| key.clone()).next()
    };
    let (one, two) = (of(&model, "1").unwrap(), of(&model, "2").unwrap());
    model.end(&one, 0);
    model.end(&two, 1);
    model.settle();
    assert_eq!(model.get(&job)["status"]["completedIndexes"], "1");
    wait(&mut model, 10);
    assert!(of(&model, "1").is_none() && of(&model, "2").is_some(), "the failed one is tried again");
    end_all(&mut model, "index", 0);
    assert_eq!(model.get(&job)["status"]["completedIndexes"], "0-3");
    end_all(&mut model, "index", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    let status = &model.get(&job)["status"];
    assert_eq!((&status["completedIndexes"], &status["succeeded"]), (&json!("0-4"), &json!(5)));
    assert_eq!(status["failed"], 1);
}

#[test]
fn pods_that_fail_are_replaced_later_and_later_until_they_have_failed_too_often() {
    let mut model = cluster();
    let job = model.job("bad", json!({"backoffLimit": 2}));
    model.settle();
    for (failures, pause) in [(1, 10), (2, 20)] {
        end_all(&mut model, "bad", 1);
        assert_eq!(model.get(&job)["status"]["failed"], failures);
        let due = model.wake_at();
        assert!(running(&model, "bad").is_empty());
        model.now = due - SignedDuration::from_secs(1);
        assert!(model.plan().steps.is_empty(), "not yet");
        model.now = due;
        model.settle();
        assert_eq!(running(&model, "bad").len(), 1, "after {pause} s");
        let pod = model.get(&running(&model, "bad")[0])["metadata"]["creationTimestamp"].clone();
        let ends = model.pods().filter_map(|(_, pod)| {
            pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"].as_str()
        });
        let last: jiff::Timestamp = ends.max().unwrap().parse().unwrap();
        assert_eq!(pod, (last + SignedDuration::from_secs(pause)).to_string());
    }
    end_all(&mut model, "bad", 1);
    assert_ended(model.get(&job), "FailureTarget", "BackoffLimitExceeded");
    assert_ended(model.get(&job), "Failed", "BackoffLimitExceeded");
    assert_eq!(model.get(&job)["status"]["failed"], 3);
    wait(&mut model, 1_000);
    assert_eq!(model.pods().count(), 3, "no more");
    assert!(model.told("bad").contains("BackoffLimitExceeded"));
}

#[test]
fn containers_that_are_started_again_in_their_pod_count_too() {
    let mut model = cluster();
    let job = model.job("again", json!({"backoffLimit": 3, "parallelism": 2, "completions": 2}));
    model.change(&job, |job| job["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure".into());
    model.settle();
    let pods = running(&model, "again");
    for (key, restarts) in pods.iter().zip([1, 2]) {
        model.change(key, |pod| {
            pod["status"]["containerStatuses"] =
                json!([{"name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": restarts}]);
        });
    }
    model.pass();
    assert_ended(model.get(&job), "FailureTarget", "BackoffLimitExceeded");
    assert!(!holds(model.get(&job), "Failed"), "its pods run still");
    assert!(model.pods().all(|(_, pod)| is_deleting(pod)));
    model.settle();
    assert_ended(model.get(&job), "Failed", "BackoffLimitExceeded");
    assert_eq!((model.pods().count(), &model.get(&job)["status"]["failed"]), (0, &json!(2)));
}

#[test]
fn a_job_that_takes_too_long_fails_but_time_stands_while_it_is_suspended() {
    let mut model = cluster();
    let job = model.job("slow", json!({"activeDeadlineSeconds": 60}));
    model.settle();
    wait(&mut model, 40);
    model.change(&job, |job| job["spec"]["suspend"] = true.into());
    model.settle();
    assert_eq!(model.pods().count(), 0);
    assert_ended(model.get(&job), "Suspended", "JobSuspended");
    let status = &model.get(&job)["status"];
    assert!(status["failed"].is_null() && status["active"].is_null(), "nothing has failed: {status}");
    wait(&mut model, 500);
    model.change(&job, |job| job["spec"]["suspend"] = false.into());
    model.settle();
    let said = condition(model.get(&job), "Suspended");
    assert_eq!((&said["status"], &said["reason"]), (&json!("False"), &json!("JobResumed")));
    assert_eq!(running(&model, "slow").len(), 1, "and no pause");
    let start: jiff::Timestamp = model.get(&job)["status"]["startTime"].as_str().unwrap().parse().unwrap();
    assert_eq!(model.wake_at(), start + SignedDuration::from_secs(60));
    wait(&mut model, 61);
    assert_ended(model.get(&job), "Failed", "DeadlineExceeded");
    assert!(model.get(&job)["status"]["completionTime"].is_null());
    let told = model.told("slow");
    for reason in ["Suspended", "Resumed", "SuccessfulDelete", "DeadlineExceeded"] {
        assert!(told.contains(reason), "{reason}: {told:?}");
    }
}

#[test]
fn a_job_that_is_made_suspended_begins_when_it_is_resumed() {
    let mut model = cluster();
    let job = model.job("later", json!({"suspend": true, "completions": 2, "parallelism": 5}));
    model.settle();
    assert_eq!(model.pods().count(), 0);
    assert!(model.get(&job)["status"]["startTime"].is_null());
    model.change(&job, |job| job["spec"]["suspend"] = false.into());
    model.settle();
    assert_eq!(running(&model, "later").len(), 2, "no more than there is to do");
    assert!(model.get(&job)["status"]["startTime"].is_string());
}

#[test]
fn a_job_goes_with_its_pods_when_its_time_is_up() {
    let mut model = cluster();
    let job = model.job("brief", json!({"ttlSecondsAfterFinished": 100}));
    model.settle();
    end_all(&mut model, "brief", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    wait(&mut model, 80);
    assert!(model.objects.contains_key(&job));
    wait(&mut model, 25);
    assert!(!model.objects.contains_key(&job));
    assert_eq!(model.pods().count(), 0);
}

#[test]
fn a_job_that_somebody_else_runs_is_left_alone() {
    let mut model = cluster();
    let job = model.job("theirs", json!({"managedBy": "example.com/queue", "ttlSecondsAfterFinished": 0}));
    model.settle();
    assert_eq!((model.pods().count(), &model.get(&job)["status"]), (0, &Value::Null));
    model.job("ours", json!({"managedBy": "kubernetes.io/job-controller"}));
    model.settle();
    assert_eq!(model.pods().count(), 1);
}

#[test]
fn a_pod_that_is_deleted_is_replaced_at_once_or_when_it_has_ended() {
    for (policy, early) in [("TerminatingOrFailed", true), ("Failed", false)] {
        let mut model = cluster();
        let job = model.job("moved", json!({"podReplacementPolicy": policy}));
        model.settle();
        let pod = running(&model, "moved")[0].clone();
        model.delete_pod(&pod);
        passes(&mut model, 2);
        assert_eq!(running(&model, "moved").len(), usize::from(early), "{policy}");
        assert_eq!(model.get(&job)["status"]["terminating"], 1);
        assert_eq!(model.get(&job)["status"]["failed"], if early { json!(1) } else { Value::Null });
        model.settle();
        wait(&mut model, 10);
        assert!(!model.objects.contains_key(&pod));
        assert_eq!(running(&model, "moved").len(), 1);
        assert_eq!(model.get(&job)["status"]["failed"], 1, "{policy}");
        end_all(&mut model, "moved", 0);
        assert_ended(model.get(&job), "Complete", "CompletionsReached");
    }
}

#[test]
fn pods_that_match_are_adopted_and_pods_that_do_not_are_let_go() {
    let mut model = cluster();
    let job = model.job("kin", json!({"parallelism": 2, "completions": 2}));
    model.settle();
    let pods = running(&model, "kin");
    model.change(&pods[0], |pod| pod["metadata"]["ownerReferences"] = json!([]));
    model.settle();
    assert_eq!(model.get(&pods[0])["metadata"]["ownerReferences"][0]["name"], "kin");
    assert!(is_tracked(model.get(&pods[0])));
    model.change(&pods[0], |pod| pod["metadata"]["labels"] = json!({}));
    model.settle();
    let released = model.get(&pods[0]);
    assert!(released["metadata"]["ownerReferences"].is_null() && !is_tracked(released));
    assert_eq!(running(&model, "kin").len(), 2, "another one is made");
    assert_eq!(model.get(&job)["status"]["active"], 2);
}

#[test]
fn pods_that_are_too_many_go_and_have_not_failed() {
    let mut model = cluster();
    let job = model.job("less", json!({"parallelism": 4, "completions": 8}));
    model.settle();
    model.change(&job, |job| job["spec"]["parallelism"] = 1.into());
    model.settle();
    assert_eq!(running(&model, "less").len(), 1);
    let status = &model.get(&job)["status"];
    assert_eq!((&status["active"], &status["failed"]), (&json!(1), &Value::Null));
    model.change(&job, |job| job["spec"]["parallelism"] = 0.into());
    model.settle();
    assert_eq!(running(&model, "less").len(), 0);
    assert!(!holds(model.get(&job), "Complete"));
}

#[test]
fn nothing_is_left_of_a_job_that_is_deleted() {
    for foreground in [false, true] {
        let mut model = cluster();
        let job = model.job("gone", json!({"parallelism": 3, "completions": 3}));
        model.settle();
        let pods = running(&model, "gone");
        model.end(&pods[0], 0);
        model.delete_pod(&pods[1]);
        if foreground {
            let now = model.now.to_string();
            model.change(&job, |job| {
                job["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
                job["metadata"]["deletionTimestamp"] = now.into();
                job["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            });
        } else {
            model.remove(&job);
        }
        model.settle();
        assert!(!model.objects.contains_key(&job) && model.pods().count() == 0, "{foreground}");
    }
}

#[test]
fn a_namespace_with_jobs_can_go() {
    let mut model = cluster();
    model.job("gone", json!({"parallelism": 2}));
    model.settle();
    let namespace = Key::new(NAMESPACES, "", "default");
    let now = model.now.to_string();
    model.change(&namespace, |namespace| {
        namespace["metadata"]["deletionTimestamp"] = now.into();
        namespace["status"]["phase"] = "Terminating".into();
    });
    model.settle();
    assert_eq!((model.pods().count(), model.list(JOBS).count()), (0, 0));
}

#[test]
fn pods_of_a_node_that_is_lost_or_gone_are_replaced_and_counted() {
    let mut model = Model::new(3);
    model.gate = Some(Gate::new(&ClusterConfig::default()));
    let job = model.job("far", json!({"parallelism": 3, "completions": 3}));
    model.settle();
    let node = model.get(&running(&model, "far")[0])["spec"]["nodeName"].as_str().unwrap().to_owned();
    let index = node.trim_start_matches("node-").parse().unwrap();
    let lost =
        running(&model, "far").iter().filter(|key| model.get(key)["spec"]["nodeName"] == *node).count();
    model.hear(index, 60);
    model.settle();
    wait(&mut model, 30);
    assert_eq!(model.get(&job)["status"]["failed"], lost);
    assert_eq!(running(&model, "far").len(), 3, "they run elsewhere");
    assert_eq!(model.get(&job)["status"]["terminating"], lost, "the node has not said that it is over");
    model.nodes.remove(&node);
    model.remove(&Key::new(NODES, "", &node));
    model.settle();
    assert_eq!(model.get(&job)["status"]["terminating"], 0);
    end_all(&mut model, "far", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
}

#[test]
fn who_waits_for_the_end_of_a_pod_learns_that_its_node_is_gone() {
    let mut model = Model::new(2);
    model.gate = Some(Gate::new(&ClusterConfig::default()));
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]);
    let job = model.job("moved", json!({"podFailurePolicy": {"rules": rules}, "backoffLimit": 0}));
    model.settle();
    let node = model.get(&running(&model, "moved")[0])["spec"]["nodeName"].as_str().unwrap().to_owned();
    model.hear(node.trim_start_matches("node-").parse().unwrap(), 60);
    model.settle();
    wait(&mut model, 30);
    assert_eq!(running(&model, "moved").len(), 0, "it may still run");
    model.nodes.remove(&node);
    model.remove(&Key::new(NODES, "", &node));
    model.settle();
    wait(&mut model, 10);
    assert_eq!(running(&model, "moved").len(), 1);
    end_all(&mut model, "moved", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert!(model.get(&job)["status"]["failed"].is_null(), "a disruption is ignored");
}

#[test]
fn what_others_noted_as_not_counted_is_counted() {
    let mut model = cluster();
    let job = model.job("moved", json!({"completions": 5, "parallelism": 1}));
    model.settle();
    let pod = running(&model, "moved")[0].clone();
    model.end(&pod, 0);
    let uid = model.get(&pod)["metadata"]["uid"].clone();
    model.change(&job, |job| {
        job["status"]["uncountedTerminatedPods"] = json!({"succeeded": [uid, "a"], "failed": ["b", "c"]});
    });
    model.settle();
    let status = &model.get(&job)["status"];
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(2), &json!(2)), "{status}");
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
}

#[test]
fn numbers_at_the_edges_stop_nothing() {
    for number in [json!(i32::MAX), json!(0)] {
        let mut model = Model::new(1);
        let spec = json!({"completions": number, "parallelism": number, "backoffLimit": number,
            "completionMode": "Indexed", "backoffLimitPerIndex": number, "maxFailedIndexes": number,
            "activeDeadlineSeconds": i64::MAX, "ttlSecondsAfterFinished": i32::MAX});
        model.job("edge", spec);
        passes(&mut model, 3);
        running(&model, "edge").iter().take(5).for_each(|key| model.end(key, 1));
        model.now += SignedDuration::from_secs(500);
        passes(&mut model, 3);
        let wait = |(_, pod): &(&Key, &Value)| pod["spec"]["nodeName"].is_null() && !has_ended(pod);
        assert!(model.pods().filter(wait).count() <= 500, "no more than may wait for a node");
    }
}
