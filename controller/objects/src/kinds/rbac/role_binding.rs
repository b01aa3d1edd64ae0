//! RoleBinding: its entry.

use super::{BINDING, shared::binding};
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "RoleBinding",
    plural: "rolebindings",
    validate: |value, errors| binding(value, true, errors),
    ..BINDING
};
