//! Defaults of Jobs and CronJobs.

use serde_json::{Value, json};

use super::workload;
use crate::json::{at, default_to, ensure_map, get, has, is_empty, items_mut, text, truth};

/// Labels by which a Job finds its pods: the uid and the name of the Job, each under its old name too.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// A Job. Its selector is made of its uid, once it has one.
pub(crate) fn job(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    if !has(spec, "completions") && !has(spec, "parallelism") {
        default_to(spec, "completions", 1);
    }
    default_to(spec, "parallelism", 1);
    let limit = if has(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    default_to(spec, "backoffLimit", limit);
    default_to(spec, "completionMode", "NonIndexed");
    default_to(spec, "suspend", false);
    default_to(spec, "manualSelector", false);
    let replacement = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    default_to(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            items_mut(rule, "onPodConditions").for_each(|pattern| default_to(pattern, "status", "True"));
        }
    }
    workload::template(spec);
    let mut labels = at(spec, "template.metadata.labels").clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|label, _| {
            !UID_LABELS.contains(&label.as_str()) && !NAME_LABELS.contains(&label.as_str())
        });
    }
    if !is_empty(&labels) {
        workload::labels_from_template(value, labels);
    }
    generate_selector(value);
}

fn generate_selector(value: &mut Value) {
    let (uid, name) = (text(value, "metadata.uid").to_owned(), text(value, "metadata.name").to_owned());
    let Some(spec) = value.get_mut("spec") else { return };
    if uid.is_empty() || name.is_empty() || truth(spec, "manualSelector") {
        return;
    }
    let own =
        UID_LABELS.map(|label| (label, &uid)).into_iter().chain(NAME_LABELS.map(|label| (label, &name)));
    if let Some(template) = ensure_map(spec, "template")
        && let Some(metadata) = ensure_map(template, "metadata")
        && let Some(labels) = ensure_map(metadata, "labels")
    {
        own.for_each(|(label, value)| labels[label] = json!(value));
    }
    if is_empty(get(spec, "selector")) {
        spec["selector"] = json!({"matchLabels": {UID_LABELS[0]: uid}});
    }
}

/// A CronJob. Of the job in it only the pods are filled in: the rest is, once a Job is made of it.
pub(crate) fn cron_job(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "concurrencyPolicy", "Allow");
    default_to(spec, "suspend", false);
    default_to(spec, "successfulJobsHistoryLimit", 3);
    default_to(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = ensure_map(spec, "jobTemplate")
        && let Some(job) = ensure_map(template, "spec")
    {
        workload::template(job);
    }
}

#[cfg(test)]
mod tests {
    use crate::defaults::apply;
    use serde_json::json;

    #[test]
    fn a_job_selects_its_pods_by_its_uid() {
        let mut value = json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"template": {
            "metadata": {"labels": {"app": "pi"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "pi", "image": "perl:5"}]}}}});
        apply("jobs.batch", &mut value);
        let once = value.clone();
        apply("jobs.batch", &mut value);
        assert_eq!(value, once);
        let spec = &value["spec"];
        assert_eq!(
            (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
            (&json!(1), &json!(1), &json!(6))
        );
        assert_eq!(spec["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}));
        assert_eq!(
            spec["template"]["metadata"]["labels"],
            json!({"app": "pi", "job-name": "pi",
            "batch.kubernetes.io/job-name": "pi", "controller-uid": "u-1", "batch.kubernetes.io/controller-uid": "u-1"})
        );
        assert_eq!(value["metadata"]["labels"], json!({"app": "pi"}));
    }

    #[test]
    fn parallel_jobs_need_no_completions() {
        let mut value = json!({"spec": {"parallelism": 3, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}});
        apply("jobs.batch", &mut value);
        assert!(value["spec"].get("completions").is_none());
        assert_eq!(value["spec"]["podReplacementPolicy"], "Failed");
        assert_eq!(value["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"], "True");
    }

    #[test]
    fn cron_jobs_keep_their_job_as_it_was_given() {
        let mut value = json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "b"}]}}}}}});
        apply("cronjobs.batch", &mut value);
        let spec = &value["spec"];
        assert_eq!(
            (&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]),
            (&json!(3), &json!(1))
        );
        assert!(spec["jobTemplate"]["spec"].get("backoffLimit").is_none());
        assert_eq!(spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    }
}
