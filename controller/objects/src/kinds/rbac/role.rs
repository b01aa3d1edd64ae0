//! Role: its entry.

use super::RBAC;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind =
    Kind { kind: "Role", plural: "roles", namespaced: true, refusal: no_rbac!("Roles"), ..RBAC };
