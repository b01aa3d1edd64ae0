//! How fields merge under a strategic patch: the `patchStrategy` and `patchMergeKey` of Kubernetes' types, from the
//! table of types. There are no exceptions to it; what it does not know (raw JSON) is atomic (lists) or merged field by
//! field (maps).

use warren_objects::schema::{Message, Patch, Type};

/// The type of a value; `None` where the table knows nothing.
pub(super) type Node = Option<Type>;

/// How a list or a map merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// The patch's list replaces the whole; maps merge.
    Atomic,
    /// A set of scalars: united.
    Set,
    /// Objects, matched by this field.
    By(&'static str),
    /// The patch's map replaces the whole.
    Replace,
}

/// One field: the type of what is in it (of the items, for a list), and how it merges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) child: Node,
    pub(super) merge: Merge,
}

/// Where a patch of an object begins.
pub(super) fn root(message: &'static Message) -> Node {
    Some(Type::Object(message))
}

/// What is known about a field of a type.
pub(super) fn field(parent: Node, name: &str) -> Field {
    match parent {
        Some(Type::Object(message)) => match message.field(name) {
            Some(field) => Field { child: Some(item(field.kind)), merge: merge(field.patch()) },
            None => Field { child: None, merge: Merge::Atomic },
        },
        Some(Type::Map(value)) => Field { child: Some(item(*value)), merge: Merge::Atomic },
        _ => Field { child: None, merge: Merge::Atomic },
    }
}

/// What is in a list; any other type as it is.
fn item(kind: Type) -> Type {
    match kind {
        Type::List(item) => *item,
        other => other,
    }
}

fn merge(patch: Patch) -> Merge {
    match patch {
        // The patch itself carries `$retainKeys`.
        Patch::Default | Patch::RetainKeys => Merge::Atomic,
        Patch::By(key) => Merge::By(key),
        Patch::Union => Merge::Set,
        Patch::Replace => Merge::Replace,
    }
}

#[cfg(test)]
mod tests {
    use warren_objects::schema;

    use super::*;

    fn at(group: &str, kind: &str, path: &str) -> Merge {
        let mut node = root(schema::root(group, "v1", kind).unwrap());
        let mut merge = Merge::Atomic;
        for name in path.split('.') {
            let found = field(node, name);
            assert!(found.child.is_some(), "{kind}.{path}: no {name}");
            (node, merge) = (found.child, found.merge);
        }
        merge
    }

    #[test]
    fn merge_keys_of_kubernetes() {
        let pod = "spec.template.spec";
        for (path, key) in [
            ("containers", "name"),
            ("initContainers", "name"),
            ("ephemeralContainers", "name"),
            ("imagePullSecrets", "name"),
            ("volumes", "name"),
            ("schedulingGates", "name"),
            ("resourceClaims", "name"),
            ("hostAliases", "ip"),
            ("topologySpreadConstraints", "topologyKey"),
            ("containers.env", "name"),
            ("containers.ports", "containerPort"),
            ("containers.volumeMounts", "mountPath"),
            ("containers.volumeDevices", "devicePath"),
            ("ephemeralContainers.ports", "containerPort"),
        ] {
            assert_eq!(at("apps", "Deployment", &format!("{pod}.{path}")), Merge::By(key), "{path}");
        }
        for (kind, path, key) in [
            ("Pod", "metadata.ownerReferences", "uid"),
            ("Pod", "status.conditions", "type"),
            ("Pod", "status.podIPs", "ip"),
            ("Pod", "status.hostIPs", "ip"),
            ("Pod", "status.resourceClaimStatuses", "name"),
            ("Service", "spec.ports", "port"),
            ("Service", "status.conditions", "type"),
            ("ServiceAccount", "secrets", "name"),
            ("Node", "status.conditions", "type"),
            ("Node", "status.addresses", "type"),
            ("Namespace", "status.conditions", "type"),
        ] {
            assert_eq!(at("", kind, path), Merge::By(key), "{kind}.{path}");
        }
        assert_eq!(at("", "ConfigMap", "metadata.finalizers"), Merge::Set);
        assert_eq!(at("", "Node", "spec.podCIDRs"), Merge::Set);
        assert_eq!(at("policy", "PodDisruptionBudget", "spec.selector"), Merge::Replace);
    }

    #[test]
    fn all_other_lists_are_atomic() {
        for (group, kind, path) in [
            ("", "Pod", "spec.tolerations"),
            ("", "Pod", "spec.containers.command"),
            ("", "Pod", "spec.containers.args"),
            ("", "Pod", "spec.containers.envFrom"),
            ("", "Node", "spec.taints"),
            ("", "Service", "spec.loadBalancerSourceRanges"),
            ("", "ServiceAccount", "imagePullSecrets"),
            ("networking.k8s.io", "Ingress", "spec.rules"),
            ("networking.k8s.io", "Ingress", "spec.tls"),
            ("rbac.authorization.k8s.io", "Role", "rules"),
        ] {
            assert_eq!(at(group, kind, path), Merge::Atomic, "{kind}.{path}");
        }
        let labels = field(field(root(schema::root("", "v1", "Pod").unwrap()), "metadata").child, "labels");
        assert_eq!(field(labels.child, "app").merge, Merge::Atomic);
        assert!(field(None, "spec").child.is_none());
    }
}
