//! How a field is merged, in the words of OpenAPI's extensions. The facts are those by which the server applies
//! strategic patches, so that what a client computes is what the server understands.

use serde_json::{Map, Value, json};

use crate::patch::topology::{self, Merge};

/// Strategies beyond those that the server's topology needs to know: a client that finds `retainKeys` lists the keys
/// that shall remain, so that the others go.
const STRATEGIES: &[(&str, &str, &str)] = &[
    ("DeploymentSpec", "strategy", "retainKeys"),
    ("PodDisruptionBudgetSpec", "selector", "replace"),
    ("PodSpec", "resourceClaims", "merge,retainKeys"),
    ("PodSpec", "volumes", "merge,retainKeys"),
    ("PodStatus", "resourceClaimStatuses", "merge,retainKeys"),
];

/// The extensions of a field of a type (both named as in the topology), and the name of the type within.
pub(super) fn of(parent: &str, field: &str) -> (Map<String, Value>, &'static str) {
    let known = topology::field(parent, field);
    let (strategy, key) = match known.merge {
        Merge::Atomic => ("", ""),
        Merge::Set => ("merge", ""),
        Merge::By(key) => ("merge", key),
    };
    let special = STRATEGIES.iter().find(|row| (row.0, row.1) == (parent, field));
    let strategy = special.map_or(strategy, |row| row.2);
    let mut extensions = Map::new();
    if !strategy.is_empty() {
        extensions.insert("x-kubernetes-patch-strategy".into(), json!(strategy));
    }
    if !key.is_empty() {
        extensions.insert("x-kubernetes-patch-merge-key".into(), json!(key));
    }
    (extensions, known.child)
}
