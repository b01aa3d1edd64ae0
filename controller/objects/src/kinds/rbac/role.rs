//! Role: its entry.

use super::RBAC;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry =
    Entry { kind: "Role", plural: "roles", namespaced: true, refusal: no_rbac!("Roles"), ..RBAC };
