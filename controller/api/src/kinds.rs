//! The one table of kinds. Everything generic in this crate is driven by it: paths, discovery, verbs,
//! subresources, whether there is a status, and what is only another face of something that is stored.

use serde_json::Value;
use warren_store::{Object, Snapshot};

use crate::endpoints;

/// All verbs of an ordinary resource, in the order in which discovery shows them.
pub(crate) const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// What can be made of stored objects for a kind that is not stored: those of one namespace, or (empty) of all.
pub(crate) type Derive = fn(&Snapshot, &str) -> Vec<Object>;

/// Something below an object: `pods/NAME/log`.
#[derive(Debug)]
pub(crate) struct Subresource {
    /// The last path segment.
    pub(crate) name: &'static str,
    /// Group of the kind that it speaks; empty with an empty version means the parent's.
    pub(crate) group: &'static str,
    /// Version of the kind that it speaks.
    pub(crate) version: &'static str,
    /// The kind that it speaks; empty means the parent's.
    pub(crate) kind: &'static str,
    /// What may be done with it.
    pub(crate) verbs: &'static [&'static str],
}

/// One served kind.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Empty for the core group.
    pub(crate) group: &'static str,
    /// The version that is served; also the one that is stored, unless there is a `convert`.
    pub(crate) version: &'static str,
    /// `Deployment`; its type is in `warren_objects::schema`.
    pub(crate) kind: &'static str,
    /// `deployments`.
    pub(crate) plural: &'static str,
    /// `deployment`.
    pub(crate) singular: &'static str,
    /// What kubectl also understands.
    pub(crate) short_names: &'static [&'static str],
    /// `all` makes it part of `kubectl get all`.
    pub(crate) categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub(crate) namespaced: bool,
    /// What may be done with the objects.
    pub(crate) verbs: &'static [&'static str],
    /// What those are told who try anything else; empty for the usual words.
    pub(crate) refusal: &'static str,
    /// For a kind that is derived: how. Its objects are in no store.
    pub(crate) derive: Option<Derive>,
    /// For a version that is not the stored one: a stored object in this version.
    pub(crate) convert: Option<fn(&Value) -> Value>,
    /// The store's name of the resource, and Kubernetes' "group resource": `deployments.apps`.
    pub(crate) resource: &'static str,
    /// Whether `status` is separate: ignored on ordinary writes, written through `/status`.
    pub(crate) has_status: bool,
    /// Whether `metadata.generation` counts changes of the desired state.
    pub(crate) has_generation: bool,
    /// What lies below an object.
    pub(crate) subresources: &'static [Subresource],
}

const STATUS: Subresource =
    Subresource { name: "status", group: "", version: "", kind: "", verbs: &["get", "patch", "update"] };
const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: &["get", "patch", "update"],
};

/// Below a pod, a connection that is upgraded (`streams`).
const fn stream(name: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, group: "", version: "v1", kind, verbs: &["create", "get"] }
}
const STREAM_ATTACH: Subresource = stream("attach", "PodAttachOptions");
const STREAM_EXEC: Subresource = stream("exec", "PodExecOptions");
const STREAM_PORT_FORWARD: Subresource = stream("portforward", "PodPortForwardOptions");

/// What most kinds have in common.
const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: VERBS,
    refusal: "",
    derive: None,
    convert: None,
    resource: "",
    has_status: false,
    has_generation: false,
    subresources: &[],
};

