//! RoleBinding: its entry.

use super::RBAC;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind = Kind {
    kind: "RoleBinding",
    plural: "rolebindings",
    namespaced: true,
    refusal: no_rbac!("RoleBindings"),
    ..RBAC
};
