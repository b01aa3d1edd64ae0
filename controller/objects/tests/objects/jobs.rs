//! What is refused of Jobs: their policies, their bounds, changes of them, and what is said of how they go.

use serde_json::{Value, json};
use warren_objects::validate;

use crate::{
    kinds::{changed, defaulted, refused, update_refused},
    more_samples::JOB,
    samples::served,
};

const RESOURCE: &str = "jobs.batch";

fn wrong(changes: &[(&str, Value)]) -> Vec<String> {
    refused(RESOURCE, JOB, changes)
}

#[test]
fn policies_for_successes() {
    let rules = |rules: Value| [("spec.successPolicy", json!({"rules": rules}))];
    let good = json!([{"succeededIndexes": "0,2-4", "succeededCount": 2}]);
    assert!(wrong(&rules(good)).is_empty());
    for (rule, message) in [
        (
            json!({"succeededIndexes": "3-5"}),
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"3-5\": error parsing succeededIndexes: too \
             large index: \"5\"",
        ),
        (
            json!({"succeededCount": 6}),
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number \
             of specified completions)",
        ),
        (
            json!({"succeededCount": 3, "succeededIndexes": "0,4"}),
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number \
             of indexes in the specified succeededIndexes field)",
        ),
        (
            json!({}),
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be \
             specified",
        ),
    ] {
        assert_eq!(wrong(&rules(json!([rule]))), [message]);
    }
    let many = vec![json!({"succeededCount": 1}); 21];
    assert_eq!(
        wrong(&rules(json!(many))),
        ["spec.successPolicy.rules: Too many: 21: must have at most 20 items"]
    );
    assert_eq!(
        wrong(&rules(json!([]))),
        [
            "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is \
             specified"
        ]
    );
}

#[test]
fn policies_for_failures() {
    for (rule, message) in [
        (
            json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}),
            "action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ),
        (
            json!({"onExitCodes": {"operator": "In", "values": [1]}}),
            "action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
        ),
        (
            json!({"action": "Stop", "onExitCodes": {"operator": "In", "values": [1]}}),
            "action: Unsupported value: \"Stop\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}),
            "onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [2, 1]}}),
            "onExitCodes.values: Invalid value: [2,1]: must be ordered",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [1, 1]}}),
            "onExitCodes.values[1]: Duplicate value: 1",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": []}}),
            "onExitCodes.values: Invalid value: []: at least one value is required",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [1], "containerName": "no"}}),
            "onExitCodes.containerName: Invalid value: \"no\": must be one of the container or initContainer names in \
             the pod template",
        ),
        (
            json!({"action": "Count", "onPodConditions": [{"type": "A", "status": "Perhaps"}]}),
            "onPodConditions[0].status: Unsupported value: \"Perhaps\": supported values: \"False\", \"True\", \
             \"Unknown\"",
        ),
    ] {
        let expected = format!("spec.podFailurePolicy.rules[0].{message}");
        assert_eq!(wrong(&[("spec.podFailurePolicy", json!({"rules": [rule]}))]), [expected]);
    }
    let neither = json!({"rules": [{"action": "Count"}]});
    assert_eq!(
        wrong(&[("spec.podFailurePolicy", neither)]),
        [
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"
        ]
    );
    assert_eq!(
        wrong(&[("spec.podReplacementPolicy", json!("TerminatingOrFailed"))]),
        [
            "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\""
        ]
    );
}

#[test]
fn bounds_of_indexed_jobs() {
    assert_eq!(
        wrong(&[("spec.maxFailedIndexes", json!(1))]),
        ["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"]
    );
    let per_index = ("spec.backoffLimitPerIndex", json!(1));
    assert_eq!(
        wrong(&[per_index.clone(), ("spec.maxFailedIndexes", json!(6))]),
        ["spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions"]
    );
    let many = ("spec.completions", json!(100_001));
    assert_eq!(
        wrong(&[per_index.clone(), many.clone()]),
        ["spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"]
    );
    let few = ("spec.maxFailedIndexes", json!(10));
    assert_eq!(
        wrong(&[per_index, many, few, ("spec.parallelism", json!(10_001))]),
        [
            "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above \
             100000 and used with backoff limit per index"
        ]
    );
    let name = "a".repeat(62);
    assert_eq!(
        wrong(&[("metadata.name", json!(name))]),
        [format!(
            "metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-4"
        )]
    );
}

