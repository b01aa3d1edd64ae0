//! How good is a node for a pod? The node that is least loaded in its most loaded dimension afterwards is the best, if nothing
//! else is wished for, less half of what the pod itself is of the node. All is said in millionths of load, and less is better.
//!
//! Nodes that are alike are told apart by the load alone. Of unlike ones a small node, which a pod fills more, would be left
//! empty for it: by how much the spread of loads grows with a pod depends on the middle of the load before and after, and the
//! large nodes are kept for large pods. `benches/evenness.rs` compares this with kube-scheduler's scores.

use k8s_openapi::api::core::v1::PodSpec;

use super::{candidate::Candidate, class::Class, explain::Score, filter, leaning::WEIGHT, spread};
use crate::{indexes::PodRequest, selector::Labels, view::PodView};

/// What one pod of the same owner on a node counts; and where the pod says itself how it is to be spread.
const SIBLING: i64 = 100_000;
const SIBLING_ASIDE: i64 = 25_000;
/// What a taint with effect PreferNoSchedule counts: more than any load.
const AVOIDED: i64 = 2_000_000;

/// What a node costs by itself, images and other pods than siblings left aside.
pub(super) fn base(candidate: &Candidate<'_>, class: &Class<'_>, node: usize) -> i64 {
    let (pod, request) = (&class.pod, &class.request);
    load(candidate, request)
        .saturating_sub(size(candidate, request))
        .saturating_add(siblings(class, node))
        .saturating_add(avoided(candidate, pod))
        .saturating_sub(wished(candidate, pod))
}

/// The same as [`base`] and all the rest, part by part, for people.
pub(super) fn of(candidate: &Candidate<'_>, class: &Class<'_>, node: usize) -> Score {
    let (pod, request) = (&class.pod, &class.request);
    let loads = candidate.info.assumed.loads(&request.assumed, &candidate.info.allocatable);
    let (spread, company) = class.relations.leanings(node);
    let images = class.bonus(node).saturating_neg();
    let parts = [base(candidate, class, node), spread, company, images];
    Score {
        cost: parts.into_iter().fold(0, i64::saturating_add),
        load: loads.into_iter().rev().max_by_key(|(_, load)| *load).unwrap_or(("", 0)),
        size: size(candidate, request).saturating_neg(),
        siblings: siblings(class, node),
        taints: avoided(candidate, pod),
        preferences: wished(candidate, pod).saturating_neg(),
        spread,
        company,
        images,
    }
}

fn load(candidate: &Candidate<'_>, request: &PodRequest) -> i64 {
    candidate.info.assumed.load(&request.assumed, &candidate.info.allocatable)
}

/// Half of what a pod is of a node, in the mean of cpu and memory.
fn size(candidate: &Candidate<'_>, request: &PodRequest) -> i64 {
    request.assumed.share(&candidate.info.allocatable) / 2
}

fn siblings(class: &Class<'_>, node: usize) -> i64 {
    let each = if class.pod.spec.as_ref().is_some_and(spread::asks) { SIBLING_ASIDE } else { SIBLING };
    class.relations.siblings(node).saturating_mul(each)
}

fn avoided(candidate: &Candidate<'_>, pod: &PodView<'_>) -> i64 {
    if !candidate.tainted {
        return 0;
    }
    filter::avoided(&candidate.node, pod).saturating_mul(AVOIDED)
}

/// What the pod's preferences for nodes count here.
fn wished(candidate: &Candidate<'_>, pod: &PodView<'_>) -> i64 {
    let preferred = |spec: &PodSpec| {
        let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        let none = Labels::new();
        let labels = candidate.node.metadata.labels.as_ref().unwrap_or(&none);
        let held = terms
            .iter()
            .filter(|term| filter::term_holds(&term.preference, candidate.node.name(), labels))
            .map(|term| i64::from(term.weight));
        Some(held.fold(0, i64::saturating_add).saturating_mul(WEIGHT))
    };
    pod.spec.as_ref().and_then(preferred).unwrap_or(0)
}
