//! The group `rbac.authorization.k8s.io`: who may do what. Shown and refused, as those of `admission` are.

macro_rules! no_rbac {
    ($kinds:literal) => {
        concat!(
            $kinds,
            " are refused: RBAC is not served by this version of Warren: members of system:masters may do everything, \
             others nothing"
        )
    };
}

mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;

use super::{CLUSTER, Entry};

const RBAC: Entry = Entry { group: "rbac.authorization.k8s.io", ..CLUSTER };

pub(super) const KINDS: &[Entry] =
    &[cluster_role_binding::ENTRY, cluster_role::ENTRY, role_binding::ENTRY, role::ENTRY];
