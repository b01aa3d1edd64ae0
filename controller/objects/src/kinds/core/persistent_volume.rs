//! PersistentVolume: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    defaults::pod::numbers_to_quantities,
    field::{Errors, Path},
    json::{default_to, ensure_map, entries, get, has, items, text},
    kinds::{Entry, PLAIN, STATUS},
    table::{
        AGE, Column, NAME, age, column, name,
        storage::{VOLUME_MODE, class_name, modes, or_unset, phase},
    },
    validate::{
        all_immutable, formats, formed, one_of, one_of_if_set,
        storage::{SOURCES, VOLUME_MODES, access_modes, positive, source},
    },
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    short_names: &["pv"],
    namespaced: false,
    subresources: &[STATUS],
    idle: "warren does not mount PersistentVolumes yet: nothing is bound to it",
    returns_deleted: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    if let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "persistentVolumeReclaimPolicy", "Retain");
        default_to(spec, "volumeMode", "Filesystem");
        if let Some(capacity) = spec.get_mut("capacity") {
            numbers_to_quantities(capacity);
        }
        if let Some(host_path) = spec.get_mut("hostPath") {
            default_to(host_path, "type", "");
        }
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "phase", "Pending");
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if items(spec, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    access_modes(spec, &path, errors);
    let capacity = get(spec, "capacity");
    if entries(spec, "capacity").next().is_none() {
        errors.required(&path.child("capacity"), "");
    } else if !has(capacity, "storage") || entries(spec, "capacity").count() > 1 {
        errors.not_supported(&path.child("capacity"), capacity.clone(), &["storage"]);
    }
    for (name, amount) in entries(spec, "capacity") {
        positive(amount, &path.child("capacity").key(name), errors);
    }
    one_of(spec, "persistentVolumeReclaimPolicy", &path, &["Delete", "Recycle", "Retain"], errors);
    formed(spec, "storageClassName", &path, formats::subdomain, errors);
    one_of_if_set(spec, "volumeMode", &path, &VOLUME_MODES, errors);
    source(spec, &path, errors);
}

/// A change of a PersistentVolume: what it is made of stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (get(old, "spec"), get(new, "spec"));
    if SOURCES.iter().any(|source| get(before, source) != get(after, source)) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.forbidden(&Path::new("spec.persistentvolumesource"), detail);
    }
    all_immutable(before, after, &["volumeMode"], &Path::new("spec"), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Capacity", "string", "Its size."),
    column("Access Modes", "string", "How it may be mounted."),
    column("Reclaim Policy", "string", "What happens to it when its claim goes."),
    column("Status", "string", "Available, Bound, Released or Failed."),
    column("Claim", "string", "The claim it is bound to."),
    column("StorageClass", "string", "The class it was made of."),
    column("VolumeAttributesClass", "string", "The class of its attributes."),
    column("Reason", "string", "Why it is in this state."),
    AGE,
    VOLUME_MODE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match (text(value, "spec.claimRef.namespace"), text(value, "spec.claimRef.name")) {
        (_, "") => String::new(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![
        name(value),
        text(value, "spec.capacity.storage").into(),
        modes(value, "spec.accessModes"),
        text(value, "spec.persistentVolumeReclaimPolicy").into(),
        phase(value),
        claim.into(),
        class_name(value),
        or_unset(text(value, "spec.volumeAttributesClassName")),
        text(value, "status.reason").into(),
        age(value, now),
        or_unset(text(value, "spec.volumeMode")),
    ]
}
