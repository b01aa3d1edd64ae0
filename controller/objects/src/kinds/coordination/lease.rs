//! Lease: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, int, text},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name},
    validate::not_negative,
};

// Those of the nodes are derived from their heartbeats.
pub(crate) const ENTRY: Entry = Entry {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    validate,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    not_negative(spec, "leaseTransitions", &path, errors);
}

const COLUMNS: &[Column] = &[NAME, column("Holder", "string", "Who holds it."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "spec.holderIdentity").into(), age(value, now)]
}
