//! ClusterRole: its entry.

use super::RBAC;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry =
    Entry { kind: "ClusterRole", plural: "clusterroles", refusal: no_rbac!("ClusterRoles"), ..RBAC };
