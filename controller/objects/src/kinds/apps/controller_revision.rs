//! ControllerRevision: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, has, items, text, truth},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name, number},
    validate::{immutable, not_negative},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn validate(value: &Value, errors: &mut Errors) {
    if !has(value, "data") {
        errors.required(&Path::new("data"), "data is mandatory");
    } else if !get(value, "data").is_object() {
        errors.required(&Path::new("data"), "data must be a valid JSON object");
    }
    not_negative(value, "revision", &Path::default(), errors);
}

/// A change of a ControllerRevision: its data stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "data"), get(new, "data"), &Path::new("data"), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Controller", "string", "Whose revision it is."),
    column("Revision", "integer", "Its number."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let owner = items(value, "metadata.ownerReferences").iter().find(|owner| truth(owner, "controller"));
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let kind = text(owner, "kind").to_lowercase();
            match text(owner, "apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "name")),
                None => format!("{kind}/{}", text(owner, "name")),
            }
        },
    );
    vec![name(value), controller.into(), number(value, "revision").into(), age(value, now)]
}
