//! The one table of kinds, which is in `warren-objects`, and what only this crate can know of a kind: how objects that
//! are in no store are made of those that are.

pub(crate) use warren_objects::kinds::*;
use warren_store::{Object, Snapshot};

use crate::{Observations, observed};

/// What can be made of stored objects and of what members told: the objects of one namespace, or (empty) of all.
pub(crate) type Derive = fn(&Snapshot, &dyn Observations, &str) -> Vec<Object>;

/// How the objects of a kind are made of what members told, if they, or some of them, are in no store.
pub(crate) fn derivation(kind: &Kind) -> Option<Derive> {
    match &*kind.resource {
        "leases.coordination.k8s.io" => Some(observed::leases),
        "nodes.metrics.k8s.io" => Some(observed::nodes),
        "pods.metrics.k8s.io" => Some(observed::pods),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_derived_can_be_made() {
        for kind in KINDS.iter().filter(|kind| matches!(kind.source, Source::Derived)) {
            let is_made = derivation(kind).is_some();
            assert!(is_made, "{}", kind.resource);
        }
    }
}
