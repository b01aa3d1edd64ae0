//! PriorityClass: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{default_to, get, int, text, truth},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name, number},
    validate::{immutable, one_of},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    short_names: &["pc"],
    namespaced: false,
    has_generation: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    default_to(value, "preemptionPolicy", "PreemptLowerPriority");
}

/// The highest priority that users may give.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// The classes of the cluster itself, with their priorities.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

fn validate(value: &Value, errors: &mut Errors) {
    let (name, priority) = (text(value, "metadata.name"), int(value, "value").unwrap_or(0));
    if name.starts_with("system-") {
        if !SYSTEM_CLASSES.contains(&(name, priority)) {
            let detail = "priority class names with 'system-' prefix are reserved for system use only";
            errors.forbidden(&Path::new("metadata.name"), detail);
        }
    } else if priority > HIGHEST_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
        errors.forbidden(&Path::new("value"), detail);
    }
    one_of(value, "preemptionPolicy", &Path::default(), &["Never", "PreemptLowerPriority"], errors);
}

/// A change of a PriorityClass: what it means to pods stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    if int(old, "value") != int(new, "value") {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let field = "preemptionPolicy";
    immutable(get(old, field), get(new, field), &Path::new(field), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Value", "integer", "The priority of its pods."),
    column("Global-Default", "boolean", "Whether pods without a class get it."),
    AGE,
    column("PreemptionPolicy", "string", "Whether its pods may displace others."),
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(value),
        number(value, "value").into(),
        truth(value, "globalDefault").into(),
        age(value, now),
        text(value, "preemptionPolicy").into(),
    ]
}
