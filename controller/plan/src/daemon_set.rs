//! On which nodes does a daemon set need a pod, and which pods must go?
//!
//! ```text
//!  history (the present template) ─► fit: which nodes ─► pods: one on each ─► rolling: none of another template ─► status
//! ```
//!
//! A pod is made for its node: it asks for that node alone, and the scheduler binds it. What differs from Kubernetes:
//! how often a pod has failed on its node is noted on the pod that takes its place, and not in the controller's memory;
//! and the old counting of templates (`deprecated.daemonset.template.generation`) is left out, for the hash says the same.

mod draft;
mod fit;
mod pods;
mod rolling;
mod status;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::Value;
use warren_state::{Key, Transaction};

use crate::{
    history::{self, History, REVISION_LABEL},
    object,
    outcome::Outcome,
    selector,
    sets::Owner,
    view::View,
};
use draft::Draft;
use warren_vocabulary::resources::{CONTROLLERREVISIONS, PODS};

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let Some(set) = view.typed::<DaemonSet>(key).filter(|set| !set.deleting()) else { return };
            let Some(spec) = &set.spec else { return };
            if selector::is_empty(&spec.selector) {
                let message =
                    "spec.selector is empty and would select all pods: give it labels of the template";
                return outcome.problem(key.clone(), message);
            }
            let owner = Owner { object: set.object, component: "daemonset-controller" };
            if !owner.claim(view, &spec.selector, |pod| !pod.deleting(), |_| true, outcome)
                && let Some(history) = History::of(view, &owner, &spec.selector, REVISION_LABEL, outcome)
                && let Some(draft) = Draft::new(view, &owner, spec, &history)
            {
                let mut changes = pods::manage(&draft, outcome);
                rolling::update(&draft, &mut changes, outcome);
                changes.finish(&draft, outcome);
                relabel(&draft, outcome);
                status::write(&draft, outcome);
                history.forget(view, spec.revision_history_limit, |other| draft.lives(other), outcome);
            }
            owner.tell_refusals(view, &[PODS, CONTROLLERREVISIONS], outcome);
        });
    }
}

/// Gives pods of a copy of the present revision the hash of that one, so that nothing happens to them when the copy goes.
fn relabel(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) {
    let present = draft.present.hash(REVISION_LABEL);
    let pods = draft.candidates.iter().flat_map(|candidate| candidate.active());
    for pod in pods.filter(|pod| draft.is_updated(pod)) {
        let changed = |value: &mut Value| {
            object::object_at(value, &["metadata", "labels"]).insert(REVISION_LABEL.into(), present.into());
        };
        let Some(value) = object::edited_within(pod.object, &["metadata"], changed) else { continue };
        let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        transaction.preconditions.push(history::unchanged(draft.owner));
        outcome.step(format!("{} is of {}", pod.object.key, draft.present.name()), transaction);
    }
}
