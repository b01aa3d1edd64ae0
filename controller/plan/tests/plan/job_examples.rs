//! What Kubernetes' own tests expect of jobs that end in other ways than one pod after the other.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    job_policies::{end, indexed, of},
    jobs::{assert_ended, cluster, end_all, holds, is_tracked, passes, running, wait},
    model::{Model, condition, finalizers, is_deleting},
};

/// A job whose pods stay when they are deleted, because somebody holds them.
fn held(model: &mut Model, spec: Value) -> Key {
    let job = model.job("held", spec);
    model.change(&job, |job| {
        job["spec"]["template"]["metadata"]["finalizers"] = json!(["example.com/hold"]);
    });
    model.settle();
    job
}

/// `succeeded`, `failed` and `terminating` of a status.
fn counts(model: &Model, job: &Key) -> (i64, i64, i64) {
    let status = &model.get(job)["status"];
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    (number("succeeded"), number("failed"), number("terminating"))
}

#[test]
fn a_job_that_fails_counts_what_it_stops_as_failed_and_waits_for_it() {
    for policy in ["TerminatingOrFailed", "Failed"] {
        let mut model = cluster();
        let spec =
            json!({"parallelism": 2, "completions": 2, "backoffLimit": 0, "podReplacementPolicy": policy});
        let job = held(&mut model, spec);
        let pods = running(&model, "held");
        model.end(&pods[0], 1);
        passes(&mut model, 2);
        assert_ended(model.get(&job), "FailureTarget", "BackoffLimitExceeded");
        assert!(!holds(model.get(&job), "Failed"));
        assert_eq!(counts(&model, &job), (0, 2, 1), "{policy}");
        // However it ends, it has failed with its job.
        model.end(&pods[1], 0);
        passes(&mut model, 2);
        assert_ended(model.get(&job), "Failed", "BackoffLimitExceeded");
        assert_eq!(counts(&model, &job), (0, 2, 0), "{policy}");
        let status = &model.get(&job)["status"];
        assert_eq!((&status["ready"], &status["active"]), (&json!(0), &Value::Null));
        assert!(model.pods().all(|(_, pod)| !is_tracked(pod)));
    }
}

#[test]
fn a_job_that_succeeds_does_not_count_what_it_stops_and_waits_for_it() {
    let mut model = cluster();
    let job = held(&mut model, indexed(2, json!({})));
    let (first, second) = (of(&model, "held", 0).unwrap(), of(&model, "held", 1).unwrap());
    model.end(&first, 0);
    model.change(&job, |job| {
        job["spec"]["completions"] = 1.into();
        job["spec"]["parallelism"] = 1.into();
    });
    passes(&mut model, 2);
    assert_ended(model.get(&job), "SuccessCriteriaMet", "CompletionsReached");
    assert!(!holds(model.get(&job), "Complete") && model.get(&job)["status"]["completionTime"].is_null());
    assert_eq!(counts(&model, &job), (1, 0, 1));
    model.end(&second, 0);
    passes(&mut model, 2);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert_eq!(counts(&model, &job), (1, 0, 0));
    assert_eq!(model.get(&job)["status"]["completedIndexes"], "0");
}

#[test]
fn pods_that_a_deadline_stops_have_failed_though_they_end_well() {
    let mut model = cluster();
    let job =
        held(&mut model, indexed(2, json!({"activeDeadlineSeconds": 5, "podReplacementPolicy": "Failed"})));
    wait(&mut model, 10);
    assert!(running(&model, "held").is_empty());
    let pods: Vec<Key> = model.pods().map(|(key, _)| key.clone()).collect();
    pods.iter().for_each(|pod| model.end(pod, 0));
    model.settle();
    assert_ended(model.get(&job), "Failed", "DeadlineExceeded");
    assert_eq!(counts(&model, &job), (0, 2, 0));
    assert!(model.get(&job)["status"]["completedIndexes"].is_null());
}

#[test]
fn a_worker_that_leaves_holds_up_the_end_but_not_that_there_was_enough() {
    let mut model = cluster();
    let job = held(&mut model, json!({"parallelism": 2}));
    let pods = running(&model, "held");
    model.end(&pods[0], 0);
    model.change(&job, |job| job["spec"]["suspend"] = true.into());
    passes(&mut model, 2);
    assert_ended(model.get(&job), "SuccessCriteriaMet", "CompletionsReached");
    assert!(!holds(model.get(&job), "Complete"));
    model.end(&pods[1], 1);
    model.settle();
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert_eq!(counts(&model, &job), (1, 0, 0));
}

#[test]
fn workers_go_on_once_one_has_succeeded() {
    let mut model = cluster();
    let job = model.job("queue", json!({"parallelism": 3}));
    model.settle();
    let pods = running(&model, "queue");
    model.end(&pods[0], 0);
    model.settle();
    model.change(&job, |job| job["spec"]["parallelism"] = 1.into());
    model.settle();
    assert_eq!(running(&model, "queue").len(), 2);
}

