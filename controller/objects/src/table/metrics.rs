//! The tables of what pods and nodes use.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, NAME, column, name};
use crate::{
    json::{items, text},
    quantity,
};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("CPU", "string", "Processor time, in thousandths of a processor."),
    column("Memory", "string", "Memory in use."),
    column("Window", "string", "How long was measured."),
];

/// The cells of a NodeMetrics.
pub(crate) fn node_row(value: &Value, _: Timestamp) -> Vec<Value> {
    cells(value, [value].into_iter())
}

/// The cells of a PodMetrics: all its containers together.
pub(crate) fn pod_row(value: &Value, _: Timestamp) -> Vec<Value> {
    cells(value, items(value, "containers").iter())
}

fn cells<'a>(value: &Value, parts: impl Iterator<Item = &'a Value> + Clone) -> Vec<Value> {
    let cpu: i64 = parts
        .clone()
        .filter_map(|part| quantity::cpu_millis(text(part, "usage.cpu")).ok())
        .fold(0, i64::saturating_add);
    let bytes: i64 = parts
        .filter_map(|part| quantity::bytes(text(part, "usage.memory")).ok())
        .fold(0, i64::saturating_add);
    vec![
        name(value),
        format!("{cpu}m").into(),
        format!("{}Ki", bytes / 1024).into(),
        text(value, "window").into(),
    ]
}
