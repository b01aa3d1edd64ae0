//! ClusterRole: its entry.

use super::RBAC;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind =
    Kind { kind: "ClusterRole", plural: "clusterroles", refusal: no_rbac!("ClusterRoles"), ..RBAC };