/// Every kind that is served, core first, then by group.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        resource: "configmaps",
        ..PLAIN
    },
    Kind {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        verbs: &["get", "list"],
        refusal: "Endpoints are derived from EndpointSlices, to be read only: write or watch \
                  endpointslices.discovery.k8s.io with the label kubernetes.io/service-name instead",
        derive: Some(endpoints::derive),
        resource: "endpoints",
        ..PLAIN
    },
    Kind {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        resource: "events",
        ..PLAIN
    },
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        resource: "namespaces",
        has_status: true,
        subresources: &[
            Subresource { name: "finalize", group: "", version: "", kind: "", verbs: &["update"] },
            STATUS,
        ],
        ..PLAIN
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        resource: "nodes",
        has_status: true,
        subresources: &[STATUS],
        ..PLAIN
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        resource: "pods",
        has_status: true,
        has_generation: true,
        subresources: &[
            STREAM_ATTACH,
            Subresource { name: "binding", group: "", version: "v1", kind: "Binding", verbs: &["create"] },
            Subresource {
                name: "eviction",
                group: "policy",
                version: "v1",
                kind: "Eviction",
                verbs: &["create"],
            },
            STREAM_EXEC,
            Subresource { name: "log", group: "", version: "", kind: "", verbs: &["get"] },
            STREAM_PORT_FORWARD,
            STATUS,
        ],
        ..PLAIN
    },
    Kind { kind: "Secret", plural: "secrets", singular: "secret", resource: "secrets", ..PLAIN },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        resource: "serviceaccounts",
        ..PLAIN
    },
    Kind {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        resource: "services",
        has_status: true,
        subresources: &[STATUS],
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        resource: "deployments.apps",
        has_status: true,
        has_generation: true,
        subresources: &[SCALE, STATUS],
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        resource: "replicasets.apps",
        has_status: true,
        has_generation: true,
        subresources: &[SCALE, STATUS],
        ..PLAIN
    },
    Kind {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        resource: "endpointslices.discovery.k8s.io",
        has_generation: true,
        ..PLAIN
    },
    // For kubectl 1.20, whose `describe endpointslice` knows no other version.
    Kind {
        group: "discovery.k8s.io",
        version: "v1beta1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        verbs: &["get", "list", "watch"],
        refusal: "discovery.k8s.io/v1beta1 is served to be read only: write discovery.k8s.io/v1 instead",
        convert: Some(endpoints::slice_v1beta1),
        resource: "endpointslices.discovery.k8s.io",
        has_generation: true,
        ..PLAIN
    },
    Kind {
        group: "networking.k8s.io",
        kind: "Ingress",
        plural: "ingresses",
        singular: "ingress",
        short_names: &["ing"],
        resource: "ingresses.networking.k8s.io",
        has_status: true,
        has_generation: true,
        subresources: &[STATUS],
        ..PLAIN
    },
];

impl Kind {
    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// One of its subresources.
    pub(crate) fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

/// `v1`, `apps/v1`.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The kind behind a path.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// All groups, in table order, each once.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut all: Vec<&str> = group_versions().into_iter().map(|(group, _)| group).collect();
    all.dedup();
    all
}

/// All (group, version) pairs, in table order, each once.
pub(crate) fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for kind in KINDS {
        if !all.contains(&(kind.group, kind.version)) {
            all.push((kind.group, kind.version));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for kind in KINDS {
            let expected = if kind.group.is_empty() {
                kind.plural.to_owned()
            } else {
                format!("{}.{}", kind.plural, kind.group)
            };
            assert_eq!(kind.resource, expected);
            assert_eq!(kind.has_status, kind.subresource("status").is_some(), "{}", kind.kind);
            let stored = |other: &&Kind| other.resource == kind.resource && other.convert.is_none();
            assert_eq!(KINDS.iter().filter(stored).count(), 1, "{}", kind.kind);
            let read_only = kind.derive.is_some() || kind.convert.is_some();
            assert_eq!(read_only, !kind.refusal.is_empty(), "{}", kind.kind);
            assert_eq!(read_only, !kind.verbs.contains(&"update"), "{}", kind.kind);
            // Only what is stored has a history to watch.
            assert!(kind.derive.is_none() || !kind.verbs.contains(&"watch"), "{}", kind.kind);
        }
        assert_eq!(group_versions().len(), 5);
        assert_eq!(groups().len(), 4);
    }
}
