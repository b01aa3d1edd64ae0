//! What are the cluster roles made of that gather others? Their rules are those of the roles that they select, and follow
//! these; what others write there is undone.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>.

use std::collections::BTreeSet;

use serde_json::Value;
use warren_access::{aggregated, aggregates, selects};
use warren_state::{Key, Object, Transaction};
use warren_vocabulary::resources::CLUSTERROLES;

use crate::{object, outcome::Outcome, view::View};

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(role) = view.world.snapshot.get(key) else { return };
            if object::is_deleting(role) || !aggregates(&role.value) {
                return;
            }
            let all: Vec<&Value> =
                view.world.snapshot.list(CLUSTERROLES).map(|object| &*object.value).collect();
            let rules = Value::Array(aggregated(&role.value, all.into_iter()));
            let value = object::edited_within(role, &["rules"], |value| {
                // No rules are none, whichever way that is written.
                if value.get("rules").is_some_and(|old| !old.is_null())
                    || rules.as_array().is_some_and(|all| !all.is_empty())
                {
                    object::object_at(value, &[]).insert("rules".into(), rules);
                }
            });
            if let Some(value) = value {
                let transaction = Transaction::new().replace(key.clone(), role.revision, value);
                outcome.step(format!("rules of {key}"), transaction);
            }
        });
    }
}

/// Whether a role gathers one that was like that, or is.
pub(crate) fn gathers(role: &Object, sides: &[&Object]) -> bool {
    sides.iter().any(|side| selects(&role.value, &side.value["metadata"]["labels"]))
}

/// What others see of a role: two states that are alike in this are the same to them.
pub(crate) fn shows(role: &Object) -> [&Value; 2] {
    [&role.value["metadata"]["labels"], &role.value["rules"]]
}

/// Whether a role is made of others.
pub(crate) fn is_made(role: &Object) -> bool {
    aggregates(&role.value)
}
