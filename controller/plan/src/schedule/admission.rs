//! May a pod run on the node that somebody else has chosen for it? A node refuses what it cannot hold, and such a pod has
//! failed: whoever made it makes another one.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename>.

use k8s_openapi::api::core::v1::Pod;

use super::{
    COMPONENT,
    candidate::{Candidate, Taken},
    filter::selected,
};
use crate::{
    events::Event,
    indexes::{By, PodRequest},
    outcome::Outcome,
    pods,
    view::{PodView, Typed, View},
};

/// Why a node refuses a pod: the status' reason, and its message.
pub(super) struct Rejection {
    reason: String,
    message: String,
}

/// Whether a node refuses a pod that is assigned to it. Only what it has let in counts: pods with an address.
pub(super) fn rejection(
    view: &View<'_>,
    candidate: &Candidate<'_>,
    pod: &PodView<'_>,
    request: &PodRequest,
) -> Option<Rejection> {
    let failed = |predicate: &str, why: &str| Rejection {
        reason: predicate.to_owned(),
        message: format!("Pod was rejected: Predicate {predicate} failed: {why}"),
    };
    if !pod.spec.as_ref().is_some_and(|spec| selected(&candidate.node, spec)) {
        return Some(failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let taken = let_in(view, candidate);
    if taken.ports.clash(&request.ports) {
        return Some(failed("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    let offered = &candidate.info.allocatable;
    // A node that has not said yet what it offers refuses nothing.
    let is_known = offered.amount("pods") > 0;
    let name = request.requested.lacking(&taken.amounts, offered).next().filter(|_| is_known)?;
    Some(Rejection {
        reason: format!("OutOf{name}"),
        message: format!("Pod was rejected: Node didn't have enough resource: {name}"),
    })
}

/// What others take that the node has let in: all that is taken, less what waits to be let in, this pod among it.
fn let_in<'c>(view: &View<'_>, candidate: &'c Candidate<'_>) -> Taken<'c> {
    let mut taken = candidate.used();
    let assigned = view.indexes.of(By::PodNode, candidate.node.name());
    for pod in assigned.filter_map(|object| Typed::<Pod>::of(object).ok()) {
        let waits = pod.address().is_none() && !candidate.let_in.contains(&pod.object.key);
        if waits && !pod.terminal() {
            taken.release(&PodRequest::new(&pod));
        }
    }
    taken
}

/// Ends the pod, and tells why.
pub(super) fn reject(view: &View<'_>, pod: &PodView<'_>, rejection: Rejection, outcome: &mut Outcome<'_>) {
    let Rejection { reason, message } = rejection;
    let event = Event { about: pod.object, component: COMPONENT, reason: &reason, message, warning: true };
    pods::fail(view, &event, "is refused by its node", outcome);
}
