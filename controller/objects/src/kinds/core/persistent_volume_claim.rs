//! PersistentVolumeClaim: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    defaults,
    field::{Errors, Path},
    json::{get, text},
    kinds::{Entry, PLAIN, STATUS},
    quantity as quantities,
    table::{
        AGE, Column, NAME, age, column, name,
        storage::{VOLUME_MODE, class_name, modes, or_unset, phase},
    },
    validate::storage::claim,
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    short_names: &["pvc"],
    subresources: &[STATUS],
    idle: "warren does not bind PersistentVolumeClaims yet: it stays Pending",
    returns_deleted: true,
    defaults: defaults::storage::claim,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn validate(value: &Value, errors: &mut Errors) {
    claim(get(value, "spec"), &Path::new("spec"), errors);
}

/// A change of a PersistentVolumeClaim: it may be bound, and once it is, grow.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let bound = text(old, "status.phase") == "Bound";
    let fixed = |value: &Value| {
        let mut spec = get(value, "spec").clone();
        if let Some(spec) = spec.as_object_mut() {
            if text(old, "spec.volumeName").is_empty() {
                spec.remove("volumeName");
            }
            if bound {
                spec.remove("volumeAttributesClassName");
                if let Some(resources) = spec.get_mut("resources").and_then(Value::as_object_mut) {
                    resources.remove("requests");
                }
            }
        }
        spec
    };
    if fixed(old) != fixed(new) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                      bound claims";
        errors.forbidden(&path, detail);
    }
    let (had, wanted) = (text(old, "status.capacity.storage"), text(new, "spec.resources.requests.storage"));
    if !had.is_empty() && quantities::compare(wanted, had) == Ok(std::cmp::Ordering::Less) {
        let path = path.child("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Pending, Bound or Lost."),
    column("Volume", "string", "The volume it is bound to."),
    column("Capacity", "string", "The size of the volume."),
    column("Access Modes", "string", "How the volume may be mounted."),
    column("StorageClass", "string", "The class it was asked of."),
    column("VolumeAttributesClass", "string", "The class of its attributes."),
    AGE,
    VOLUME_MODE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let volume = text(value, "spec.volumeName");
    let bound = !volume.is_empty();
    vec![
        name(value),
        phase(value),
        volume.into(),
        if bound { text(value, "status.capacity.storage").into() } else { "".into() },
        if bound { modes(value, "status.accessModes") } else { "".into() },
        class_name(value),
        or_unset(text(value, "spec.volumeAttributesClassName")),
        age(value, now),
        or_unset(text(value, "spec.volumeMode")),
    ]
}