#[test]
fn who_runs_a_job_has_a_domain() {
    assert!(wrong(&[("spec.managedBy", json!("example.com/queue"))]).is_empty());
    for (name, message) in [
        ("queue", "Invalid value: \"queue\": must be a domain-prefixed path (such as \"acme.io/foo\")"),
        ("", "Required value"),
        (
            "example.com/a b",
            "Invalid value: \"a b\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        ),
    ] {
        let found = wrong(&[("spec.managedBy", json!(name))]);
        let shown = message.replace('\\', "\\\\");
        assert!(
            found == [format!("spec.managedBy: {message}")] || found == [format!("spec.managedBy: {shown}")],
            "{found:?}"
        );
    }
    let long = format!("example.com/{}", "a".repeat(52));
    assert_eq!(
        wrong(&[("spec.managedBy", json!(long))]),
        ["spec.managedBy: Too long: may not be more than 63 bytes"]
    );
}

#[test]
fn labels_are_those_of_the_job() {
    let labels = json!({"controller-uid": "u-0", "job-name": "pi"});
    let found = wrong(&[("spec.template.metadata", json!({"labels": labels}))]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("spec.template.metadata.labels[controller-uid]: Invalid value: ")
            && found[0].ends_with(": must be 'u-1'"),
        "{found:?}"
    );
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-0"}});
    assert!(wrong(&[("spec.selector", selector)])[0].ends_with("`selector` not auto-generated"));
}

#[test]
fn what_a_job_is_to_do_stays() {
    let change = |changes: &[(&str, Value)]| update_refused(RESOURCE, JOB, changes);
    assert_eq!(
        change(&[("spec.completions", json!(4))]),
        ["spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism"]
    );
    assert!(change(&[("spec.completions", json!(3)), ("spec.parallelism", json!(3))]).is_empty());
    for (field, value) in [
        ("completionMode", json!("NonIndexed")),
        ("podFailurePolicy", json!({"rules": []})),
        ("managedBy", json!("example.com/a")),
        ("backoffLimitPerIndex", json!(1)),
        ("successPolicy", json!({"rules": [{"succeededCount": 1}]})),
    ] {
        let found = change(&[(&format!("spec.{field}"), value)]);
        let expected = format!("spec.{field}: Invalid value: ");
        assert!(
            found
                .iter()
                .any(|message| message.starts_with(&expected) && message.ends_with("field is immutable")),
            "{found:?}"
        );
    }
    for (field, value) in [
        ("suspend", json!(true)),
        ("backoffLimit", json!(9)),
        ("activeDeadlineSeconds", json!(9)),
        ("ttlSecondsAfterFinished", json!(9)),
    ] {
        assert_eq!(change(&[(&format!("spec.{field}"), value)]), [""; 0], "{field}");
    }
}

/// The messages about a change of a Job with this `suspend` and status.
fn template_refused(suspend: bool, status: Value, changes: &[(&str, Value)]) -> Vec<String> {
    let base = [("spec.suspend", json!(suspend)), ("status", status)];
    let old = defaulted(RESOURCE, changed(JOB, &base));
    let both: Vec<(&str, Value)> = base.iter().chain(changes).cloned().collect();
    let new = defaulted(RESOURCE, changed(JOB, &both));
    validate::update(served(RESOURCE), &old, &new).iter().map(ToString::to_string).collect()
}

#[test]
fn where_pods_may_run_is_open_until_the_job_has_begun() {
    let began = json!({"startTime": "2026-01-01T00:00:00Z"});
    let node = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}});
    for (field, value) in [
        ("spec.nodeSelector", json!({"disk": "fast"})),
        ("spec.tolerations", json!([{"operator": "Exists"}])),
        ("spec.schedulingGates", json!([{"name": "example.com/gate"}])),
        ("spec.affinity", json!({"nodeAffinity": node})),
        ("metadata.annotations", json!({"a": "b"})),
        ("metadata.labels", json!({"a": "b"})),
    ] {
        let change = [(&*format!("spec.template.{field}"), value)];
        let of_template = |message: &&String| message.starts_with("spec.template: Invalid value: ");
        let refused = template_refused(true, json!({}), &change);
        assert_eq!(refused.iter().find(of_template), None, "{field}");
        for (suspend, status) in [(true, began.clone()), (false, json!({}))] {
            let found = template_refused(suspend, status, &change);
            assert!(
                found.iter().any(|message| message.starts_with("spec.template: Invalid value: ")),
                "{field}"
            );
        }
    }
    let pods = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1,
        "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}}]}});
    let change = [("spec.template.spec.affinity", pods)];
    assert_eq!(template_refused(true, json!({}), &change).len(), 1, "only that of nodes");
}

/// The messages about a change of a Job's status.
fn status_refused(old: Value, new: Value, more: &[(&str, Value)]) -> Vec<String> {
    let with = |status| {
        let all: Vec<(&str, Value)> = [("status", status)].iter().chain(more).cloned().collect();
        defaulted(RESOURCE, changed(JOB, &all))
    };
    validate::around(served(RESOURCE), &with(old), &with(new)).iter().map(ToString::to_string).collect()
}

fn conditions(kinds: &[&str]) -> Value {
    let list = kinds.iter().map(|kind| json!({"type": kind, "status": "True"}));
    list.collect::<Vec<_>>().into()
}

