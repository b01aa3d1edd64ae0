//! Which pods does a stateful set need, in which order, and of which template?
//!
//! ```text
//!  history (the present template) ─► identity ─► claims follow their pods ─► scaling: one ordinal after the other
//!                                                                            ─► update ─► status
//! ```
//!
//! A pod's name is its identity and comes back: a pod is made only when the last one of its name is gone, which the
//! store says. One that is cut off with its node keeps its place until somebody removes it, as on Kubernetes. What
//! differs from Kubernetes: an update counts what is unavailable among all pods of the set, whatever its pod management
//! policy.

mod claims;
mod draft;
mod identity;
mod scaling;
mod status;
mod update;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use warren_state::Key;

use crate::{
    history::{HASH_LABEL, History},
    outcome::Outcome,
    selector,
    sets::Owner,
    view::{Typed, View},
};
use draft::Draft;
use warren_vocabulary::resources::{CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS};

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let Some(set) = view.typed::<StatefulSet>(key).filter(|set| !set.deleting()) else { return };
            let Some(spec) = &set.spec else { return };
            if selector::is_empty(&spec.selector) {
                let message =
                    "spec.selector is empty and would select all pods: give it labels of the template";
                return outcome.problem(key.clone(), message);
            }
            let owner = Owner { object: set.object, component: "statefulset-controller" };
            plan_set(view, &set, spec, &owner, outcome);
            let made = [PODS, PERSISTENTVOLUMECLAIMS, CONTROLLERREVISIONS];
            owner.tell_refusals(view, &made, outcome);
        });
    }
}

fn plan_set<'a>(
    view: &View<'a>,
    set: &Typed<'a, StatefulSet>,
    spec: &StatefulSetSpec,
    owner: &Owner<'a>,
    outcome: &mut Outcome<'_>,
) {
    let is_member = |pod: &crate::view::PodView<'_>| draft::ordinal(set.name(), pod.name()).is_some();
    if owner.claim(view, &spec.selector, |pod| !pod.deleting(), is_member, outcome) {
        return;
    }
    let Some(history) = History::of(view, owner, &spec.selector, HASH_LABEL, outcome) else { return };
    let Some(draft) = Draft::new(view, owner, spec, &history, outcome) else { return };
    identity::restore(&draft, outcome);
    let followed = claims::follow(&draft, outcome);
    if scaling::scale(&draft, &followed, outcome) {
        update::update(&draft, outcome);
    }
    status::write(&draft, outcome);
    history.forget(view, spec.revision_history_limit, |other| draft.lives(other.name()), outcome);
}
