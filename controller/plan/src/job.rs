//! Which pods does a job need, how has it gone so far, and when is it over?
//!
//! Kubernetes' Job, rule by rule. What differs: a pod that has ended is counted, and let go by its finalizer, in one
//! commit, so nothing has to be noted in between in `status.uncountedTerminatedPods`; what was noted there by others is
//! counted. Whether failed pods may be replaced yet is read from the pods that are there, not from a memory: one that was
//! deleted is replaced without a pause. And a pod that has ended is neither adopted nor released, so that none is counted
//! by two.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/controllers/job/>.

mod backoff;
mod draft;
mod indexes;
mod making;
mod policy;
mod tally;
mod verdict;

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use serde_json::Value;
use warren_state::{Key, Object, Precondition, Transaction, at};

use crate::{
    garbage,
    object::{self, condition},
    outcome::Outcome,
    selector,
    view::{Typed, View},
};
use draft::Draft;
use tally::{BATCH, State, Tally};
use warren_vocabulary::resources::JOBS;

/// On a pod: it has not been counted yet.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The name that jobs give to who runs them, where they name any.
const CONTROLLER: &str = "kubernetes.io/job-controller";
const COMPONENT: &str = "job-controller";

/// A job that runs, and what it asks for.
pub(super) struct Case<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) job: &'a Typed<'a, Job>,
    pub(super) spec: &'a JobSpec,
    /// Pods may be made for it.
    pub(super) lives: bool,
}

impl Case<'_> {
    /// Whether each pod has an index.
    pub(super) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// How many pods must succeed, if that is a fixed number.
    pub(super) fn completions(&self) -> Option<i64> {
        self.spec.completions.map(|count| i64::from(count.max(0)))
    }

    /// How often a pod of one index may fail, if indexes fail for themselves.
    pub(super) fn limit_per_index(&self) -> Option<i64> {
        self.spec.backoff_limit_per_index.filter(|_| self.is_indexed()).map(i64::from)
    }

    /// Whether a pod that is being deleted is replaced, and counted as failed, only when it has ended.
    pub(super) fn waits_for_the_end(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Whether a condition of the job holds.
    pub(super) fn holds(&self, kind: &str) -> bool {
        holds(&self.job.object.value, kind)
    }
}

fn holds(value: &Value, kind: &str) -> bool {
    condition(value, kind).is_some_and(|condition| condition["status"] == "True")
}

/// How a job has ended, if it has: the condition that says so.
pub(crate) fn ended(value: &Value) -> Option<&'static str> {
    ["Complete", "Failed"].into_iter().find(|kind| holds(value, kind))
}

/// What the finalizers of a job's pods wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracking {
    /// For being counted by us.
    Ours,
    /// For somebody else, whom the job names.
    Foreign,
    /// For nothing any more.
    Over,
}

/// What the finalizers of a job's pods wait for.
pub(crate) fn tracking(job: &Object) -> Tracking {
    let manager = at(&job.value, "/spec/managedBy").and_then(Value::as_str);
    match () {
        () if manager.is_some_and(|manager| manager != CONTROLLER) => Tracking::Foreign,
        () if ended(&job.value).is_some() => Tracking::Over,
        () => Tracking::Ours,
    }
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(job) = view.typed::<Job>(key) else { return };
            let Some(spec) = &job.spec else { return };
            let lives = !job.deleting() && !view.namespace_terminating(&key.namespace);
            // Whoever runs a job, it goes when its time is up.
            if ended(&job.object.value).is_some() {
                expire(view, &job, spec, outcome);
            } else if tracking(job.object) == Tracking::Ours {
                plan_job(&Case { view, job: &job, spec, lives }, outcome);
            }
        });
    }
}

/// Pods whose finalizer waits for nothing: their job has ended, or is gone, or they are nobody's.
pub(crate) fn plan_pods(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(pod) = view.world.snapshot.get(key) else { return };
            let is_set_aside = |uid: &str| view.world.quarantined.iter().any(|job| object::uid(job) == uid);
            let is_counted = |uid: &str| {
                let job = view
                    .by_uid(uid)
                    .filter(|job| &*job.key.resource == JOBS && job.key.namespace == key.namespace);
                job.is_some_and(|job| tracking(job) != Tracking::Over)
            };
            let owner = object::controller_uid(pod);
            if !is_tracked(pod) || owner.is_some_and(|uid| is_set_aside(uid) || is_counted(uid)) {
                return;
            }
            if let Some(value) = object::edited(pod, |value| object::remove_finalizer(value, TRACKING)) {
                let transaction = Transaction::new().replace(key.clone(), pod.revision, value);
                outcome.step(format!("{key} is counted by no job"), transaction);
            }
        });
    }
}

