//! What all planners of sets of pods have in common: whose a pod is, how a new one is made, what is told.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use serde_json::Value;
use warren_state::{Object, Precondition, Transaction};

use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    pods, selector,
    view::{PodView, View},
};

/// The reason of events and conditions about what was to be made and is not.
pub(crate) const FAILED_CREATE: &str = "FailedCreate";
/// The most pods that any object may ask for: numbers of the API have 32 bits.
pub(crate) const MOST: i64 = i32::MAX as i64;

/// A set of pods, as far as all kinds of sets are alike.
pub(crate) struct Owner<'a> {
    pub(crate) object: &'a Arc<Object>,
    /// Who tells of it.
    pub(crate) component: &'static str,
}

impl Owner<'_> {
    /// Adds an event about the set to a transaction.
    pub(crate) fn tell(
        &self,
        view: &View<'_>,
        transaction: &mut Transaction,
        reason: &str,
        message: String,
        warning: bool,
    ) {
        let event = Event { about: self.object, component: self.component, reason, message, warning };
        events::record(view, transaction, &event);
    }

    /// Says that something is not made, once per message.
    pub(crate) fn tell_failure(&self, view: &View<'_>, outcome: &mut Outcome<'_>, message: String) {
        let (about, component) = (self.object, self.component);
        let event = Event { about, component, reason: FAILED_CREATE, message, warning: true };
        events::once(view, outcome, &event);
    }

    /// Says by an event that objects of these resources are refused, once per refusal.
    pub(crate) fn tell_refusals(&self, view: &View<'_>, resources: &[&str], outcome: &mut Outcome<'_>) {
        for refused in resources.iter().filter_map(|of| view.world.refused(&self.object.key, of)) {
            outcome.wake(refused.until);
            self.tell_failure(view, outcome, format!("Error creating: {}", refused.message));
        }
    }

    /// Adopts pods that match and are nobody's, lets go of pods that do not match any more; whether there is anything
    /// to do. Pods that are not `concerned` stay whose they are; one that does not `fit` cannot be the set's.
    pub(crate) fn claim(
        &self,
        view: &View<'_>,
        selector: &LabelSelector,
        concerned: impl Fn(&PodView<'_>) -> bool,
        fits: impl Fn(&PodView<'_>) -> bool,
        outcome: &mut Outcome<'_>,
    ) -> bool {
        let set = self.object;
        let prepared = selector::Prepared::new(selector);
        let mut changes = false;
        let none = selector::Labels::new();
        let labels = selector.match_labels.as_ref().unwrap_or(&none);
        let owned = view.pods_of(object::uid(set)).map(|pod| (pod, true));
        let orphans = view.orphans(&set.key.namespace, labels).into_iter().map(|pod| (pod, false));
        for (pod, ours) in owned.chain(orphans).filter(|(pod, _)| concerned(pod)) {
            let (verb, value) = match (ours, fits(&pod) && prepared.matches(pod.labels())) {
                (false, true) => ("adopt", object::edited(pod.object, |value| object::adopt(value, set))),
                (true, false) => {
                    ("release", object::edited(pod.object, |value| object::disown(value, object::uid(set))))
                }
                _ => continue,
            };
            let Some(value) = value else { continue };
            let mut transaction =
                Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
            transaction.preconditions.push(Precondition::Exists(set.key.clone()));
            outcome.step(format!("{verb} {} by {}", pod.object.key, set.key.name), transaction);
            changes = true;
        }
        changes
    }

    /// How many pods of the set may wait for a node at the same time.
    pub(crate) fn most_waiting(&self) -> usize {
        pods::most_waiting(self.object)
    }

    /// Says why no more pods are made.
    pub(crate) fn hold_back(
        &self,
        view: &View<'_>,
        waiting: usize,
        missing: usize,
        outcome: &mut Outcome<'_>,
    ) {
        let message = format!(
            "{waiting} pods wait for a node: the {missing} that are missing are made when these have found one. Add \
             nodes, or lower spec.replicas"
        );
        let mut transaction = Transaction::new();
        let (about, component) = (self.object, self.component);
        let event = Event { about, component, reason: FAILED_CREATE, message, warning: true };
        events::record_once(view, &mut transaction, &event);
        outcome.problem(self.object.key.clone(), event.message);
        outcome.step(format!("{} makes no more pods for now", self.object.key), transaction);
    }

    /// Names that no pod of the set has had.
    pub(crate) fn new_names(&self, view: &View<'_>, count: usize) -> Vec<String> {
        let mut names = BTreeSet::new();
        for name in pods::new_names(view, self.object, &pods::prefix(&self.object.key.name)) {
            if names.len() >= count {
                break;
            }
            names.insert(name);
        }
        names.into_iter().collect()
    }

    /// A complete pod of a name that begins with the set's.
    pub(crate) fn new_pod(&self, view: &View<'_>, template: &Value, name: &str) -> Value {
        pods::new_pod(view, self.object, template, &pods::prefix(&self.object.key.name), name)
    }
}

/// Whether an object makes room for another one of its name soon: it is being deleted, or what controls it is gone.
pub(crate) fn makes_room(view: &View<'_>, object: &Object) -> bool {
    object::is_deleting(object)
        || object::controller_uid(object).is_some_and(|uid| view.by_uid(uid).is_none())
}

/// Whether a pod has been ready for long enough; asks for a wake-up when it only has to wait.
pub(crate) fn is_available(pod: &PodView<'_>, wait: i32, now: Timestamp, outcome: &mut Outcome<'_>) -> bool {
    match pod.available(wait, now) {
        Ok(()) => true,
        Err(due) => {
            due.into_iter().for_each(|due| outcome.wake(due));
            false
        }
    }
}

/// A number, or a percentage of all.
pub(crate) fn share(value: &IntOrString, all: i64, up: bool) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number).max(0),
        IntOrString::String(text) => {
            let percent =
                text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()).unwrap_or(0).max(0);
            let hundredths = percent.saturating_mul(all);
            let share = if up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 };
            share.min(MOST)
        }
    }
}
