//! ClusterRoleBinding: its entry.

use super::{BINDING, shared::binding};
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    namespaced: false,
    validate: |value, errors| binding(value, false, errors),
    ..BINDING
};
