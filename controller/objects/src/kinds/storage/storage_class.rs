//! StorageClass: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::STORAGE;
use crate::{
    field::{Errors, Path},
    json::{at, default_to, entries, get, text, truth},
    kinds::Entry,
    table::{AGE, Column, NAME, age, column},
    validate::{all_immutable, formats, immutable, one_of, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "StorageClass",
    plural: "storageclasses",
    short_names: &["sc"],
    returns_deleted: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..STORAGE
};

fn defaults(value: &mut Value) {
    default_to(value, "reclaimPolicy", "Delete");
    default_to(value, "volumeBindingMode", "Immediate");
}

fn validate(value: &Value, errors: &mut Errors) {
    let root = Path::default();
    if required_text(value, "provisioner", &root, errors) {
        for message in formats::qualified_name(&text(value, "provisioner").to_lowercase()) {
            errors.invalid(&Path::new("provisioner"), text(value, "provisioner"), message);
        }
    }
    for (key, _) in entries(value, "parameters").filter(|(key, _)| key.is_empty()) {
        errors.invalid(&Path::new("parameters"), key, "field must not be empty.");
    }
    one_of(value, "reclaimPolicy", &root, &["Delete", "Retain"], errors);
    one_of(value, "volumeBindingMode", &root, &["Immediate", "WaitForFirstConsumer"], errors);
}

/// A change of a StorageClass: volumes that were made of it would not follow.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        let mut changed = Errors::default();
        immutable(get(old, field), get(new, field), &Path::new(field), &mut changed);
        if !changed.0.is_empty() {
            errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
        }
    }
    all_immutable(old, new, &["volumeBindingMode"], &Path::default(), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Provisioner", "string", "Who makes its volumes."),
    column("ReclaimPolicy", "string", "What happens to its volumes when their claims go."),
    column("VolumeBindingMode", "string", "When its volumes are made and bound."),
    column("AllowVolumeExpansion", "string", "Whether its volumes may grow."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = at(value, "metadata.annotations");
    let default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|annotation| text_of(annotations, annotation) == "true");
    let mark = if default { " (default)" } else { "" };
    vec![
        format!("{}{mark}", text(value, "metadata.name")).into(),
        text(value, "provisioner").into(),
        text(value, "reclaimPolicy").into(),
        text(value, "volumeBindingMode").into(),
        truth(value, "allowVolumeExpansion").to_string().into(),
        age(value, now),
    ]
}

/// An entry whose key has dots.
fn text_of<'a>(map: &'a Value, key: &str) -> &'a str {
    get(map, key).as_str().unwrap_or("")
}
