//! The group `rbac.authorization.k8s.io`: who may do what.

mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;
mod shared;

use jiff::Timestamp;
use serde_json::Value;

use super::{Entry, PLAIN};
use crate::{
    json::{at, items, text},
    table::{AGE, Column, NAME, age, column, moment, name, wide},
    validate::NameRule,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A role: Kubernetes prints of it when it was made.
const ROLE: Entry = Entry {
    group: GROUP,
    name: NameRule::PathSegment,
    columns: &[NAME, column("Created At", "date", "When the object was created.")],
    row: |value, _| vec![name(value), moment(at(value, "metadata.creationTimestamp"))],
    ..PLAIN
};

/// What gives a role to somebody.
const BINDING: Entry = Entry {
    group: GROUP,
    name: NameRule::PathSegment,
    defaults: shared::complete,
    update: shared::keep_role,
    columns: BINDING_COLUMNS,
    row: binding_row,
    ..PLAIN
};

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    column("Role", "string", "The role that it gives."),
    AGE,
    wide("Users", "Users to whom it gives the role."),
    wide("Groups", "Groups to whom it gives the role."),
    wide("ServiceAccounts", "Service accounts to which it gives the role."),
];

fn binding_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", text(value, "roleRef.kind"), text(value, "roleRef.name"));
    let all = |kind: &str, shown: fn(&Value) -> String| -> Value {
        let subjects = items(value, "subjects").iter().filter(|subject| text(subject, "kind") == kind);
        subjects.map(shown).collect::<Vec<_>>().join(", ").into()
    };
    let named = |subject: &Value| text(subject, "name").to_owned();
    let account = |subject: &Value| format!("{}/{}", text(subject, "namespace"), text(subject, "name"));
    vec![
        name(value),
        role.into(),
        age(value, now),
        all("User", named),
        all("Group", named),
        all("ServiceAccount", account),
    ]
}

pub(super) const KINDS: &[Entry] =
    &[cluster_role_binding::ENTRY, cluster_role::ENTRY, role_binding::ENTRY, role::ENTRY];
