//! Is a job over, or to be ended, and why?

use jiff::Timestamp;

use super::{
    Case, policy,
    tally::{Tally, text},
};
use crate::{
    object::{self, condition},
    outcome::Outcome,
};

/// The condition of a job that is to succeed, once its pods have gone.
pub(super) const ENOUGH: &str = "SuccessCriteriaMet";
/// The condition of a job that is to fail, once its pods have gone.
pub(super) const FAILURE: &str = "FailureTarget";

/// How a job ends.
pub(super) struct End {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

fn failure(reason: &str, message: impl Into<String>) -> Option<End> {
    Some(End { success: false, reason: reason.to_owned(), message: message.into() })
}

/// What was decided stays so; else the first reason to end.
pub(super) fn of(case: &Case<'_>, tally: &Tally<'_>, outcome: &mut Outcome<'_>) -> Option<End> {
    let decided = [(FAILURE, false), (ENOUGH, true)].into_iter().find(|(kind, _)| case.holds(kind));
    if let Some((kind, success)) = decided {
        let said = condition(&case.job.object.value, kind)?;
        let (reason, message) = (text(said, "reason").to_owned(), text(said, "message").to_owned());
        return Some(End { success, reason, message });
    }
    // Looked at first, for it asks to be woken.
    let late = is_late(case, outcome);
    if let Some(message) = &tally.fatal {
        return failure("PodFailurePolicy", message);
    }
    if exceeds_limit(case, tally) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if late {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    failed_indexes(case, tally).or_else(|| success(case, tally))
}

fn exceeds_limit(case: &Case<'_>, tally: &Tally<'_>) -> bool {
    let limit = case.spec.backoff_limit.map_or(6, |limit| i64::from(limit.max(0)));
    let policy = case.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    // Containers that are started again in their pod count too.
    let restarts = if policy == Some("OnFailure") { tally.restarts() } else { 0 };
    tally.failures() > limit || (restarts > 0 && restarts >= limit)
}

/// Whether the job has run for longer than it may. While it is suspended, no time passes.
fn is_late(case: &Case<'_>, outcome: &mut Outcome<'_>) -> bool {
    let Some(seconds) = case.spec.active_deadline_seconds else { return false };
    let start = case.job.status.as_ref().and_then(|status| status.start_time.as_ref());
    let runs = !case.is_suspended() && !case.holds("Suspended");
    let Some(start) = start.filter(|_| runs) else { return false };
    let due: Timestamp = object::later(start.0, seconds.max(0));
    outcome.wake(due);
    due <= case.view.now
}

fn failed_indexes(case: &Case<'_>, tally: &Tally<'_>) -> Option<End> {
    case.limit_per_index()?;
    let failed = tally.failed_indexes.count();
    if case.spec.max_failed_indexes.is_some_and(|most| failed > i64::from(most)) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return failure("MaxFailedIndexesExceeded", message);
    }
    let all = tally.completed.count().saturating_add(failed) >= case.completions()?;
    if all && failed > 0 { failure("FailedIndexes", "Job has failed indexes") } else { None }
}

fn success(case: &Case<'_>, tally: &Tally<'_>) -> Option<End> {
    let success =
        |reason: &str, message: String| Some(End { success: true, reason: reason.to_owned(), message });
    if let (Some(policy), Some(completions)) =
        (case.spec.success_policy.as_ref().filter(|_| case.is_indexed()), case.completions())
        && let Some(rule) = policy::enough(policy, &tally.completed, completions)
    {
        return success("SuccessPolicy", format!("Matched rules at index {rule}"));
    }
    let reached = match case.completions() {
        Some(completions) => tally.succeeded >= completions,
        // One that succeeded says that there is no work left: the others end by themselves.
        None => tally.succeeded > 0 && tally.active().next().is_none(),
    };
    if reached {
        return success("CompletionsReached", "Reached expected number of succeeded pods".to_owned());
    }
    None
}
