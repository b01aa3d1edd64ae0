//! CSINode: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::STORAGE;
use crate::{
    field::{Errors, Path},
    json::{get, items, text},
    kinds::Entry,
    table::{AGE, Column, NAME, age, column, name},
    validate::{Unique, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "CSINode",
    plural: "csinodes",
    returns_deleted: true,
    validate,
    columns: COLUMNS,
    row,
    ..STORAGE
};

fn validate(value: &Value, errors: &mut Errors) {
    let mut names = Unique::default();
    for (index, driver) in items(get(value, "spec"), "drivers").iter().enumerate() {
        let path = Path::new("spec").child("drivers").index(index);
        required_text(driver, "name", &path, errors);
        required_text(driver, "nodeID", &path, errors);
        names.check(text(driver, "name"), &path.child("name"), errors);
    }
}

const COLUMNS: &[Column] = &[NAME, column("Drivers", "integer", "The number of drivers on the node."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), items(value, "spec.drivers").len().into(), age(value, now)]
}
