//! What jobs' policies say of pods that fail, and of indexes that fail or succeed.

use serde_json::{Value, json};
use warren_state::Key;

use crate::{
    jobs::{assert_ended, cluster, end_all, holds, running, wait},
    model::{Model, condition, is_deleting},
};

const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// The pod of an index that runs.
pub(crate) fn of(model: &Model, app: &str, index: i64) -> Option<Key> {
    let label = |pod: &Value| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"].clone();
    let index = index.to_string();
    running(model, app).into_iter().find(|key| label(model.get(key)) == index)
}

/// The pod of each of these indexes ends with its code.
pub(crate) fn end(model: &mut Model, app: &str, codes: &[(i64, i32)]) {
    for (index, code) in codes {
        let key = of(model, app, *index).unwrap_or_else(|| panic!("no pod of index {index}"));
        model.end(&key, *code);
    }
    model.settle();
}

pub(crate) fn indexed(completions: i64, more: Value) -> Value {
    let mut spec =
        json!({"completions": completions, "parallelism": completions, "completionMode": "Indexed"});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

#[test]
fn a_code_may_fail_the_job_or_not_count_at_all() {
    let rules = json!([
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Count", "onExitCodes": {"operator": "In", "values": [1], "containerName": "main"}},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [1, 42], "containerName": "main"}},
    ]);
    let mut model = cluster();
    let spec =
        json!({"backoffLimit": 1, "completions": 3, "parallelism": 2, "podFailurePolicy": {"rules": rules}});
    let job = model.job("policy", spec);
    model.settle();
    let pods = running(&model, "policy");
    model.end(&pods[0], 42);
    model.settle();
    assert!(model.get(&job)["status"]["failed"].is_null(), "ignored");
    wait(&mut model, 20);
    assert_eq!(running(&model, "policy").len(), 2, "and replaced");
    model.end(&pods[1], 1);
    model.settle();
    assert_eq!(model.get(&job)["status"]["failed"], 1);
    wait(&mut model, 30);
    let last = running(&model, "policy")[0].clone();
    model.end(&last, 7);
    model.settle();
    assert_ended(model.get(&job), "FailureTarget", "PodFailurePolicy");
    assert_ended(model.get(&job), "Failed", "PodFailurePolicy");
    let message = format!(
        "Container main for pod default/{} failed with exit code 7 matching FailJob rule at index 2",
        last.name
    );
    assert_eq!(condition(model.get(&job), "Failed")["message"], message);
    assert!(running(&model, "policy").is_empty());
}

#[test]
fn a_disruption_may_be_ignored() {
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]);
    let mut model = cluster();
    let spec = json!({"backoffLimit": 0, "podFailurePolicy": {"rules": rules}});
    let job = model.job("disrupted", spec);
    model.settle();
    let pod = running(&model, "disrupted")[0].clone();
    model.end(&pod, 143);
    model.change(&pod, |pod| {
        pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
    });
    model.settle();
    wait(&mut model, 15);
    assert!(!holds(model.get(&job), "Failed") && model.get(&job)["status"]["failed"].is_null());
    end_all(&mut model, "disrupted", 1);
    assert_ended(model.get(&job), "Failed", "BackoffLimitExceeded");
}

#[test]
fn indexes_fail_for_themselves() {
    let mut model = cluster();
    let job = model.job("each", indexed(4, json!({"backoffLimitPerIndex": 1})));
    model.settle();
    assert!(model.active("each").all(|(_, pod)| pod["metadata"]["annotations"][FAILURES] == "0"));
    assert_eq!(model.get(&job)["status"]["failedIndexes"], "");
    end(&mut model, "each", &[(0, 1), (1, 0), (2, 1)]);
    assert!(of(&model, "each", 0).is_none(), "not yet");
    wait(&mut model, 12);
    let again = of(&model, "each", 0).unwrap();
    assert_eq!(model.get(&again)["metadata"]["annotations"][FAILURES], "1");
    assert_eq!(model.get(&job)["status"]["failed"], 2, "counted once they are replaced");
    end(&mut model, "each", &[(0, 1), (2, 0)]);
    let status = &model.get(&job)["status"];
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("0"), &json!("1,2")));
    wait(&mut model, 500);
    assert!(of(&model, "each", 0).is_none() && !holds(model.get(&job), "FailureTarget"), "the others go on");
    end(&mut model, "each", &[(3, 0)]);
    assert_ended(model.get(&job), "Failed", "FailedIndexes");
    let status = &model.get(&job)["status"];
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(3), &json!(3)));
    assert_eq!(status["completedIndexes"], "1-3");
}

