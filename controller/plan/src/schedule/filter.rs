//! May a pod run on a node? The answers are Kubernetes' words.

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorTerm, PodSpec, Taint, Toleration};

use super::Candidate;
use crate::{
    indexes::PodRequest,
    node_lifecycle::tolerates,
    object, selector,
    view::{PodView, Typed},
};

/// Whether the pod may run here.
pub(super) fn fits(candidate: &Candidate<'_>, pod: &PodView<'_>, request: &PodRequest) -> bool {
    request.requested.fits(&candidate.info.used, &candidate.info.allocatable)
        && !candidate.info.ports.clash(&request.ports)
        && node_obstacle(candidate, pod).is_none()
}

/// Why the pod may not run here; empty when it may.
pub(super) fn obstacles(candidate: &Candidate<'_>, pod: &PodView<'_>, request: &PodRequest) -> Vec<String> {
    if let Some(reason) = node_obstacle(candidate, pod) {
        return vec![reason];
    }
    if candidate.info.ports.clash(&request.ports) {
        return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
    }
    let lacking = request.requested.lacking(&candidate.info.used, &candidate.info.allocatable);
    lacking
        .map(|name| if name == "pods" { "Too many pods".to_owned() } else { format!("Insufficient {name}") })
        .collect()
}

fn node_obstacle(candidate: &Candidate<'_>, pod: &PodView<'_>) -> Option<String> {
    let node = &candidate.node;
    let spec = node.spec.as_ref();
    let tolerations = tolerations(pod);
    let unschedulable = "node.kubernetes.io/unschedulable";
    if spec.and_then(|spec| spec.unschedulable) == Some(true)
        && !tolerations.iter().any(|toleration| tolerates(toleration, unschedulable, None, "NoSchedule"))
    {
        return Some("node(s) were unschedulable".to_owned());
    }
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let hard = |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    if let Some(taint) = taints.iter().filter(hard).find(|taint| !tolerated(tolerations, taint)) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
    }
    let ready = object::condition(&node.object.value, "Ready").is_some_and(|ready| ready["status"] == "True");
    if !ready || !candidate.alive {
        return Some("node(s) were not ready".to_owned());
    }
    if !pod.spec.as_ref().is_some_and(|spec| selected(node, spec)) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    candidate.info.cidr.is_none().then(|| "node(s) had no place in the overlay".to_owned())
}

/// How many taints ask, without force, to keep the pod away.
pub(super) fn avoided(node: &Node, pod: &PodView<'_>) -> i64 {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let soft = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    i64::try_from(soft.filter(|taint| !tolerated(tolerations(pod), taint)).count()).unwrap_or(i64::MAX)
}

fn tolerations<'p>(pod: &'p PodView<'_>) -> &'p [Toleration] {
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
    let none = selector::Labels::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let required = required(spec);
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
fn term_holds(term: &NodeSelectorTerm, name: &str, labels: &selector::Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = name.to_owned();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|wanted| selector::node_holds(wanted, labels.get(&wanted.key)))
        && fields
            .iter()
            .all(|wanted| wanted.key == "metadata.name" && selector::node_holds(wanted, Some(&name)))
}
