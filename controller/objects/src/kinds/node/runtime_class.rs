//! RuntimeClass: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{entries, get, text},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name},
    validate::{container, formats, formed, immutable, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    namespaced: false,
    idle: "warren runs no handlers of RuntimeClasses yet: pods run by Docker's default runtime",
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn validate(value: &Value, errors: &mut Errors) {
    let root = Path::default();
    if required_text(value, "handler", &root, errors) {
        formed(value, "handler", &root, formats::label, errors);
    }
    for (name, quantity) in entries(get(value, "overhead"), "podFixed") {
        container::quantity(quantity, &Path::new("overhead").child("podFixed").key(name), errors);
    }
}

/// A change of a RuntimeClass: its handler stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "handler"), get(new, "handler"), &Path::new("handler"), errors);
}

const COLUMNS: &[Column] = &[NAME, column("Handler", "string", "What runs its containers."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "handler").into(), age(value, now)]
}
