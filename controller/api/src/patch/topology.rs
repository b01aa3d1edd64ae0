//! How lists merge under a strategic patch: facts from the `patchStrategy` and `patchMergeKey` tags of
//! Kubernetes' API types (Apache-2.0), keyed by (type, field). What is not here is atomic (lists) or merged
//! field by field (maps).

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// The patch's list replaces the whole.
    Atomic,
    /// A set of scalars: united.
    Set,
    /// Objects, matched by this field.
    By(&'static str),
}

/// One field: the type of what is in it (of the items, for a list), and how its list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) child: &'static str,
    pub(crate) merge: Merge,
}

/// (type, field, child type, merge).
type Row = (&'static str, &'static str, &'static str, Merge);

use Merge::{Atomic, By, Set};

const TABLE: &[Row] = &[
    ("ObjectMeta", "ownerReferences", "", By("uid")),
    ("ObjectMeta", "finalizers", "", Set),
    ("Pod", "spec", "PodSpec", Atomic),
    ("Pod", "status", "PodStatus", Atomic),
    ("PodTemplateSpec", "metadata", "ObjectMeta", Atomic),
    ("PodTemplateSpec", "spec", "PodSpec", Atomic),
    ("PodSpec", "volumes", "", By("name")),
    ("PodSpec", "initContainers", "Container", By("name")),
    ("PodSpec", "containers", "Container", By("name")),
    ("PodSpec", "ephemeralContainers", "Container", By("name")),
    ("PodSpec", "imagePullSecrets", "", By("name")),
    ("PodSpec", "hostAliases", "", By("ip")),
    ("PodSpec", "topologySpreadConstraints", "", By("topologyKey")),
    ("PodSpec", "schedulingGates", "", By("name")),
    ("PodSpec", "resourceClaims", "", By("name")),
    ("PodStatus", "conditions", "", By("type")),
    ("PodStatus", "podIPs", "", By("ip")),
    ("PodStatus", "hostIPs", "", By("ip")),
    ("PodStatus", "resourceClaimStatuses", "", By("name")),
    ("Container", "ports", "", By("containerPort")),
    ("Container", "env", "", By("name")),
    ("Container", "volumeMounts", "", By("mountPath")),
    ("Container", "volumeDevices", "", By("devicePath")),
    ("Deployment", "spec", "DeploymentSpec", Atomic),
    ("Deployment", "status", "WorkloadStatus", Atomic),
    ("DeploymentSpec", "template", "PodTemplateSpec", Atomic),
    ("ReplicaSet", "spec", "ReplicaSetSpec", Atomic),
    ("ReplicaSet", "status", "WorkloadStatus", Atomic),
    ("ReplicaSetSpec", "template", "PodTemplateSpec", Atomic),
    ("WorkloadStatus", "conditions", "", By("type")),
    ("Service", "spec", "ServiceSpec", Atomic),
    ("Service", "status", "ServiceStatus", Atomic),
    ("ServiceSpec", "ports", "", By("port")),
    ("ServiceStatus", "conditions", "", By("type")),
    ("ServiceAccount", "secrets", "", By("name")),
    ("Node", "spec", "NodeSpec", Atomic),
    ("Node", "status", "NodeStatus", Atomic),
    ("NodeSpec", "podCIDRs", "", Set),
    ("NodeStatus", "conditions", "", By("type")),
    ("NodeStatus", "addresses", "", By("type")),
    ("Namespace", "status", "NamespaceStatus", Atomic),
    ("NamespaceStatus", "conditions", "", By("type")),
];

/// What is known about a field of a type. Every root type has `metadata`.
pub(crate) fn field(parent: &str, name: &str) -> Field {
    if name == "metadata" && crate::kinds::KINDS.iter().any(|kind| kind.kind == parent) {
        return Field { child: "ObjectMeta", merge: Atomic };
    }
    let row = TABLE.iter().find(|(of, field, ..)| *of == parent && *field == name);
    row.map_or(Field { child: "", merge: Atomic }, |(_, _, child, merge)| Field { child, merge: *merge })
}