#[test]
fn a_job_without_anything_to_do_is_complete_even_if_it_is_suspended() {
    for suspend in [false, true] {
        let mut model = cluster();
        let job = model.job("nothing", json!({"completions": 0, "suspend": suspend}));
        model.settle();
        for kind in ["SuccessCriteriaMet", "Complete"] {
            assert_ended(model.get(&job), kind, "CompletionsReached");
        }
        let status = &model.get(&job)["status"];
        assert!(status["completionTime"].is_string());
        assert_eq!(status["startTime"].is_string(), !suspend);
        assert_eq!(model.pods().count(), 0);
    }
}

#[test]
fn a_job_does_not_complete_before_it_began_when_the_clock_is_set_back() {
    let mut model = cluster();
    let job = model.job("clock", json!({}));
    model.settle();
    let began = model.get(&job)["status"]["startTime"].clone();
    wait(&mut model, -3_600);
    end_all(&mut model, "clock", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert_eq!(model.get(&job)["status"]["completionTime"], began);
}

#[test]
fn indexes_fail_for_themselves_and_the_job_with_them() {
    let mut model = cluster();
    let job = model.job("odd", indexed(4, json!({"backoffLimitPerIndex": 1, "parallelism": 2})));
    model.settle();
    assert_eq!(model.get(&job)["spec"]["backoffLimit"], i32::MAX);
    for _ in 0..8 {
        for index in 0..4 {
            if of(&model, "odd", index).is_some() {
                end(&mut model, "odd", &[(index, (index % 2) as i32)]);
            }
        }
        wait(&mut model, 20);
    }
    assert_ended(model.get(&job), "Failed", "FailedIndexes");
    let status = &model.get(&job)["status"];
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("1,3"), &json!("0,2")));
    assert_eq!(counts(&model, &job), (2, 4, 0));
    let mut seen: Vec<_> = model
        .pods()
        .filter(|(_, pod)| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1")
        .map(|(_, pod)| pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"].clone())
        .collect();
    seen.sort_by_key(|count| count.as_str().map(str::to_owned));
    assert_eq!(seen, ["0", "1"]);
}

#[test]
fn the_limit_of_the_job_may_be_reached_before_that_of_an_index() {
    let mut model = cluster();
    let job = model.job("both", indexed(3, json!({"backoffLimitPerIndex": 1, "backoffLimit": 2})));
    model.settle();
    for (index, failed) in [(0, 1), (1, 2)] {
        end(&mut model, "both", &[(index, 1)]);
        wait(&mut model, 10);
        assert_eq!(counts(&model, &job), (0, failed, 0));
        assert_eq!(running(&model, "both").len(), 3);
    }
    end(&mut model, "both", &[(2, 1)]);
    assert_ended(model.get(&job), "Failed", "BackoffLimitExceeded");
    assert_eq!(counts(&model, &job), (0, 5, 0));
    assert_eq!(model.get(&job)["status"]["failedIndexes"], "", "none was tried often enough");
}

#[test]
fn a_job_may_end_with_its_first_failed_index() {
    let mut model = cluster();
    let spec = json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 0, "parallelism": 1});
    let job = model.job("first", indexed(4, spec));
    model.settle();
    end(&mut model, "first", &[(0, 1)]);
    assert_ended(model.get(&job), "Failed", "MaxFailedIndexesExceeded");
    assert_eq!(model.get(&job)["status"]["failedIndexes"], "0");
    assert_eq!((counts(&model, &job), model.pods().count()), ((0, 1, 0), 1));
}

#[test]
fn an_index_that_failed_is_not_made_good_by_a_policy_for_successes() {
    let mut model = cluster();
    let spec = json!({"backoffLimitPerIndex": 0, "successPolicy": {"rules": [{"succeededCount": 1}]}});
    let job = model.job("both", indexed(2, spec));
    model.settle();
    end(&mut model, "both", &[(0, 1)]);
    end(&mut model, "both", &[(1, 0)]);
    assert_ended(model.get(&job), "Failed", "FailedIndexes");
    assert_eq!(counts(&model, &job), (1, 1, 0));
}

#[test]
fn a_failure_per_index_that_is_ignored_does_not_reach_the_limit() {
    let rules = json!([{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}}]);
    let mut model = cluster();
    let job =
        model.job("ignored", indexed(3, json!({"backoffLimit": 2, "podFailurePolicy": {"rules": rules}})));
    model.settle();
    end_all(&mut model, "ignored", 42);
    wait(&mut model, 60);
    assert_eq!(running(&model, "ignored").len(), 3);
    end_all(&mut model, "ignored", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert_eq!(counts(&model, &job), (3, 0, 0));
}

#[test]
fn pods_that_are_evicted_and_ignored_are_made_anew() {
    let rules =
        json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
    let mut model = cluster();
    let job =
        model.job("evicted", indexed(3, json!({"backoffLimit": 2, "podFailurePolicy": {"rules": rules}})));
    model.settle();
    assert_eq!(model.get(&job)["status"]["ready"], 3);
    let pods = running(&model, "evicted");
    for pod in &pods {
        model.change(pod, |pod| {
            let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
            conditions.push(
                json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}),
            );
        });
        model.delete_pod(pod);
    }
    model.settle();
    wait(&mut model, 60);
    assert!(pods.iter().all(|pod| !model.objects.contains_key(pod)), "nothing holds what was counted");
    end_all(&mut model, "evicted", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert_eq!(counts(&model, &job), (3, 0, 0));
}

