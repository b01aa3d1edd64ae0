//! Is it time for the next job?

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use warren_objects::schedule::{Missed, Schedule, time_zone};
use warren_state::{Key, at};

use super::{Case, Draft};
use crate::{object, outcome::Outcome};
use warren_vocabulary::resources::JOBS;

/// On a job: the time that it was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Starts the job of the last time that has come, if it has not been started, and asks to be woken at the next time.
pub(super) fn plan(case: &Case<'_>, draft: &mut Draft<'_>, outcome: &mut Outcome<'_>) {
    let Some(zone) = zone(case, outcome).filter(|_| case.spec.suspend != Some(true)) else { return };
    let Some(schedule) = schedule(case, &zone, outcome) else { return };
    let now = case.view.now;
    let last = case.cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let since = last.map_or_else(|| object::created_at(case.cron.object), |last| last.0);
    let missed = schedule.missed(since, now, &zone);
    let next = match (&schedule, missed) {
        (Schedule::Every(_), Some(missed)) => schedule.after(missed.latest, &zone),
        (Schedule::Every(_), None) => schedule.after(since, &zone),
        (Schedule::Fields(_), _) => schedule.after(now, &zone),
    };
    next.into_iter().for_each(|next| outcome.wake(next));
    let Some(mut missed) = missed else { return };
    if let Some(deadline) = case.spec.starting_deadline_seconds {
        let due = object::later(missed.latest, deadline.max(0));
        if due <= now {
            let time = missed.latest.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z");
            let message = format!("Missed scheduled time to start a job: {time}");
            return case.tell_once("MissSchedule", message, true, outcome);
        }
        outcome.wake(due);
        // Only what could still be started counts as missed.
        let window = object::later(now, deadline.max(0).saturating_neg()).max(since);
        missed.many = schedule.missed(window, now, &zone).is_some_and(|missed| missed.many);
    }
    start(case, draft, missed, &zone, outcome);
}

/// The zone in which the schedule is read; that it is not known is told.
fn zone(case: &Case<'_>, outcome: &mut Outcome<'_>) -> Option<TimeZone> {
    let Some(name) = &case.spec.time_zone else { return Some(TimeZone::UTC) };
    let tell = |error: String| {
        let message = format!("invalid timeZone: {name:?}: {error}");
        case.tell_once("UnknownTimeZone", message, true, outcome);
    };
    time_zone(name).map_err(tell).ok()
}

/// The schedule; that it cannot be read, or never comes, is told.
fn schedule(case: &Case<'_>, zone: &TimeZone, outcome: &mut Outcome<'_>) -> Option<Schedule> {
    let text = &case.spec.schedule;
    let (reason, message) = match Schedule::parse(text) {
        Ok(schedule) if schedule.after(case.view.now, zone).is_some() => return Some(schedule),
        Ok(_) => {
            let error = "time difference between two schedules is less than 1 second";
            ("InvalidSchedule", format!("invalid schedule: {text} : {error}"))
        }
        Err(error) => ("UnparseableSchedule", format!("unparseable schedule: {text:?} : {error}")),
    };
    case.tell_once(reason, message, true, outcome);
    None
}

fn start(case: &Case<'_>, draft: &mut Draft<'_>, missed: Missed, zone: &TimeZone, outcome: &mut Outcome<'_>) {
    let name = format!("{}-{}", case.cron.name(), missed.latest.as_second().div_euclid(60));
    let key = Key::new(JOBS, case.cron.namespace(), &name);
    if let Some(job) = case.view.read(&key) {
        return found(case, draft, missed.latest, job, outcome);
    }
    if case.view.exists(&key) {
        return outcome
            .problem(case.cron.object.key.clone(), format!("{key} is set aside, and is not made anew"));
    }
    let policy = case.spec.concurrency_policy.as_deref();
    if policy == Some("Forbid") && !draft.active().is_empty() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        return case.tell_once("JobAlreadyActive", message.to_owned(), false, outcome);
    }
    if missed.many {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        case.tell_once("TooManyMissedTimes", message.to_owned(), true, outcome);
    }
    if policy == Some("Replace") {
        replace(case, draft);
    }
    tell_refusal(case, outcome);
    let job = new(case, &name, missed.latest, zone);
    draft.activate(&name, at(&job, "/metadata/uid").and_then(Value::as_str).unwrap_or_default());
    draft.note("lastScheduleTime", missed.latest);
    draft.create(&name, job);
}

/// The job of this time is there: it is ours, made before a status was lost, or somebody else's, and then in our way.
fn found(
    case: &Case<'_>,
    draft: &mut Draft<'_>,
    time: Timestamp,
    job: &warren_state::Object,
    outcome: &mut Outcome<'_>,
) {
    let uid = object::uid(job);
    if object::controller_uid(job) != Some(case.cron.uid()) {
        let message = format!("{} is in the way of the job of its time: rename or delete it", job.key);
        return outcome.problem(case.cron.object.key.clone(), message);
    }
    let is_known = draft.active().iter().any(|reference| reference["uid"] == uid);
    if !is_known && crate::job::ended(&job.value).is_none() {
        draft.activate(&job.key.name, uid);
    }
    draft.note("lastScheduleTime", time);
}

/// Deletes all that run.
fn replace(case: &Case<'_>, draft: &mut Draft<'_>) {
    let uids: Vec<String> =
        draft.active().iter().filter_map(|active| active["uid"].as_str().map(str::to_owned)).collect();
    for job in case.view.jobs_of(case.cron.uid()).filter(|job| uids.iter().any(|uid| *uid == job.uid())) {
        draft.delete(job.object);
    }
    draft.set_active(Vec::new());
}

/// Says by an event that the job is refused, once per refusal.
fn tell_refusal(case: &Case<'_>, outcome: &mut Outcome<'_>) {
    if let Some(refused) = case.view.world.refused(&case.cron.object.key, JOBS) {
        outcome.wake(refused.until);
        let message = format!("Error creating job: {}", refused.message);
        case.tell_once("FailedCreate", message, true, outcome);
    }
}

/// A complete job: what its template leaves out is filled in where it is let in.
fn new(case: &Case<'_>, name: &str, time: Timestamp, zone: &TimeZone) -> Value {
    let object = case.cron.object;
    let template = at(&object.value, "/spec/jobTemplate").cloned().unwrap_or_default();
    let revision = case.view.world.snapshot.revision.to_string();
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": case.cron.namespace(),
            "uid": object::uuid(&["job", case.cron.uid(), name, &revision]),
            "creationTimestamp": object::time_text(case.view.now),
            "generation": 1,
            "ownerReferences": [object::controller_reference(object)],
        },
        "spec": at(&template, "/spec").cloned().unwrap_or_else(|| json!({})),
        "status": {},
    });
    for field in ["labels", "annotations"] {
        if let Some(value) = at(&template, &format!("/metadata/{field}")).filter(|value| value.is_object()) {
            object::object_at(&mut job, &["metadata"]).insert(field.to_owned(), value.clone());
        }
    }
    let form = if *zone == TimeZone::UTC { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    object::annotate(&mut job, SCHEDULED, time.to_zoned(zone.clone()).strftime(form).to_string());
    job
}
