//! The tables of ResourceQuotas and LimitRanges.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, moment, name};
use crate::json::{at, entries, get, text};

pub(crate) const RESOURCE_QUOTA_COLUMNS: &[Column] = &[
    NAME,
    column("Request", "string", "What is used and allowed of requests and objects."),
    column("Limit", "string", "What is used and allowed of limits."),
    AGE,
];

pub(crate) const LIMIT_RANGE_COLUMNS: &[Column] =
    &[NAME, column("Created At", "date", "When the object was created.")];

/// The cells of a ResourceQuota.
pub(crate) fn resource_quota_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<(&str, &Value)> = entries(value, "status.hard").collect();
    hard.sort_by_key(|(resource, _)| *resource);
    for (resource, amount) in hard {
        let used = get(at(value, "status.used"), resource).as_str().unwrap_or("0");
        let shown = format!("{resource}: {used}/{}", amount.as_str().unwrap_or("0"));
        if resource.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![name(value), requests.join(", ").into(), limits.join(", ").into(), age(value, now)]
}

/// The cells of a LimitRange.
pub(crate) fn limit_range_row(value: &Value, _: Timestamp) -> Vec<Value> {
    vec![text(value, "metadata.name").into(), moment(at(value, "metadata.creationTimestamp"))]
}
