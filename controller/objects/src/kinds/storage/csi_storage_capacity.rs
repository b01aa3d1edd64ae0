//! CSIStorageCapacity: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::STORAGE;
use crate::{
    field::{Errors, Path},
    json::{get, has, text},
    kinds::Entry,
    table::{AGE, Column, NAME, age, column, name},
    validate::{all_immutable, container, meta, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    namespaced: true,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..STORAGE
};

fn validate(value: &Value, errors: &mut Errors) {
    required_text(value, "storageClassName", &Path::default(), errors);
    for field in ["capacity", "maximumVolumeSize"] {
        if has(value, field) {
            container::quantity(get(value, field), &Path::new(field), errors);
        }
    }
    if has(value, "nodeTopology") {
        meta::selector(get(value, "nodeTopology"), &Path::new("nodeTopology"), errors);
    }
}

/// A change of a CSIStorageCapacity: what it is about stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    all_immutable(old, new, &["nodeTopology", "storageClassName"], &Path::default(), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("StorageClassName", "string", "The class of volumes that it is about."),
    column("Capacity", "string", "How much there is."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "storageClassName").into(), text(value, "capacity").into(), age(value, now)]
}
