//! ClusterRoleBinding: its entry.

use super::RBAC;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    refusal: no_rbac!("ClusterRoleBindings"),
    ..RBAC
};
