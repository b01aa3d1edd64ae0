//! RoleBinding: its entry.

use super::RBAC;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "RoleBinding",
    plural: "rolebindings",
    namespaced: true,
    refusal: no_rbac!("RoleBindings"),
    ..RBAC
};
