//! Does a daemon set's pod belong on a node? Neither what the node has left counts, nor whether it can be given work now.

use k8s_openapi::api::core::v1::{Node, PodSpec, Taint, Toleration};
use serde_json::{Value, json};

use crate::{object, schedule, view::Typed};

/// What daemon pods tolerate whatever their template says: key and effect.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations>.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// The same for pods in the network of their node.
const OF_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What a node is to a daemon set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// It should have a pod.
    pub(super) runs: bool,
    /// It may keep the one that it has.
    pub(super) keeps: bool,
}

/// Judges a node by the template and all that its pods tolerate.
pub(super) fn judge(spec: &PodSpec, tolerations: &[Toleration], node: &Typed<'_, Node>) -> Fit {
    let named = spec.node_name.as_deref().is_none_or(|name| name.is_empty() || name == node.name());
    if !named || !schedule::selected(node, spec) {
        return Fit { runs: false, keeps: false };
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let refuses = |effects: &[&str]| {
        let hard = |taint: &&Taint| effects.contains(&taint.effect.as_str());
        taints.iter().filter(hard).any(|taint| !schedule::tolerated(tolerations, taint))
    };
    let keeps = !refuses(&["NoExecute"]);
    Fit { runs: keeps && !refuses(&["NoSchedule"]) && !node.deleting(), keeps }
}

fn added(spec: &PodSpec) -> impl Iterator<Item = (&'static str, &'static str)> {
    let host = spec.host_network == Some(true);
    TOLERATED.into_iter().chain(host.then_some(OF_HOST_NETWORK))
}

/// All that a pod of the template tolerates.
pub(super) fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let added = added(spec).map(|(key, effect)| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    });
    spec.tolerations.iter().flatten().cloned().chain(added).collect()
}

/// Adds to a pod what daemon pods tolerate, and the one node that it is for. The template's own affinity to nodes has
/// been asked when the node was chosen.
pub(super) fn pin(pod: &mut Value, spec: &PodSpec, node: &str) {
    let fields = object::object_at(pod, &["spec"]);
    let mut all = fields.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for (key, effect) in added(spec) {
        let toleration = json!({ "key": key, "operator": "Exists", "effect": effect });
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    fields.insert("tolerations".into(), all.into());
    let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    object::object_at(pod, &["spec", "affinity", "nodeAffinity"]).insert(
        "requiredDuringSchedulingIgnoredDuringExecution".into(),
        json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] }),
    );
}
