//! May a pod run on a node? The answers are Kubernetes' words.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorTerm, PodSpec, Taint, Toleration};

use super::candidate::{Candidate, Taken};
use crate::{
    indexes::PodRequest,
    node_lifecycle::tolerates,
    selector,
    view::{PodView, Typed},
};

/// What refuses a pod, by Kubernetes' names where it has such a filter.
pub(super) const RESOURCES: &str = "NodeResourcesFit";
pub(super) const PORTS: &str = "NodePorts";
const UNSCHEDULABLE: &str = "NodeUnschedulable";
const TAINTS: &str = "TaintToleration";
const AFFINITY: &str = "NodeAffinity";
const READINESS: &str = "NodeReady";
pub(super) const NETWORK: &str = "NodeNetwork";
pub(super) const OTHER_PODS: &str = "InterPodAffinity";
pub(super) const SPREAD: &str = "PodTopologySpread";

/// Why a pod may not run on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// Which filter refuses it.
    pub(super) filter: &'static str,
    pub(super) reason: Cow<'static, str>,
    /// It stays whoever goes from the node.
    pub(super) stays: bool,
}

impl Obstacle {
    pub(super) fn passing(filter: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { filter, reason: reason.into(), stays: false }
    }

    pub(super) fn lasting(filter: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { filter, reason: reason.into(), stays: true }
    }
}

/// Whether the pod may run here.
pub(super) fn fits(candidate: &Candidate<'_>, pod: &PodView<'_>, request: &PodRequest) -> bool {
    candidate.has_room(request, &pod.object.key) && node_obstacle(candidate, pod).is_none()
}

/// Why the pod may not run here, when so much is taken; empty when it may.
pub(super) fn obstacles(
    candidate: &Candidate<'_>,
    taken: &Taken<'_>,
    pod: &PodView<'_>,
    request: &PodRequest,
) -> Vec<Obstacle> {
    if let Some((filter, reason)) = node_obstacle(candidate, pod) {
        return vec![Obstacle::lasting(filter, reason)];
    }
    if taken.ports.clash(&request.ports) {
        return vec![Obstacle::passing(PORTS, "node(s) didn't have free ports for the requested pod ports")];
    }
    let (requested, offered) = (&request.requested, &candidate.info.allocatable);
    let lacking = requested.lacking(&taken.amounts, offered);
    lacking
        .map(|name| Obstacle {
            filter: RESOURCES,
            reason: match name {
                "pods" => "Too many pods".into(),
                name => format!("Insufficient {name}").into(),
            },
            stays: requested.exceeds(name, offered),
        })
        .collect()
}

/// What about the node itself keeps the pod away: which filter, and why.
fn node_obstacle(candidate: &Candidate<'_>, pod: &PodView<'_>) -> Option<(&'static str, Cow<'static, str>)> {
    let node = &candidate.node;
    let other = || (AFFINITY, "node(s) didn't match Pod's node affinity/selector".into());
    let chosen = || pod.spec.as_ref().is_some_and(|spec| selected(node, spec));
    if candidate.plain {
        return (!chosen()).then(other);
    }
    let spec = node.spec.as_ref();
    let tolerations = tolerations(pod);
    let unschedulable = "node.kubernetes.io/unschedulable";
    if spec.and_then(|spec| spec.unschedulable) == Some(true)
        && !tolerations.iter().any(|toleration| tolerates(toleration, unschedulable, None, "NoSchedule"))
    {
        return Some((UNSCHEDULABLE, "node(s) were unschedulable".into()));
    }
    if let Some(taint) = untolerated(candidate, tolerations) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some((TAINTS, format!("node(s) had untolerated taint {{{}: {value}}}", taint.key).into()));
    }
    if !candidate.ready {
        return Some((READINESS, "node(s) were not ready".into()));
    }
    if !chosen() {
        return Some(other());
    }
    candidate.info.cidr.is_none().then(|| (NETWORK, "node(s) had no place in the overlay".into()))
}

/// The first taint that keeps a pod with such tolerations away.
pub(super) fn untolerated<'c>(candidate: &'c Candidate<'_>, tolerations: &[Toleration]) -> Option<&'c Taint> {
    let taints = candidate.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let hard = |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    taints.iter().filter(hard).find(|taint| !tolerated(tolerations, taint))
}

/// How many taints ask, without force, to keep the pod away.
pub(super) fn avoided(node: &Node, pod: &PodView<'_>) -> i64 {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let soft = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    i64::try_from(soft.filter(|taint| !tolerated(tolerations(pod), taint)).count()).unwrap_or(i64::MAX)
}

pub(super) fn tolerations<'p>(pod: &'p PodView<'_>) -> &'p [Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// Whether any of the tolerations covers a taint.
pub(crate) fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations
        .iter()
        .any(|toleration| tolerates(toleration, &taint.key, taint.value.as_deref(), &taint.effect))
}

/// nodeSelector and required nodeAffinity.
pub(crate) fn selected(node: &Typed<'_, Node>, spec: &PodSpec) -> bool {
    let required = required(spec);
    if required.is_none() && spec.node_selector.is_none() {
        return true;
    }
    let none = selector::Labels::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    spec.node_selector.as_ref().is_none_or(|wanted| selector::contains(labels, wanted))
        && required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| term_holds(term, node.name(), labels))
        })
}

/// Where a pod must run, by its affinity to nodes.
fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    affinity.required_during_scheduling_ignored_during_execution.as_ref()
}

/// The one node that a pod asks for by its name, as the pods of daemon sets do.
pub(crate) fn pinned(spec: &PodSpec) -> Option<&str> {
    let [term] = required(spec)?.node_selector_terms.as_slice() else { return None };
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let mut names = fields.iter().filter(|field| field.key == "metadata.name" && field.operator == "In");
    let [name] = names.next()?.values.as_deref()? else { return None };
    Some(name)
}

/// All requirements of a term; a term without any matches nothing.
pub(super) fn term_holds(term: &NodeSelectorTerm, name: &str, labels: &selector::Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = name.to_owned();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|wanted| selector::node_holds(wanted, labels.get(&wanted.key)))
        && fields
            .iter()
            .all(|wanted| wanted.key == "metadata.name" && selector::node_holds(wanted, Some(&name)))
}