#[test]
fn too_many_indexes_that_fail_end_the_job() {
    let mut model = cluster();
    let job = model.job("many", indexed(5, json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 1})));
    model.settle();
    end(&mut model, "many", &[(4, 1)]);
    assert!(!holds(model.get(&job), "FailureTarget"));
    let pod = of(&model, "many", 2).unwrap();
    model.end(&pod, 1);
    model.pass();
    assert_ended(model.get(&job), "FailureTarget", "MaxFailedIndexesExceeded");
    assert_eq!(model.get(&job)["status"]["failedIndexes"], "2,4");
    model.settle();
    assert_ended(model.get(&job), "Failed", "MaxFailedIndexesExceeded");
    assert_eq!(model.get(&job)["status"]["failed"], 5, "those that were stopped have failed");
}

#[test]
fn a_policy_may_fail_an_index_at_once() {
    let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [9]}}]);
    let mut model = cluster();
    let spec = json!({"backoffLimitPerIndex": 5, "podFailurePolicy": {"rules": rules}});
    let job = model.job("index", indexed(2, spec));
    model.settle();
    end(&mut model, "index", &[(0, 9), (1, 1)]);
    assert_eq!(model.get(&job)["status"]["failedIndexes"], "0");
    wait(&mut model, 20);
    assert!(of(&model, "index", 0).is_none() && of(&model, "index", 1).is_some());
    end(&mut model, "index", &[(1, 0)]);
    assert_ended(model.get(&job), "Failed", "FailedIndexes");
}

#[test]
fn ignored_failures_of_an_index_are_waited_after_and_do_not_count() {
    let rules = json!([{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [5]}}]);
    let mut model = cluster();
    let spec = json!({"backoffLimitPerIndex": 0, "podFailurePolicy": {"rules": rules}});
    let job = model.job("patient", indexed(1, spec));
    model.settle();
    for (pause, ignored) in [(10, "1"), (20, "2")] {
        end(&mut model, "patient", &[(0, 5)]);
        wait(&mut model, pause);
        let pod = of(&model, "patient", 0).unwrap();
        let annotations = &model.get(&pod)["metadata"]["annotations"];
        assert_eq!(annotations[FAILURES], "0");
        assert_eq!(annotations["batch.kubernetes.io/job-index-ignored-failure-count"], ignored);
    }
    end(&mut model, "patient", &[(0, 1)]);
    assert_ended(model.get(&job), "Failed", "FailedIndexes");
    assert_eq!(model.get(&job)["status"]["failed"], 1);
}

#[test]
fn some_indexes_may_be_enough() {
    for (rules, ends, rule) in [
        (json!([{"succeededIndexes": "1"}]), vec![(1, 0)], 0),
        (json!([{"succeededCount": 2}]), vec![(0, 0), (3, 0)], 0),
        (
            json!([{"succeededIndexes": "0,2"}, {"succeededIndexes": "1-3", "succeededCount": 1}]),
            vec![(3, 0)],
            1,
        ),
    ] {
        let mut model = cluster();
        let job = model.job("enough", indexed(4, json!({"successPolicy": {"rules": rules}})));
        model.settle();
        for (index, code) in &ends[..ends.len() - 1] {
            end(&mut model, "enough", &[(*index, *code)]);
            assert!(!holds(model.get(&job), "SuccessCriteriaMet"));
        }
        let (last, _) = ends[ends.len() - 1];
        let pod = of(&model, "enough", last).unwrap();
        model.end(&pod, 0);
        model.pass();
        assert_ended(model.get(&job), "SuccessCriteriaMet", "SuccessPolicy");
        assert!(!holds(model.get(&job), "Complete"), "the others run still");
        assert!(running(&model, "enough").is_empty());
        assert_eq!(model.pods().filter(|(_, pod)| is_deleting(pod)).count(), 4 - ends.len());
        model.settle();
        assert_ended(model.get(&job), "Complete", "SuccessPolicy");
        let said = condition(model.get(&job), "Complete");
        assert_eq!(said["message"], format!("Matched rules at index {rule}"));
        let status = &model.get(&job)["status"];
        assert_eq!((&status["succeeded"], &status["failed"]), (&json!(ends.len()), &Value::Null));
        assert_eq!((&status["ready"], &status["terminating"]), (&json!(0), &json!(0)));
    }
}

#[test]
fn an_indexed_job_may_grow_and_shrink() {
    let mut model = cluster();
    let job = model.job("elastic", indexed(4, json!({})));
    model.settle();
    end(&mut model, "elastic", &[(0, 0), (3, 0)]);
    for size in [2, 5] {
        model.change(&job, |job| {
            job["spec"]["completions"] = size.into();
            job["spec"]["parallelism"] = size.into();
        });
        model.settle();
        assert_eq!(model.get(&job)["status"]["completedIndexes"], "0");
        assert_eq!(running(&model, "elastic").len() as i64, size - 1);
    }
    end_all(&mut model, "elastic", 0);
    assert_eq!(model.get(&job)["status"]["completedIndexes"], "0-4");
    assert_ended(model.get(&job), "Complete", "CompletionsReached");
}
