//! Namespace: its entry, its defaults and its columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    json::{default_to, ensure_map, has, text},
    kinds::{Entry, PLAIN, PLAIN_SUBRESOURCE, STATUS, Subresource},
    table::{AGE, Column, NAME, age, column, name},
    validate,
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "Namespace",
    plural: "namespaces",
    short_names: &["ns"],
    namespaced: false,
    subresources: &[Subresource { name: "finalize", verbs: &["update"], ..PLAIN_SUBRESOURCE }, STATUS],
    fields: &["status.phase"],
    defaults,
    name: validate::NameRule::Label,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// The label by which selectors find a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A Namespace: its name as a label, and the finalizer that empties it before it goes.
fn defaults(value: &mut Value) {
    let deleting = has(&value["metadata"], "deletionTimestamp");
    let name = text(value, "metadata.name").to_owned();
    if !name.is_empty()
        && let Some(metadata) = ensure_map(value, "metadata")
        && let Some(labels) = ensure_map(metadata, "labels")
    {
        labels[NAME_LABEL] = name.into();
    }
    // A namespace on its way out has lost its finalizer for good.
    if !deleting && let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "finalizers", json!(["kubernetes"]));
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "phase", if deleting { "Terminating" } else { "Active" });
    }
}

const COLUMNS: &[Column] =
    &[NAME, column("Status", "string", "Active, or Terminating while it is emptied."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "status.phase").into(), age(value, now)]
}
