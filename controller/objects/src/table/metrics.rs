//! The tables of what pods and nodes use.

use serde_json::Value;

use crate::{
    json::text,
    quantity,
    table::{Column, NAME, column, name},
};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("CPU", "string", "Processor time, in thousandths of a processor."),
    column("Memory", "string", "Memory in use."),
    column("Window", "string", "How long was measured."),
];

pub(crate) fn cells<'a>(value: &Value, parts: impl Iterator<Item = &'a Value> + Clone) -> Vec<Value> {
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
