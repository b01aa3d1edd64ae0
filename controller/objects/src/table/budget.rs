//! The table of PodDisruptionBudgets.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, name, number};
use crate::json::at;

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("Min Available", "string", "How many pods must stay."),
    column("Max Unavailable", "string", "How many pods may be missing."),
    column("Allowed Disruptions", "integer", "How many pods may go now."),
    AGE,
];

/// The cells of a PodDisruptionBudget.
pub(crate) fn row(value: &Value, now: Timestamp) -> Vec<Value> {
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
