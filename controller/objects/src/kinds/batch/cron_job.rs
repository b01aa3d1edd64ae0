//! CronJob: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    conversions,
    defaults::workload::fill_template,
    field::{Errors, Path},
    human,
    json::{at, default_to, ensure_map, get, has, items, text, truth},
    kinds::{ALL, Conversion, Entry, PLAIN, STATUS, Source},
    schedule,
    table::{
        AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, age, column, containers_and_images, name, or_none,
        selector,
    },
    validate::{formed, job::job_spec, meta, none_negative, one_of, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    short_names: &["cj"],
    categories: ALL,
    subresources: &[STATUS],
    has_generation: true,
    defaults,
    validate,
    columns: COLUMNS,
    row,
    ..PLAIN
};

// What kubectl 1.20 writes by `create cronjob`, and reads by `describe`.
pub(crate) const V1BETA1: Entry = Entry {
    version: "v1beta1",
    source: Source::Converted(Conversion {
        show: conversions::cron_job_v1beta1,
        store: Some(conversions::cron_job_from_v1beta1),
    }),
    ..ENTRY
};

/// A CronJob. Of the job in it only the pods are filled in: the rest is, once a Job is made of it.
fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "concurrencyPolicy", "Allow");
    default_to(spec, "suspend", false);
    default_to(spec, "successfulJobsHistoryLimit", 3);
    default_to(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = ensure_map(spec, "jobTemplate")
        && let Some(job) = ensure_map(template, "spec")
    {
        fill_template(job);
    }
}

/// What is appended to a CronJob's name must leave a Job's name a label.
const LONGEST_CRON_NAME: usize = 52;

fn validate(value: &Value, errors: &mut Errors) {
    let name = text(value, "metadata.name");
    if name.len() > LONGEST_CRON_NAME {
        let detail = format!("must be no more than {LONGEST_CRON_NAME} characters");
        errors.invalid(&Path::new("metadata.name"), name, detail);
    }
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if required_text(spec, "schedule", &path, errors) {
        formed(spec, "schedule", &path, schedule::faults, errors);
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

/// A time zone must have a name that is known.
fn time_zone(spec: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("timeZone");
    let Some(name) = get(spec, "timeZone").as_str() else { return };
    if name.is_empty() {
        errors.invalid(&path, json!(""), "timeZone must be nil or non-empty string");
    } else if name.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(&path, name, detail);
    } else if let Err(message) = schedule::time_zone(name) {
        errors.invalid(&path, name, message);
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Schedule", "string", "When jobs are made, in cron's form."),
    column("Timezone", "string", "The time zone of the schedule."),
    column("Suspend", "string", "Whether no more jobs are made."),
    column("Active", "integer", "The number of jobs that run."),
    column("Last Schedule", "string", "When the last job was made."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let suspend = match at(value, "spec.suspend").as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = at(value, "status.lastScheduleTime");
    let [containers, images] = containers_and_images(at(value, "spec.jobTemplate.spec.template"));
    vec![
        name(value),
        text(value, "spec.schedule").into(),
        or_none(text(value, "spec.timeZone")),
        suspend.into(),
        items(value, "status.active").len().into(),
        if last.is_null() { or_none("") } else { human::since(last, now).into() },
        age(value, now),
        containers,
        images,
        selector(at(value, "spec.jobTemplate.spec.selector")),
    ]
}
