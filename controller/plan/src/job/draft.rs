//! A job in the making: its status, its pods, and what is told of it, as one commit.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use warren_state::{Key, Transaction};

use super::{
    COMPONENT, Case, TRACKING,
    making::{self, New},
    tally::{Member, Tally, size},
    verdict::{ENOUGH, End, FAILURE},
};
use crate::{
    events::{self, Event},
    object::{self, Condition},
    outcome::Outcome,
};
pub(super) use warren_vocabulary::resources::PODS;

/// What becomes of a pod: another value, or nothing.
type Change<'a> = (&'a warren_state::Object, Option<Value>);

pub(super) struct Draft<'a> {
    case: &'a Case<'a>,
    /// The job as it shall be.
    value: Value,
    /// Pods that are counted, let go of or deleted.
    pods: BTreeMap<Key, Change<'a>>,
    deleted: usize,
    ready_deleted: usize,
    events: Vec<(String, String, bool)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(case: &'a Case<'a>) -> Self {
        let value = case.job.object.value.clone();
        Self { case, value, pods: BTreeMap::new(), deleted: 0, ready_deleted: 0, events: Vec::new() }
    }

    fn tell(&mut self, reason: &str, message: impl Into<String>, warning: bool) {
        self.events.push((reason.to_owned(), message.into(), warning));
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let wanted = Condition { kind, status, reason, message };
        object::set_condition(&mut self.value, &wanted, self.case.view.now);
    }

    fn status(&mut self) -> &mut serde_json::Map<String, Value> {
        object::object_at(&mut self.value, &["status"])
    }

    /// Lets go of the pods that are counted.
    pub(super) fn count(&mut self, tally: &Tally<'a>) {
        for member in tally.counted.iter().map(|place| &tally.members[*place]) {
            let pod = member.pod.object;
            if let Some(value) = object::edited(pod, |value| object::remove_finalizer(value, TRACKING)) {
                self.pods.insert(pod.key.clone(), (pod, Some(value)));
            }
        }
    }

    /// Deletes a pod that runs, and lets go of it: it counts for no more than is counted with it.
    pub(super) fn delete(&mut self, member: &Member<'a>) {
        let (pod, now) = (member.pod.object, self.case.view.now);
        let mut value = pod.value.clone();
        object::remove_finalizer(&mut value, TRACKING);
        let is_free = value["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        let change = if is_free && object::is_let_go(pod) {
            None
        } else {
            object::mark_deleted(&mut value, now, object::grace(pod));
            Some(value)
        };
        self.pods.insert(pod.key.clone(), (pod, change));
        self.deleted = self.deleted.saturating_add(1);
        self.ready_deleted = self.ready_deleted.saturating_add(usize::from(member.pod.ready()));
        self.tell("SuccessfulDelete", format!("Deleted pod: {}", member.pod.name()), false);
    }

    /// When the job began, if that is said.
    fn began(&self) -> Option<Timestamp> {
        Some(self.case.job.status.as_ref()?.start_time.as_ref()?.0)
    }

    fn note_start(&mut self) {
        let now = object::time_text(self.case.view.now);
        self.status().insert("startTime".into(), now.into());
    }

    /// The job begins when it is seen first and may run.
    pub(super) fn begin(&mut self) {
        if self.began().is_none() && !self.case.is_suspended() {
            self.note_start();
        }
    }

    /// Says how the job will have ended.
    pub(super) fn aim(&mut self, end: &End) {
        let kind = if end.success { ENOUGH } else { FAILURE };
        if !self.case.holds(kind) {
            self.set(kind, "True", &end.reason, &end.message);
        }
    }

    /// Says that the job has ended.
    pub(super) fn end(&mut self, end: &End, tally: &Tally<'_>) {
        let kind = if end.success { "Complete" } else { "Failed" };
        self.set(kind, "True", &end.reason, &end.message);
        // One that never had anything to do may end without having begun.
        if self.began().is_none() && self.case.completions() != Some(0) {
            self.note_start();
        }
        if !end.success {
            return self.tell(&end.reason, &*end.message, true);
        }
        // The clock may have been set back.
        let at = self.began().map_or(self.case.view.now, |began| began.max(self.case.view.now));
        self.status().insert("completionTime".into(), object::time_text(at).into());
        if self.case.completions().is_some_and(|wanted| tally.succeeded > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            self.tell("TooManySucceededPods", message, true);
        }
        self.tell("Completed", "Job completed", false);
    }

    pub(super) fn suspend(&mut self) {
        if !self.case.holds("Suspended") {
            self.set("Suspended", "True", "JobSuspended", "Job suspended");
            self.tell("Suspended", "Job suspended", false);
        }
    }

    /// The job runs: anew from now, if it was suspended before.
    pub(super) fn resume(&mut self, outcome: &mut Outcome<'_>) {
        let resumes = self.case.holds("Suspended");
        if resumes {
            self.set("Suspended", "False", "JobResumed", "Job resumed");
            self.tell("Resumed", "Job resumed", false);
            self.note_start();
        }
        if let Some(seconds) = self.case.spec.active_deadline_seconds
            && (resumes || self.began().is_none())
        {
            outcome.wake(object::later(self.case.view.now, seconds.max(0)));
        }
    }

    fn write_status(&mut self, tally: &Tally<'_>) {
        let active = size(tally.active().count().saturating_sub(self.deleted));
        let ready = tally.active().filter(|member| member.pod.ready()).count();
        let ready = size(ready.saturating_sub(self.ready_deleted));
        let case = self.case;
        for (name, count) in [("active", active), ("succeeded", tally.succeeded), ("failed", tally.failed)] {
            object::set_count(&mut self.value, name, count.min(i64::from(i32::MAX)));
        }
        let completed = tally.completed.to_string();
        let status = self.status();
        status.insert("ready".into(), ready.into());
        status.insert("terminating".into(), tally.terminating().into());
        status.insert("uncountedTerminatedPods".into(), json!({}));
        if completed.is_empty() || !case.is_indexed() {
            status.remove("completedIndexes");
        } else {
            status.insert("completedIndexes".into(), completed.into());
        }
        if case.limit_per_index().is_some() {
            status.insert("failedIndexes".into(), tally.failed_indexes.to_string().into());
        }
    }

    /// All changes as one step; new pods as another one, when nothing else is to be written of pods: what is refused of
    /// them holds up nothing but them.
    pub(super) fn finish(mut self, tally: &Tally<'_>, new: &[New], outcome: &mut Outcome<'_>) {
        self.write_status(tally);
        tell_refusal(self.case, !new.is_empty() && self.pods.is_empty(), outcome);
        let job = self.case.job.object;
        if self.pods.is_empty() && !new.is_empty() && self.create(tally, new, outcome) {
            return;
        }
        if self.pods.is_empty() && self.value == job.value {
            return;
        }
        let mut transaction = Transaction::new().replace(job.key.clone(), job.revision, self.value);
        let count = self.pods.len();
        for (key, (pod, change)) in self.pods {
            transaction = match change {
                Some(value) => transaction.replace(key, pod.revision, value),
                None => transaction.delete(key, pod.revision),
            };
        }
        record(self.case, &mut transaction, &self.events);
        outcome.step(format!("status of {}, and {count} of its pods", job.key), transaction);
    }

    /// Makes pods, all in one commit with a write of the job: a plan that was made from an older state of it fails as a
    /// whole, so that no two plans make up for the same pods.
    fn create(&self, tally: &Tally<'_>, new: &[New], outcome: &mut Outcome<'_>) -> bool {
        let job = self.case.job.object;
        let mut value = self.value.clone();
        let active = size(tally.active().count().saturating_add(new.len()));
        object::set_count(&mut value, "active", active);
        let mut transaction = Transaction::new().replace(job.key.clone(), job.revision, value);
        let mut events = self.events.clone();
        let mut names = Vec::new();
        for (name, pod) in making::build(self.case, new) {
            transaction = transaction.create(Key::new(PODS, &job.key.namespace, &name), pod);
            events.push(("SuccessfulCreate".to_owned(), format!("Created pod: {name}"), false));
            names.push(name);
        }
        record(self.case, &mut transaction, &events);
        outcome.step(format!("create pods of {}: {}", job.key, names.join(", ")), transaction)
    }
}

fn record(case: &Case<'_>, transaction: &mut Transaction, events: &[(String, String, bool)]) {
    for (reason, message, warning) in events {
        let (about, message) = (case.job.object, message.clone());
        let event = Event { about, component: COMPONENT, reason, message, warning: *warning };
        events::record(case.view, transaction, &event);
    }
}

/// Says by an event that pods are refused, once per refusal.
fn tell_refusal(case: &Case<'_>, wants: bool, outcome: &mut Outcome<'_>) {
    let Some(refused) = case.view.world.refused(&case.job.object.key, PODS).filter(|_| wants) else { return };
    outcome.wake(refused.until);
    let message = format!("Error creating: {}", refused.message);
    let (about, reason) = (case.job.object, "FailedCreate");
    let event = Event { about, component: COMPONENT, reason, message, warning: true };
    events::once(case.view, outcome, &event);
}
