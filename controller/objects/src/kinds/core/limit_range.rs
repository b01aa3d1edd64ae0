//! LimitRange: its entry, its defaults, its rules and its columns.

use std::{cmp::Ordering, collections::BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    defaults::pod::numbers_to_quantities,
    field::{Errors, Path},
    json::{at, ensure_map, entries, get, is_empty, items, items_mut, text},
    kinds::{Entry, PLAIN},
    quantity as quantities,
    table::{Column, NAME, column, moment},
    validate::{container, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "LimitRange",
    plural: "limitranges",
    short_names: &["limits"],
    defaults,
    validate,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// A LimitRange: for containers a missing default limit is the most that they may have, a missing default request is
/// the default limit, else the least.
fn defaults(value: &mut Value) {
    let Some(spec) = value.get_mut("spec") else { return };
    for item in items_mut(spec, "limits") {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if let Some(quantities) = item.get_mut(list) {
                numbers_to_quantities(quantities);
            }
        }
        if text(item, "type") != "Container" {
            continue;
        }
        for (from, into) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let known = get(item, from).as_object().cloned().unwrap_or_default();
            fill(item, into, known);
        }
    }
}

fn fill(item: &mut Value, field: &str, from: Map<String, Value>) {
    if from.is_empty() {
        return;
    }
    if let Some(into) = ensure_map(item, field).and_then(Value::as_object_mut) {
        for (name, quantity) in from {
            into.entry(name).or_insert(quantity);
        }
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    let mut types = BTreeSet::new();
    for (index, item) in items(get(value, "spec"), "limits").iter().enumerate() {
        let path = Path::new("spec").child("limits").index(index);
        let kind = text(item, "type");
        required_text(item, "type", &path, errors);
        if !kind.is_empty() && !types.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        limits(item, kind, &path, errors);
    }
}

fn limits(item: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        for (name, quantity) in entries(item, list) {
            container::quantity(quantity, &path.child(list).key(name), errors);
            names.insert(name);
        }
    }
    if kind == "Pod" {
        for list in ["default", "defaultRequest"].iter().filter(|list| !is_empty(get(item, list))) {
            errors.forbidden(&path.child(list), "may not be specified when `type` is 'Pod'");
        }
    }
    if kind == "PersistentVolumeClaim"
        && ["min", "max"].iter().all(|list| is_empty(get(get(item, list), "storage")))
    {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    for name in names {
        in_order(item, name, path, errors);
    }
}

/// The least, what is given by default, and the most of one resource.
fn in_order(item: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let words =
        [("min", "min"), ("defaultRequest", "default request"), ("default", "default"), ("max", "max")];
    for (position, (low, low_word)) in words.iter().enumerate() {
        for (high, high_word) in &words[position + 1..] {
            let (left, right) = (text(get(item, low), name), text(get(item, high), name));
            if left.is_empty()
                || right.is_empty()
                || quantities::compare(left, right) != Ok(Ordering::Greater)
            {
                continue;
            }
            let detail = format!("{low_word} value {left} is greater than {high_word} value {right}");
            errors.invalid(&path.child(low).key(name), left, detail);
        }
    }
}

const COLUMNS: &[Column] = &[NAME, column("Created At", "date", "When the object was created.")];

fn row(value: &Value, _: Timestamp) -> Vec<Value> {
    vec![text(value, "metadata.name").into(), moment(at(value, "metadata.creationTimestamp"))]
}
