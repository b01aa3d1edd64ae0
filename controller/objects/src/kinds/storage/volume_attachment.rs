//! VolumeAttachment: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::STORAGE;
use crate::{
    field::{Errors, Path},
    json::{default_to, ensure_map, get, has, text, truth},
    kinds::{Entry, STATUS},
    table::{AGE, Column, NAME, age, column, name},
    validate::{immutable, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    subresources: &[STATUS],
    returns_deleted: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..STORAGE
};

fn defaults(value: &mut Value) {
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "attached", false);
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    required_text(spec, "attacher", &path, errors);
    required_text(spec, "nodeName", &path, errors);
    let (source, path) = (get(spec, "source"), path.child("source"));
    match (has(source, "persistentVolumeName"), has(source, "inlineVolumeSpec")) {
        (false, false) => {
            errors.required(&path, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        }
        (true, true) => {
            errors.forbidden(&path, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
        _ => {}
    }
}

/// A change of a VolumeAttachment: its spec stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "spec"), get(new, "spec"), &Path::new("spec"), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Attacher", "string", "Who attaches it."),
    column("PV", "string", "The volume."),
    column("Node", "string", "The node it is attached to."),
    column("Attached", "boolean", "Whether it is."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(value),
        text(value, "spec.attacher").into(),
        text(value, "spec.source.persistentVolumeName").into(),
        text(value, "spec.nodeName").into(),
        truth(value, "status.attached").into(),
        age(value, now),
    ]
}
