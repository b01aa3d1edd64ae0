//! The rules of Jobs and CronJobs.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, has, int, is_empty, items, text},
    validate::{none_negative, one_of, one_of_if_set, workload},
};

/// How many pods of an Indexed job may run together.
const MOST_INDEXED: i64 = 100_000;

/// What the Job of a CronJob and a Job of its own have in common.
pub(crate) fn job_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    none_negative(spec, &numbers, path, errors);
    one_of_if_set(spec, "completionMode", path, &["NonIndexed", "Indexed"], errors);
    one_of_if_set(spec, "podReplacementPolicy", path, &["Failed", "TerminatingOrFailed"], errors);
    let indexed = text(spec, "completionMode") == "Indexed";
    if indexed {
        if !has(spec, "completions") {
            errors.required(&path.child("completions"), "when completion mode is Indexed");
        }
        if let Some(number) = int(spec, "parallelism").filter(|number| *number > MOST_INDEXED) {
            let detail =
                format!("must be less than or equal to {MOST_INDEXED} when completion mode is Indexed");
            errors.invalid(&path.child("parallelism"), number, detail);
        }
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = int(spec, field) {
                errors.invalid(&path.child(field), number, "requires indexed completion mode");
            }
        }
    }
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    workload::template(get(spec, "template"), &path.child("template"), errors);
    restart_policy(spec, path, errors);
    failure_policy(spec, path, errors);
    success_policy(spec, path, errors);
}

/// The pods of a Job must be able to end.
fn restart_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy_path = path.child("template").child("spec").child("restartPolicy");
    match text(spec, "template.spec.restartPolicy") {
        // What was left out was filled in with Always.
        "Always" => errors.required(&policy_path, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        other if has(spec, "podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&policy_path, other, detail);
        }
        _ => {}
    }
}

/// What is to be done about pods that fail.
fn failure_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    if has(spec, "podFailurePolicy") {
        one_of_if_set(spec, "podReplacementPolicy", path, &["Failed"], errors);
    }
    for (index, rule) in items(spec, "podFailurePolicy.rules").iter().enumerate() {
        let path = path.child("podFailurePolicy").child("rules").index(index);
        one_of(rule, "action", &path, &["Count", "FailIndex", "FailJob", "Ignore"], errors);
        if text(rule, "action") == "FailIndex" && !has(spec, "backoffLimitPerIndex") {
            errors.invalid(&path.child("action"), "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
        if has(rule, "onExitCodes") {
            let path = path.child("onExitCodes");
            one_of(get(rule, "onExitCodes"), "operator", &path, &["In", "NotIn"], errors);
        }
        match (has(rule, "onExitCodes"), is_empty(get(rule, "onPodConditions"))) {
            (true, false) => {
                errors.invalid(
                    &path,
                    rule.clone(),
                    "specifying both OnExitCodes and OnPodConditions is not supported",
                );
            }
            (false, true) => {
                errors.invalid(
                    &path,
                    rule.clone(),
                    "specifying one of OnExitCodes and OnPodConditions is required",
                );
            }
            _ => {}
        }
    }
}

/// Which indexes are enough.
fn success_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = get(spec, "successPolicy");
    if policy.is_null() {
        return;
    }
    let path = path.child("successPolicy");
    if text(spec, "completionMode") != "Indexed" {
        errors.invalid(&path, policy.clone(), "requires indexed completion mode");
        return;
    }
    let path = path.child("rules");
    if items(policy, "rules").is_empty() {
        errors.required(&path, "at least one rules must be specified when the successPolicy is specified");
    }
    for (index, rule) in items(policy, "rules").iter().enumerate() {
        let path = path.index(index);
        if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&path, detail);
        }
        none_negative(rule, &["succeededCount"], &path, errors);
        let completions = int(spec, "completions").unwrap_or(0);
        if let Some(count) = int(rule, "succeededCount").filter(|count| *count > completions) {
            let detail =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&path.child("succeededCount"), count, detail);
        }
        let indexes = text(rule, "succeededIndexes");
        if !indexes.is_empty() && !are_indexes(indexes, completions) {
            let detail = "must be indexes below completions, in order, as in \"0,2-4\"";
            errors.invalid(&path.child("succeededIndexes"), indexes, detail);
        }
    }
}

fn are_indexes(text: &str, completions: i64) -> bool {
    let mut next = 0;
    text.split(',').all(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { return false };
        let (first, last) = (i64::from(first), i64::from(last));
        let good = first >= next && first <= last && last < completions;
        next = last.saturating_add(1);
        good
    })
}
