//! Which replica sets does a deployment need, and how many pods may each have now?
//!
//! Kubernetes' rolling update, decision by decision. What differs: the numbers of live and available pods are
//! counted from the pods of the same snapshot instead of from the replica sets' statuses, which may lag; and
//! all that one deployment needs in one pass is a single commit.
//!
//! ```text
//!  owned sets ─► revision (find or make the new set) ─► scaling | rollback | rolling | recreate ─► status ─► one step
//! ```

mod answers;
mod draft;
mod numbers;
mod revision;
mod rollback;
mod rolling;
mod scaling;
mod status;
mod trouble;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use warren_state::Key;

use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    selector,
    view::{Typed, View},
};
use draft::Draft;
use warren_vocabulary::resources::REPLICASETS;

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            if let Some(deployment) = view.typed::<Deployment>(key) {
                plan_deployment(view, &deployment, outcome);
            }
        });
    }
}

fn plan_deployment(view: &View<'_>, deployment: &Typed<'_, Deployment>, outcome: &mut Outcome<'_>) {
    let Some(spec) = &deployment.spec else { return };
    if selector::is_empty(&spec.selector) {
        let message = "spec.selector is empty and would select all pods: give it labels of the template";
        outcome.problem(deployment.object.key.clone(), message);
        return;
    }
    let mut draft = Draft::new(view, deployment, outcome);
    if deployment.deleting() {
        status::counts(&mut draft);
        draft.finish(outcome);
        return;
    }
    if draft.adopts() {
        draft.finish(outcome);
        return;
    }
    status::paused(&mut draft);
    revision::find(&mut draft);
    if draft.paused() || scaling::is_scaling(&draft) {
        scaling::scale(&mut draft);
        if draft.paused() {
            revision::clean(&mut draft);
        }
        status::counts(&mut draft);
    } else if !rollback::happens(&mut draft, outcome) {
        if draft.numbers.recreates {
            rolling::recreate(&mut draft);
        } else {
            rolling::roll(&mut draft);
        }
        status::rollout(&mut draft, outcome);
    }
    draft.finish(outcome);
    tell_refusal(view, deployment, outcome);
}

/// Says by an event that the new replica set is refused, once per refusal.
fn tell_refusal(view: &View<'_>, deployment: &Typed<'_, Deployment>, outcome: &mut Outcome<'_>) {
    let about = deployment.object;
    let Some(refused) = view.world.refused(&about.key, REPLICASETS) else { return };
    outcome.wake(refused.until);
    let message = format!("Failed to create new replica set: {}", refused.message);
    let reason = revision::CREATE_ERROR;
    events::once(view, outcome, &Event { about, component: COMPONENT, reason, message, warning: true });
}

/// `deployment.kubernetes.io/NAME`.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Label of a replica set and its pods that tells them from those of other templates.
const TEMPLATE_HASH: &str = "pod-template-hash";
const COMPONENT: &str = "deployment-controller";

/// A number in an annotation.
fn number(value: &serde_json::Value, annotation: &str) -> Option<i64> {
    object::annotation(value, annotation)?.parse().ok()
}
