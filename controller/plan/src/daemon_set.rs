//! On which nodes does a daemon set need a pod, and which pods must go?
//!
//! ```text
//!  history (the present template) ─► fit: which nodes ─► pods: one on each ─► rolling: none of another template ─► status
//! ```
//!
//! A pod is made for its node: it asks for that node alone, and the scheduler binds it. What differs from Kubernetes:
//! how often a pod has failed on its node is noted on the pod that takes its place, and not in the controller's memory.

mod draft;
mod fit;
mod pods;
mod rolling;
mod status;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use warren_state::Key;

use crate::{
    history::{History, REVISION_LABEL},
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
                status::write(&draft, outcome);
                history.forget(view, spec.revision_history_limit, |other| draft.lives(other), outcome);
            }
            owner.tell_refusals(view, &[PODS, CONTROLLERREVISIONS], outcome);
        });
    }
}
