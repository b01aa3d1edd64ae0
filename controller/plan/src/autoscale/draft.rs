//! What an autoscaler writes: its status and the target's size, as one commit, with what is told of it.

use jiff::Timestamp;
use serde_json::{Map, Value};
use warren_state::Transaction;

use super::{ABLE, Autoscaler, COMPONENT, STAGE, target::Target};
use crate::{
    events::{self, Event},
    object::{self, Condition},
    outcome::Outcome,
    view::View,
};

/// An autoscaler's commit in the making.
pub(super) struct Draft<'a> {
    view: &'a View<'a>,
    autoscaler: &'a Autoscaler<'a>,
    /// As it shall be, but for its conditions.
    value: Value,
    /// The last word on each.
    conditions: Vec<Said>,
    /// Reasons and messages of warnings.
    warnings: Vec<(&'static str, String)>,
    rescale: Option<Rescale<'a>>,
}

#[derive(Clone)]
struct Said {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

/// Another size for the target, and why.
struct Rescale<'a> {
    target: Target<'a>,
    replicas: i64,
    reason: String,
}

impl<'a> Draft<'a> {
    pub(super) fn new(view: &'a View<'a>, autoscaler: &'a Autoscaler<'a>) -> Self {
        let value = autoscaler.object.value.clone();
        Self { view, autoscaler, value, conditions: Vec::new(), warnings: Vec::new(), rescale: None }
    }

    /// Says something by a condition.
    pub(super) fn say(&mut self, kind: &'static str, status: bool, reason: &'static str, message: &str) {
        self.conditions.retain(|said| said.kind != kind);
        self.conditions.push(Said { kind, status, reason, message: message.to_owned() });
    }

    /// Tells what is wrong, once as long as it is.
    pub(super) fn warn(&mut self, reason: &'static str, message: String) {
        self.warnings.push((reason, message));
    }

    fn status(&mut self) -> &mut Map<String, Value> {
        object::object_at(&mut self.value, &["status"])
    }

    pub(super) fn set_current(&mut self, replicas: i64) {
        self.status().insert("currentReplicas".into(), replicas.into());
    }

    /// The metrics that could be had, though they lead to no size.
    pub(super) fn fail(&mut self, metrics: Vec<Value>) {
        if metrics.is_empty() {
            self.status().remove("currentMetrics");
        } else {
            self.status().insert("currentMetrics".into(), metrics.into());
        }
    }

    /// The size that is wanted, and by which metrics.
    pub(super) fn settle(&mut self, replicas: i64, metrics: Vec<Value>) {
        self.status().insert("desiredReplicas".into(), replicas.into());
        self.fail(metrics);
    }

    /// Gives the target another size.
    pub(super) fn rescale(&mut self, target: Target<'a>, replicas: i64, reason: String) {
        let message = format!("the HPA controller was able to update the target scale to {replicas}");
        self.say(ABLE, true, "SucceededRescale", &message);
        self.rescale = Some(Rescale { target, replicas, reason });
    }

    /// By how many pods the target is to change.
    pub(super) fn change(&self) -> Option<i64> {
        self.rescale.as_ref().map(|rescale| rescale.replicas.saturating_sub(rescale.target.replicas))
    }

    /// The same without the target, if that was refused the last time; it says so.
    pub(super) fn refused(&self) -> Option<Self> {
        let Rescale { target, replicas, reason } = self.rescale.as_ref()?;
        let refusals = self.view.world.refusals.get(&self.autoscaler.object.key)?;
        let ours = refusals.iter().find(|one| one.planner == STAGE && one.what == target.object.key)?;
        let mut draft = Self {
            view: self.view,
            autoscaler: self.autoscaler,
            value: self.value.clone(),
            conditions: self.conditions.clone(),
            warnings: self.warnings.clone(),
            rescale: None,
        };
        draft.status().insert("desiredReplicas".into(), target.replicas.into());
        let why = &ours.message;
        let message = format!("the HPA controller was unable to update the target scale: {why}");
        draft.say(ABLE, false, "FailedUpdateScale", &message);
        let message = format!("New size: {replicas}; reason: {reason}; error: {why}");
        draft.warn("FailedRescale", message);
        Some(draft)
    }

    /// All changes as one step; whether it may be tried.
    pub(super) fn finish(mut self, now: Timestamp, outcome: &mut Outcome<'_>) -> bool {
        let (view, object) = (self.view, self.autoscaler.object);
        if let Some(generation) = warren_state::at(&object.value, "/metadata/generation").cloned() {
            self.status().insert("observedGeneration".into(), generation);
        }
        if self.rescale.is_some() {
            self.status().insert("lastScaleTime".into(), object::time_text(now).into());
        }
        for Said { kind, status, reason, message } in &self.conditions {
            let status = if *status { "True" } else { "False" };
            object::set_condition(&mut self.value, &Condition { kind, status, reason, message }, now);
        }
        let mut transaction = Transaction::new();
        if self.value != *object.value || self.rescale.is_some() {
            transaction = transaction.replace(object.key.clone(), object.revision, self.value);
        }
        let event = |reason, message, warning| Event {
            about: object,
            component: COMPONENT,
            reason,
            message,
            warning,
        };
        let mut why = "status".to_owned();
        if let Some(Rescale { target, replicas, reason }) = &self.rescale {
            transaction = target.resize(transaction, *replicas);
            why = format!("scale {} to {replicas}", target.object.key);
            let message = format!("New size: {replicas}; reason: {reason}");
            events::record(view, &mut transaction, &event("SuccessfulRescale", message, false));
        }
        for (reason, message) in self.warnings {
            events::record_once(view, &mut transaction, &event(reason, message, true));
        }
        outcome.step(format!("{}: {why}", object.key), transaction)
    }
}