/// Whether a pod has not been counted yet.
pub(crate) fn is_tracked(pod: &Object) -> bool {
    object::finalizers(pod).any(|finalizer| finalizer == TRACKING)
}

/// A job that has ended goes when its time is up, if it has one, and its pods before it.
fn expire(view: &View<'_>, job: &Typed<'_, Job>, spec: &JobSpec, outcome: &mut Outcome<'_>) {
    let Some(life) = spec.ttl_seconds_after_finished.filter(|_| !job.deleting()) else { return };
    let end = ended(&job.object.value).and_then(|kind| condition(&job.object.value, kind));
    let end = end.and_then(|end| end["lastTransitionTime"].as_str()?.parse().ok());
    let due = object::later(end.unwrap_or_else(|| object::created_at(job.object)), i64::from(life.max(0)));
    if due > view.now {
        outcome.wake(due);
    } else if let Some(transaction) = garbage::delete_in_foreground(view, job.object) {
        outcome.step(format!("delete {}: it ended {life} s ago", job.object.key), transaction);
    }
}

fn plan_job(case: &Case<'_>, outcome: &mut Outcome<'_>) {
    if case.lives && membership(case, outcome) {
        return;
    }
    let mut tally = Tally::of(case);
    let mut draft = Draft::new(case);
    let verdict = verdict::of(case, &tally, outcome);
    if verdict.is_some() || !case.lives {
        tally.count_all();
    }
    if let Some(end) = &verdict {
        tally.let_go(case, end.success);
    }
    draft.begin();
    draft.count(&tally);
    let mut new = Vec::new();
    match &verdict {
        Some(end) => {
            draft.aim(end);
            let stopping = tally.stopping().into_iter().map(|place| &tally.members[place]);
            stopping.filter(|member| member.state == State::Active).for_each(|member| draft.delete(member));
            if tally.is_over() {
                draft.end(end, &tally);
            }
        }
        None if !case.lives => {}
        None if case.is_suspended() => {
            tally.active().take(BATCH).for_each(|member| draft.delete(member));
            draft.suspend();
        }
        None => {
            draft.resume(outcome);
            let making = making::of(case, &tally, outcome);
            making.excess.into_iter().take(BATCH).for_each(|member| draft.delete(member));
            new = making.new;
        }
    }
    draft.finish(&tally, &new, outcome);
}

/// Adopts pods that match and are nobody's, lets go of pods that do not match any more: those that run. One that has ended
/// is counted where it belonged, once.
fn membership(case: &Case<'_>, outcome: &mut Outcome<'_>) -> bool {
    let (view, job) = (case.view, case.job);
    let Some(wanted) = case.spec.selector.as_ref().filter(|wanted| !selector::is_empty(wanted)) else {
        return false;
    };
    let none = selector::Labels::new();
    let prepared = selector::Prepared::new(wanted);
    let owned = view.pods_of(job.uid()).map(|pod| (pod, true));
    let orphans = view.orphans(job.namespace(), wanted.match_labels.as_ref().unwrap_or(&none));
    let mut changes = false;
    for (pod, ours) in
        owned.chain(orphans.into_iter().map(|pod| (pod, false))).filter(|(pod, _)| pod.active())
    {
        let adopt = |value: &mut Value| {
            object::adopt(value, job.object);
            object::add_finalizer(value, TRACKING);
        };
        let release = |value: &mut Value| {
            object::disown(value, job.uid());
            object::remove_finalizer(value, TRACKING);
        };
        let (verb, value) = match (ours, prepared.matches(pod.labels())) {
            (false, true) => ("adopt", object::edited(pod.object, adopt)),
            (true, false) => ("release", object::edited(pod.object, release)),
            _ => continue,
        };
        let Some(value) = value else { continue };
        let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        transaction.preconditions.push(Precondition::Exists(job.object.key.clone()));
        changes |= outcome.step(format!("{verb} {} by {}", pod.object.key, job.object.key), transaction);
    }
    changes
}
