//! The rules of Jobs and CronJobs.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, has, int, text},
    validate::{formats, job_policies, none_negative, one_of_if_set, workload},
};

/// How many pods of an Indexed job may run together, and how many of its indexes may fail; with more completions than
/// that, where indexes fail for themselves, it is [`MOST_OF_MANY`].
const MOST_INDEXED: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
/// The longest name of who runs a Job.
const LONGEST_MANAGER: usize = 63;

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
    if text(spec, "completionMode") == "Indexed" {
        indexed(spec, path, errors);
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
    if let Some(manager) = get(spec, "managedBy").as_str() {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    workload::template(get(spec, "template"), &path.child("template"), errors);
    restart_policy(spec, path, errors);
    job_policies::failure(spec, path, errors);
    job_policies::success(spec, path, errors);
}

fn indexed(spec: &Value, path: &Path, errors: &mut Errors) {
    let (completions, failed) = (int(spec, "completions"), int(spec, "maxFailedIndexes"));
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    at_most(spec, "parallelism", MOST_INDEXED, " when completion mode is Indexed", path, errors);
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        errors.invalid(&path.child("maxFailedIndexes"), failed, detail);
    }
    at_most(spec, "maxFailedIndexes", MOST_INDEXED, "", path, errors);
    if has(spec, "backoffLimitPerIndex") && completions.is_some_and(|number| number > MOST_INDEXED) {
        if failed.is_none() {
            let detail = format!("must be specified when completions is above {MOST_INDEXED}");
            errors.required(&path.child("maxFailedIndexes"), detail);
        }
        let when =
            format!(" when completions are above {MOST_INDEXED} and used with backoff limit per index");
        for field in ["parallelism", "maxFailedIndexes"] {
            at_most(spec, field, MOST_OF_MANY, &when, path, errors);
        }
    }
}

fn at_most(spec: &Value, field: &str, most: i64, when: &str, path: &Path, errors: &mut Errors) {
    if let Some(number) = int(spec, field).filter(|number| *number > most) {
        errors.invalid(&path.child(field), number, format!("must be less than or equal to {most}{when}"));
    }
}

/// Who runs a Job is named by a domain and a path.
fn managed_by(manager: &str, path: &Path, errors: &mut Errors) {
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.required(path, ""),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            for message in formats::subdomain(host) {
                errors.invalid(path, host, message);
            }
            for message in formats::http_path(rest) {
                errors.invalid(path, rest, message);
            }
        }
        _ => errors.invalid(path, manager, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if manager.len() > LONGEST_MANAGER {
        errors.too_long(path, LONGEST_MANAGER);
    }
}

/// The pods of a Job must be able to end.
fn restart_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy_path = path.child("template").child("spec").child("restartPolicy");
    match text(spec, "template.spec.restartPolicy") {
        // What was left out was filled in with Always.
        "" | "Always" => errors.required(&policy_path, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" => {
            if has(spec, "podFailurePolicy") {
                let detail = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.invalid(&policy_path, "OnFailure", detail);
            }
        }
        // The rules of pods refuse it, too.
        other => errors.not_supported(&policy_path, other, &["OnFailure", "Never"]),
    }
}
