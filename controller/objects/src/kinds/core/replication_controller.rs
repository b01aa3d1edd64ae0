//! ReplicationController: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    defaults::workload::{self, fill_template},
    field::{Errors, Path},
    json::{at, default_to, ensure_map, get, is_empty},
    kinds::{ALL, Entry, PLAIN, SCALE, STATUS},
    table::{self, labels, workload::replica_set_row},
    validate::{
        meta, not_negative,
        workload::{runs_for_ever, selected, template},
    },
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    short_names: &["rc"],
    categories: ALL,
    subresources: &[SCALE, STATUS],
    counters: &["replicas"],
    has_generation: true,
    fields: &["status.replicas"],
    defaults,
    validate,
    columns: table::workload::REPLICA_SET_COLUMNS,
    row,
    ..PLAIN
};

/// A ReplicationController: selector and labels are the template's, unless it has its own.
fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "replicas", 1);
    fill_template(spec);
    let labels = at(spec, "template.metadata.labels").clone();
    if is_empty(&labels) {
        return;
    }
    if is_empty(get(spec, "selector")) {
        spec["selector"] = labels.clone();
    }
    workload::labels_from_template(value, labels);
}

/// A ReplicationController, whose selector is a map of labels.
fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    let selector = get(spec, "selector");
    if is_empty(selector) {
        errors.required(&path.child("selector"), "");
    }
    meta::labels(selector, &path.child("selector"), errors);
    selected(&json!({"matchLabels": selector}), spec, &path, errors);
    template(get(spec, "template"), &path.child("template"), errors);
    runs_for_ever(spec, &path, "ReplicationController", errors);
}

/// The cells of a ReplicationController, whose selector is a map of labels.
fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = replica_set_row(value, now);
    if let Some(last) = cells.last_mut() {
        *last = labels(value, "spec.selector");
    }
    cells
}
