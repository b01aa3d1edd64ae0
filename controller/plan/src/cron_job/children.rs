//! The jobs of a cron job: which of them run, how the others have ended, and how many of these are kept.

use jiff::Timestamp;
use serde_json::Value;
use warren_state::Key;

use super::{Case, Draft, JobView};
use crate::{job, object, outcome::Outcome};
use warren_vocabulary::resources::JOBS;

/// A job of the cron job.
pub(super) struct Child<'a> {
    pub(super) job: JobView<'a>,
    /// The condition by which it has ended.
    pub(super) ended: Option<&'static str>,
}

impl<'a> Child<'a> {
    pub(super) fn of(job: JobView<'a>) -> Self {
        let ended = job::ended(&job.object.value);
        Self { job, ended }
    }

    fn started_at(&self) -> Option<Timestamp> {
        Some(self.job.status.as_ref()?.start_time.as_ref()?.0)
    }

    fn succeeded_at(&self) -> Option<Timestamp> {
        let time = self.job.status.as_ref()?.completion_time.as_ref()?.0;
        (self.ended == Some("Complete")).then_some(time)
    }
}

fn uid(reference: &Value) -> &str {
    reference.get("uid").and_then(Value::as_str).unwrap_or_default()
}

fn name(reference: &Value) -> &str {
    reference.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Takes those that have ended, or are gone, off the list of those that run, and notes the last success.
pub(super) fn settle(
    case: &Case<'_>,
    draft: &mut Draft<'_>,
    children: &[Child<'_>],
    outcome: &mut Outcome<'_>,
) {
    let mut active = Vec::new();
    for reference in draft.active().to_vec() {
        let child = children.iter().find(|child| child.job.uid() == uid(&reference));
        match child.map(|child| child.ended) {
            Some(None) => active.push(reference),
            Some(Some(how)) => {
                let message = format!("Saw completed job: {}, condition: {how}", name(&reference));
                draft.tell("SawCompletedJob", message);
            }
            // It may have lost its owner.
            None if is_there(case, &reference) => active.push(reference),
            None => draft.tell("MissingJob", format!("Active job went missing: {}", name(&reference))),
        }
    }
    let known = |child: &&Child<'_>| active.iter().any(|reference| uid(reference) == child.job.uid());
    for child in children.iter().filter(|child| child.ended.is_none() && !known(child)) {
        let message = format!("Saw a job that the controller did not create or forgot: {}", child.job.name());
        case.tell_once("UnexpectedJob", message, true, outcome);
    }
    if active != draft.active() {
        draft.set_active(active);
    }
    let noted = case.cron.status.as_ref().and_then(|status| status.last_successful_time.as_ref());
    let last = children.iter().filter_map(Child::succeeded_at).max();
    if let Some(last) = last.filter(|last| noted.is_none_or(|noted| *last > noted.0)) {
        draft.note("lastSuccessfulTime", last);
    }
}

/// Whether a job that nobody controls any more is there and runs, or is set aside.
fn is_there(case: &Case<'_>, reference: &Value) -> bool {
    let key = Key::new(JOBS, case.cron.namespace(), name(reference));
    match case.view.read(&key) {
        Some(job) => object::uid(job) == uid(reference) && job::ended(&job.value).is_none(),
        None => case.view.exists(&key),
    }
}

/// Of those that have ended, the last ones are kept.
pub(super) fn forget(case: &Case<'_>, draft: &mut Draft<'_>, children: &[Child<'_>]) {
    for (how, limit) in [
        ("Complete", case.spec.successful_jobs_history_limit),
        ("Failed", case.spec.failed_jobs_history_limit),
    ] {
        let Some(limit) = limit else { continue };
        let kept = |child: &&Child<'_>| child.ended == Some(how) && !child.job.deleting();
        let mut ended: Vec<&Child<'_>> = children.iter().filter(kept).collect();
        // One that never began counts as the newest.
        ended.sort_by_key(|child| {
            let start = child.started_at();
            (start.is_none(), start, child.job.object.key.clone())
        });
        let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        ended.iter().take(surplus).for_each(|child| draft.delete(child.job.object));
    }
}