fn with(kinds: &[&str], more: Value) -> Value {
    let mut status = json!({"startTime": "2026-01-01T00:00:00Z"});
    status["conditions"] = conditions(kinds);
    for (field, value) in more.as_object().unwrap() {
        status[field] = value.clone();
    }
    status
}

const DONE: &str = "2026-01-01T00:01:00Z";

#[test]
fn how_a_job_goes_and_ends() {
    let runs = || with(&[], json!({"active": 2, "ready": 1}));
    let fine = with(&["SuccessCriteriaMet", "Complete"], json!({"completionTime": DONE, "succeeded": 5}));
    assert_eq!(status_refused(runs(), fine.clone(), &[]), [""; 0]);
    let failed = with(&["FailureTarget", "Failed"], json!({"failed": 3}));
    assert_eq!(status_refused(runs(), failed.clone(), &[]), [""; 0]);
    assert_eq!(status_refused(fine.clone(), fine.clone(), &[]), [""; 0]);
    for (new, message) in [
        (
            with(&["Failed"], json!({})),
            "status.conditions: Invalid value: cannot set Failed=True condition without",
        ),
        (
            with(&["Complete"], json!({"completionTime": DONE})),
            "status.conditions: Invalid value: cannot set Complete=True condition without",
        ),
        (
            with(&["SuccessCriteriaMet", "Complete"], json!({})),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            with(&["SuccessCriteriaMet", "Complete"], json!({"completionTime": "2025-01-01T00:00:00Z"})),
            "status.completionTime: Invalid value: \"2025-01-01T00:00:00Z\": must be equal to or after `startTime`",
        ),
        (
            with(&[], json!({"completionTime": DONE})),
            "status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there is no",
        ),
        (
            with(&["FailureTarget", "Failed"], json!({"active": 1})),
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (
            with(&["FailureTarget", "Failed"], json!({"terminating": 1})),
            "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
        ),
        (
            with(&["FailureTarget", "Failed"], json!({"uncountedTerminatedPods": {"failed": ["u"]}})),
            "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"u\"]}: must be empty for finished job",
        ),
        (
            with(&["FailureTarget", "SuccessCriteriaMet"], json!({})),
            "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            with(&[], json!({"terminating": -1})),
            "status.terminating: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            with(&[], json!({"active": 1, "ready": 2})),
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ),
        (
            with(&[], json!({"uncountedTerminatedPods": {"failed": ["u"], "succeeded": ["u"]}})),
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"u\"",
        ),
        (
            with(&[], json!({"completedIndexes": "1,9"})),
            "status.completedIndexes: Invalid value: \"1,9\": error parsing completedIndexes: too large index: \"9\"",
        ),
        (
            with(&[], json!({"failedIndexes": "1"})),
            "status.failedIndexes: Invalid value: \"1\": cannot set non-null failedIndexes when backoffLimitPerIndex is",
        ),
    ] {
        let found = status_refused(runs(), new, &[]);
        assert!(found.len() == 1 && found[0].starts_with(message), "{found:?}: {message}");
    }
    let overlap = with(&[], json!({"completedIndexes": "0-2", "failedIndexes": "2,4"}));
    assert_eq!(
        status_refused(runs(), overlap, &[("spec.backoffLimitPerIndex", json!(1))]),
        [
            "status.failedIndexes: Invalid value: \"2,4\": failedIndexes and completedIndexes overlap at index: 2"
        ]
    );
    for (old, kind) in [(&fine, "Complete"), (&failed, "Failed")] {
        let mut new = old.clone();
        new["conditions"].as_array_mut().unwrap().retain(|condition| condition["type"] != kind);
        new["completionTime"] = Value::Null;
        let expected =
            format!("status.conditions: Invalid value: cannot disable the terminal {kind}=True condition");
        assert_eq!(status_refused(old.clone(), new, &[]), [expected]);
    }
    let mut fewer = failed.clone();
    fewer["failed"] = 2.into();
    assert_eq!(
        status_refused(failed, fewer, &[]),
        ["status.failed: Invalid value: 2: cannot decrease the failed counter"]
    );
}

#[test]
fn a_job_begins_anew_only_when_it_is_resumed() {
    let later = json!({"startTime": DONE});
    let suspended = |status: &str| json!([{"type": "Suspended", "status": status}]);
    let message = "status.startTime: Required value: startTime cannot be removed for unsuspended job";
    assert_eq!(status_refused(with(&[], json!({})), with(&[], later.clone()), &[]), [message]);
    let old = with(&[], json!({"conditions": suspended("True")}));
    let new = with(&[], json!({"startTime": DONE, "conditions": suspended("False")}));
    assert_eq!(status_refused(old, new, &[]), [""; 0]);
    let suspend = [("spec.suspend", json!(true))];
    assert_eq!(
        status_refused(with(&[], json!({})), with(&[], json!({"startTime": null})), &suspend),
        [""; 0]
    );
    assert_eq!(status_refused(json!({}), with(&[], later), &[]), [""; 0]);
}
