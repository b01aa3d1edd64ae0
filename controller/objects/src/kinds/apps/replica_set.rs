//! ReplicaSet: its entry, its defaults and its rules.

use serde_json::Value;

use crate::{
    defaults::workload::fill_template,
    field::{Errors, Path},
    json::{default_to, ensure_map, get},
    kinds::{ALL, Entry, PLAIN, SCALE, STATUS},
    table,
    validate::{self, workload::replicas_selector_and_template},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    short_names: &["rs"],
    categories: ALL,
    subresources: &[SCALE, STATUS],
    counters: &["replicas"],
    has_generation: true,
    fields: &["status.replicas"],
    defaults,
    validate,
    update: validate::workload::update,
    columns: table::workload::REPLICA_SET_COLUMNS,
    row: table::workload::replica_set_row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "replicas", 1);
    fill_template(spec);
}

fn validate(value: &Value, errors: &mut Errors) {
    replicas_selector_and_template(
        get(value, "spec"),
        &Path::new("spec"),
        ("ReplicaSet", "ReplicaSet"),
        errors,
    );
}
