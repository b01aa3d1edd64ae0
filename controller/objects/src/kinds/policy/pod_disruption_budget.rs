//! PodDisruptionBudget: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    conversions,
    defaults::condition_times,
    field::{Errors, Path},
    json::{at, get, has, text},
    kinds::{Conversion, Entry, PLAIN, STATUS, Source},
    table::{AGE, Column, NAME, age, column, name, number},
    validate::{meta, none_negative, one_of_if_set, workload},
};

const COUNTERS: &[&str] = &["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"];

pub(crate) const ENTRY: Entry = Entry {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    short_names: &["pdb"],
    subresources: &[STATUS],
    counters: COUNTERS,
    has_generation: true,
    defaults: condition_times,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

// What kubectl 1.20 writes by `create poddisruptionbudget`, and reads by `describe`.
pub(crate) const V1BETA1: Entry = Entry {
    version: "v1beta1",
    source: Source::Converted(Conversion {
        show: conversions::budget_v1beta1,
        store: Some(conversions::budget_from_v1beta1),
    }),
    ..ENTRY
};

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        errors.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        let amount = workload::amount(spec, field, &path, errors);
        let percent = text(spec, field).ends_with('%');
        if percent && amount.is_some_and(|amount| amount > 100) {
            errors.invalid(&path.child(field), text(spec, field), "must not be greater than 100%");
        }
    }
    meta::selector(get(spec, "selector"), &path.child("selector"), errors);
    let known = ["AlwaysAllow", "IfHealthyBudget"];
    one_of_if_set(spec, "unhealthyPodEvictionPolicy", &path, &known, errors);
}

/// A change of a budget's status, which anybody may spend of: its numbers are counts.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (get(old, "status"), get(new, "status"));
    if before != after {
        none_negative(after, COUNTERS, &Path::new("status"), errors);
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Min Available", "string", "How many pods must stay."),
    column("Max Unavailable", "string", "How many pods may be missing."),
    column("Allowed Disruptions", "integer", "How many pods may go now."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let amount = |path: &str| match at(value, path) {
        Value::Null => Value::from("N/A"),
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    };
    vec![
        name(value),
        amount("spec.minAvailable"),
        amount("spec.maxUnavailable"),
        number(value, "status.disruptionsAllowed").into(),
        age(value, now),
    ]
}
