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
    workload::template(get(spec, "template"), &path.child("template"), errors);
    restart_policy(spec, path, errors);
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
    for (index, rule) in items(spec, "podFailurePolicy.rules").iter().enumerate() {
        let path = path.child("podFailurePolicy").child("rules").index(index);
        one_of(rule, "action", &path, &["Count", "FailIndex", "FailJob", "Ignore"], errors);
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
