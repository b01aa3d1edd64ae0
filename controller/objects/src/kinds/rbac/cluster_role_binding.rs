//! ClusterRoleBinding: its entry.

use super::RBAC;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    refusal: no_rbac!("ClusterRoleBindings"),
    ..RBAC
};
