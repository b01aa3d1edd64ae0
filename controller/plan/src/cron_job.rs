//! Which jobs does a cron job need now, and which of its old ones may go?
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>.

mod children;
mod start;

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use serde_json::{Value, json};
use warren_state::{Key, Object, Precondition, Transaction};

use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    view::{Typed, View},
};
use children::Child;
use warren_vocabulary::resources::JOBS;

const COMPONENT: &str = "cronjob-controller";

/// A cron job, and what it asks for.
pub(super) struct Case<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) cron: &'a Typed<'a, CronJob>,
    pub(super) spec: &'a CronJobSpec,
}

impl Case<'_> {
    /// Tells something that goes on, once.
    pub(super) fn tell_once(&self, reason: &str, message: String, warning: bool, outcome: &mut Outcome<'_>) {
        let event = Event { about: self.cron.object, component: COMPONENT, reason, message, warning };
        events::once(self.view, outcome, &event);
    }
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let Some(cron) = view.typed::<CronJob>(key) else { return };
            if let Some(spec) = &cron.spec {
                plan_cron_job(&Case { view, cron: &cron, spec }, outcome);
            }
        });
    }
}

fn plan_cron_job(case: &Case<'_>, outcome: &mut Outcome<'_>) {
    let children: Vec<Child<'_>> = case.view.jobs_of(case.cron.uid()).map(Child::of).collect();
    let mut draft = Draft::new(case);
    children::settle(case, &mut draft, &children, outcome);
    if case.cron.deleting() {
        draft.finish(outcome);
        return;
    }
    children::forget(case, &mut draft, &children);
    // What is refused of a new job holds up nothing but it.
    let without = draft.clone();
    start::plan(case, &mut draft, outcome);
    let makes = draft.new.is_some();
    if !draft.finish(outcome) && makes {
        without.finish(outcome);
    }
}

/// A cron job in the making: its status, its jobs, and what is told of it, as one commit.
#[derive(Clone)]
pub(super) struct Draft<'a> {
    case: &'a Case<'a>,
    /// The cron job as it shall be.
    pub(super) value: Value,
    deletions: Vec<(String, Transaction)>,
    new: Option<(Key, Value)>,
    events: Vec<(&'static str, String)>,
}

impl<'a> Draft<'a> {
    fn new(case: &'a Case<'a>) -> Self {
        let value = case.cron.object.value.clone();
        Self { case, value, deletions: Vec::new(), new: None, events: Vec::new() }
    }

    /// Tells what happens with the commit.
    pub(super) fn tell(&mut self, reason: &'static str, message: String) {
        self.events.push((reason, message));
    }

    /// The jobs that are said to run.
    pub(super) fn active(&self) -> &[Value] {
        let list = warren_state::at(&self.value, "/status/active").and_then(Value::as_array);
        list.map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn set_active(&mut self, active: Vec<Value>) {
        let status = object::object_at(&mut self.value, &["status"]);
        if active.is_empty() {
            status.remove("active");
        } else {
            status.insert("active".into(), Value::Array(active));
        }
    }

    /// Adds a job to those that run.
    pub(super) fn activate(&mut self, name: &str, uid: &str) {
        let reference = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "namespace": self.case.cron.namespace(),
            "name": name,
            "uid": uid,
        });
        let active = self.active().iter().cloned().chain([reference]).collect();
        self.set_active(active);
    }

    /// Notes a time in the status.
    pub(super) fn note(&mut self, field: &str, at: jiff::Timestamp) {
        object::object_at(&mut self.value, &["status"])
            .insert(field.to_owned(), object::time_text(at).into());
    }

    /// Deletes a job, unless that has begun.
    pub(super) fn delete(&mut self, job: &Object) {
        if let Some(transaction) = object::delete(job, self.case.view.now) {
            self.deletions.push((format!("delete {}", job.key), transaction));
            self.tell("SuccessfulDelete", format!("Deleted job {}", job.key.name));
        }
    }

    pub(super) fn create(&mut self, name: &str, job: Value) {
        self.tell("SuccessfulCreate", format!("Created job {name}"));
        self.new = Some((Key::new(JOBS, self.case.cron.namespace(), name), job));
    }

    /// All changes as one step; whether it may be tried.
    fn finish(self, outcome: &mut Outcome<'_>) -> bool {
        let object = self.case.cron.object;
        let mut transaction = Transaction::new();
        let mut whys = Vec::new();
        // With a new job it is written even unchanged, so that no two plans make one of it.
        if self.value != object.value || self.new.is_some() {
            transaction = transaction.replace(object.key.clone(), object.revision, self.value);
        } else if !self.deletions.is_empty() {
            transaction.preconditions.push(Precondition::Revision(object.key.clone(), object.revision));
        }
        for (why, deletion) in self.deletions {
            transaction.preconditions.extend(deletion.preconditions);
            transaction.writes.extend(deletion.writes);
            whys.push(why);
        }
        if let Some((key, job)) = self.new {
            whys.push(format!("create {key}"));
            transaction = transaction.create(key, job);
        }
        if transaction.writes.is_empty() {
            return true;
        }
        for (reason, message) in self.events {
            let event = Event { about: object, component: COMPONENT, reason, message, warning: false };
            events::record(self.case.view, &mut transaction, &event);
        }
        let why = if whys.is_empty() { "status".to_owned() } else { whys.join(", ") };
        outcome.step(format!("{}: {why}", object.key), transaction)
    }
}

/// A job that somebody controls.
type JobView<'a> = Typed<'a, Job>;
