//! CSIDriver: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::STORAGE;
use crate::{
    field::{Errors, Path},
    json::{default_to, ensure_map, get, items, text, truth},
    kinds::Entry,
    table::{AGE, Column, NAME, age, column, joined, name, or_none, storage::or_unset},
    validate::{all_immutable, each_one_of, one_of_if_set},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "CSIDriver",
    plural: "csidrivers",
    returns_deleted: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..STORAGE
};

fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "attachRequired", true);
    default_to(spec, "podInfoOnMount", false);
    default_to(spec, "storageCapacity", false);
    default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default_to(spec, "volumeLifecycleModes", json!(["Persistent"]));
    default_to(spec, "requiresRepublish", false);
    default_to(spec, "seLinuxMount", false);
}

fn validate(value: &Value, errors: &mut Errors) {
    let name = text(value, "metadata.name");
    if name.len() > 63 {
        errors.too_long(&Path::new("metadata.name"), 63);
    }
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    each_one_of(spec, "volumeLifecycleModes", &path, &["Ephemeral", "Persistent"], errors);
    one_of_if_set(spec, "fsGroupPolicy", &path, &["File", "None", "ReadWriteOnceWithFSType"], errors);
}

fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let fields = ["attachRequired", "volumeLifecycleModes"];
    all_immutable(get(old, "spec"), get(new, "spec"), &fields, &Path::new("spec"), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean", "Whether volumes are attached before they are mounted."),
    column("PodInfoOnMount", "boolean", "Whether the driver is told about the pod."),
    column("StorageCapacity", "boolean", "Whether the scheduler looks at the driver's capacity."),
    column("TokenRequests", "string", "The tokens that the driver gets."),
    column("RequiresRepublish", "boolean", "Whether mounts are renewed."),
    column("Modes", "string", "The lives that its volumes may have."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let modes: Vec<&str> =
        items(value, "spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    vec![
        name(value),
        truth(value, "spec.attachRequired").into(),
        truth(value, "spec.podInfoOnMount").into(),
        truth(value, "spec.storageCapacity").into(),
        or_unset(&joined(value, "spec.tokenRequests", "audience")),
        truth(value, "spec.requiresRepublish").into(),
        or_none(&modes.join(",")),
        age(value, now),
    ]
}
