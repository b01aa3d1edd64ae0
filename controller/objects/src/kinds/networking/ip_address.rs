//! IPAddress: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, text},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name},
    validate::{NameRule, immutable, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    name: NameRule::Address,
    short_names: &["ip"],
    namespaced: false,
    idle: "warren keeps the addresses of services elsewhere: an IPAddress holds none",
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn validate(value: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("parentRef");
    let parent = get(get(value, "spec"), "parentRef");
    if parent.is_null() {
        return errors.required(&path, "");
    }
    for field in ["resource", "name"] {
        required_text(parent, field, &path, errors);
    }
}

/// A change of an IPAddress: whose it is stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let parent = |value| get(get(value, "spec"), "parentRef");
    immutable(parent(old), parent(new), &Path::new("spec").child("parentRef"), errors);
}

const COLUMNS: &[Column] = &[NAME, column("ParentRef", "string", "Whose address it is."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let part = |field: &str| text(value, &format!("spec.parentRef.{field}")).to_owned();
    let parts = [part("resource"), part("group"), part("namespace"), part("name")];
    let [resource, group, namespace, parent] = parts;
    let resource = if group.is_empty() { resource } else { format!("{resource}.{group}") };
    let parent = if namespace.is_empty() { parent } else { format!("{namespace}/{parent}") };
    vec![name(value), format!("{resource}/{parent}").into(), age(value, now)]
}
