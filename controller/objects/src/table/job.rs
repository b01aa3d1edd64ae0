//! The tables of Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, age, column, containers_and_images, name, number,
    or_none, selector,
};
use crate::{
    human,
    json::{at, get, has, int, items, text},
};

pub(crate) const JOB_COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Running, Suspended, or how it ended."),
    column("Completions", "string", "Number of the pods that succeeded, of the wanted ones."),
    column("Duration", "string", "How long it has run, or ran."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) const CRON_JOB_COLUMNS: &[Column] = &[
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

/// The cells of a Job.
pub(crate) fn job_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let [containers, images] = containers_and_images(at(value, "spec.template"));
    vec![
        name(value),
        status(value).into(),
        completions(value).into(),
        run_time(value, now).into(),
        age(value, now),
        containers,
        images,
        selector(at(value, "spec.selector")),
    ]
}

fn status(value: &Value) -> &'static str {
    let holds = |kind: &str| {
        let mut conditions = items(value, "status.conditions").iter();
        conditions.any(|condition| text(condition, "type") == kind && text(condition, "status") == "True")
    };
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if has(get(value, "metadata"), "deletionTimestamp") => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(value: &Value) -> String {
    let succeeded = number(value, "status.succeeded");
    match (int(value, "spec.completions"), number(value, "spec.parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn run_time(value: &Value, now: Timestamp) -> String {
    let Some(start) = human::timestamp(at(value, "status.startTime")) else { return String::new() };
    let end = human::timestamp(at(value, "status.completionTime")).unwrap_or(now);
    human::duration(end.as_second() - start.as_second())
}

/// The cells of a CronJob.
pub(crate) fn cron_job_row(value: &Value, now: Timestamp) -> Vec<Value> {
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
