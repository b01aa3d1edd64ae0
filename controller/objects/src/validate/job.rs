//! The rules of Jobs and CronJobs.

use serde_json::{Value, json};

use super::{
    all_immutable, cron, formed, immutable, meta, none_negative, one_of, one_of_if_set, required_text,
    workload,
};
use crate::{
    field::{Errors, Path},
    json::{at, get, has, int, is_empty, items, text, truth},
};

/// How many pods of an Indexed job may run together.
const MOST_INDEXED: i64 = 100_000;
/// What is appended to a CronJob's name must leave a Job's name a label.
const LONGEST_CRON_NAME: usize = 52;

/// A Job.
pub(crate) fn job(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    job_spec(spec, &path, errors);
    let selector = get(spec, "selector");
    if selector.is_null() {
        errors.required(&path.child("selector"), "");
        return;
    }
    meta::selector(selector, &path.child("selector"), errors);
    let uid = text(value, "metadata.uid");
    let own = at(selector, "matchLabels").get("batch.kubernetes.io/controller-uid");
    let old_own = at(selector, "matchLabels").get("controller-uid");
    let generated = own.or(old_own).and_then(Value::as_str) == Some(uid);
    if !truth(spec, "manualSelector") && !generated {
        errors.invalid(&path.child("selector"), selector.clone(), "`selector` not auto-generated");
    }
    workload::selected(selector, spec, &path, errors);
}

/// What the Job of a CronJob and a Job of its own have in common.
fn job_spec(spec: &Value, path: &Path, errors: &mut Errors) {
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

/// A change of a Job: what it is to do stays.
pub(crate) fn job_update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (before, after) = (get(old, "spec"), get(new, "spec"));
    let both_indexed = [before, after].iter().all(|spec| text(spec, "completionMode") == "Indexed");
    // An Indexed job may be made longer or shorter, all of it in parallel.
    if !both_indexed || get(after, "completions") != get(after, "parallelism") {
        immutable(get(before, "completions"), get(after, "completions"), &path.child("completions"), errors);
    }
    all_immutable(
        before,
        after,
        &[
            "selector",
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ],
        &path,
        errors,
    );
    let suspended = truth(before, "suspend") && !has(get(old, "status"), "startTime");
    let fixed = |spec: &Value| {
        let mut template = get(spec, "template").clone();
        if suspended {
            for (part, fields) in [
                ("metadata", &["labels", "annotations"][..]),
                ("spec", &["affinity", "nodeSelector", "schedulingGates", "tolerations"][..]),
            ] {
                if let Some(part) = template.get_mut(part).and_then(Value::as_object_mut) {
                    part.retain(|field, _| !fields.contains(&field.as_str()));
                }
            }
        }
        template
    };
    if fixed(before) != fixed(after) {
        errors.invalid(&path.child("template"), get(after, "template").clone(), "field is immutable");
    }
}

/// A CronJob.
pub(crate) fn cron_job(value: &Value, errors: &mut Errors) {
    let name = text(value, "metadata.name");
    if name.len() > LONGEST_CRON_NAME {
        let detail = format!("must be no more than {LONGEST_CRON_NAME} characters");
        errors.invalid(&Path::new("metadata.name"), name, detail);
    }
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if required_text(spec, "schedule", &path, errors) {
        formed(spec, "schedule", &path, cron::schedule, errors);
    }
    time_zone(spec, &path, errors);
    let numbers = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    none_negative(spec, &numbers, &path, errors);
    one_of(spec, "concurrencyPolicy", &path, &["Allow", "Forbid", "Replace"], errors);
    let template = get(spec, "jobTemplate");
    let path = path.child("jobTemplate");
    meta::labels_and_annotations(get(template, "metadata"), &path.child("metadata"), errors);
    let (job, path) = (get(template, "spec"), path.child("spec"));
    job_spec(job, &path, errors);
    if has(job, "selector") {
        errors.invalid(
            &path.child("selector"),
            get(job, "selector").clone(),
            "`selector` will be auto-generated",
        );
    }
    if truth(job, "manualSelector") {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}

/// The form of a time zone's name; whether there is one of that name, the planner finds out.
fn time_zone(spec: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("timeZone");
    let Some(name) = get(spec, "timeZone").as_str() else { return };
    let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-/".contains(&b));
    if name.is_empty() {
        errors.invalid(&path, json!(""), "timeZone must be nil or non-empty string");
    } else if name.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(&path, name, detail);
    } else if !good {
        errors.invalid(&path, name, format!("unknown time zone {name}"));
    }
}