#[test]
fn pods_out_of_range_count_for_nothing() {
    let mut model = cluster();
    let job = held(&mut model, indexed(3, json!({})));
    let last = of(&model, "held", 2).unwrap();
    model.change(&job, |job| {
        job["spec"]["completions"] = 2.into();
        job["spec"]["parallelism"] = 2.into();
    });
    model.end(&last, 1);
    model.settle();
    assert_eq!(counts(&model, &job), (0, 0, 0));
    assert!(!is_tracked(model.get(&last)));
}

#[test]
fn whoever_is_suspended_again_and_again_says_how_many_are_ready() {
    let mut model = cluster();
    let job = model.job("ready", json!({"suspend": true, "parallelism": 2, "completions": 4}));
    for (suspend, ready) in [(true, 0), (false, 2), (true, 0), (false, 2)] {
        model.change(&job, |job| job["spec"]["suspend"] = suspend.into());
        wait(&mut model, 1);
        let status = &model.get(&job)["status"];
        assert_eq!((&status["ready"], &status["terminating"]), (&json!(ready), &json!(0)));
        let said = condition(model.get(&job), "Suspended");
        assert_eq!(said["status"], if suspend { "True" } else { "False" });
        assert_eq!(said["message"], if suspend { "Job suspended" } else { "Job resumed" });
    }
    assert_eq!(counts(&model, &job), (0, 0, 0), "nothing has failed");
}

#[test]
fn what_others_say_of_a_job_is_kept() {
    let mut model = cluster();
    let job = model.job("status", json!({"parallelism": 2, "completions": 4}));
    model.settle();
    let said = json!({"type": "CustomConditionType", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    model.change(&job, |job| job["status"]["conditions"] = json!([said]));
    model.settle();
    end_all(&mut model, "status", 0);
    end_all(&mut model, "status", 0);
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
    assert_eq!(*condition(model.get(&job), "CustomConditionType"), said);
}

#[test]
fn more_successes_than_were_wanted_are_told() {
    let mut model = cluster();
    let job = model.job("extra", json!({}));
    model.settle();
    let pod = running(&model, "extra")[0].clone();
    let mut twin = model.get(&pod).clone();
    twin["metadata"]["name"] = "extra-twin".into();
    twin["metadata"]["uid"] = "twin".into();
    twin["status"]["podIP"] = Value::Null;
    model.put(PODS, "default", twin);
    end_all(&mut model, "extra", 0);
    assert_eq!(counts(&model, &job), (2, 0, 0));
    assert!(
        model.told("extra").is_superset(&["TooManySucceededPods", "Completed"].map(str::to_owned).into())
    );
}

#[test]
fn a_job_that_somebody_else_ended_goes_when_its_time_is_up() {
    let mut model = cluster();
    let job = model.job("theirs", json!({"managedBy": "example.com/queue", "ttlSecondsAfterFinished": 30}));
    let now = model.now.to_string();
    model.change(&job, |job| {
        let is = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        job["status"] = json!({"conditions": [is("SuccessCriteriaMet"), is("Complete")]});
    });
    wait(&mut model, 20);
    assert!(model.objects.contains_key(&job));
    wait(&mut model, 15);
    assert!(!model.objects.contains_key(&job));
}

#[test]
fn pods_of_a_job_that_is_deleted_without_them_run_on() {
    let mut model = cluster();
    let job = model.job("parent", json!({"parallelism": 2, "completions": 2}));
    model.settle();
    let now = model.now.to_string();
    model.change(&job, |job| {
        job["metadata"]["finalizers"] = json!(["orphan"]);
        job["metadata"]["deletionTimestamp"] = now.into();
        job["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    });
    model.settle();
    assert!(!model.objects.contains_key(&job));
    let pods = running(&model, "parent");
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert!(model.get(&pod)["metadata"]["ownerReferences"].is_null());
        assert!(finalizers(model.get(&pod)).is_empty() && !is_deleting(model.get(&pod)));
    }
}

#[test]
fn more_pods_than_one_commit_holds_are_stopped_in_several() {
    let mut model = cluster();
    let job = model.job("many", json!({"parallelism": 700, "completions": 700, "activeDeadlineSeconds": 60}));
    passes(&mut model, 3);
    let all = running(&model, "many").len();
    assert!(all > 500, "{all}");
    model.now = model.wake_at();
    for left in [all - 500, 0] {
        model.pass();
        assert_eq!(running(&model, "many").len(), left);
        assert_eq!(counts(&model, &job).1, (all - left) as i64);
    }
    model.settle();
    assert_ended(model.get(&job), "Failed", "DeadlineExceeded");
    assert_eq!(counts(&model, &job), (0, all as i64, 0));
}
