//! NodeMetrics: its entry and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::METRICS;
use crate::{kinds::Entry, table::metrics::cells};

pub(crate) const ENTRY: Entry =
    Entry { kind: "NodeMetrics", plural: "nodes", namespaced: false, row, ..METRICS };

fn row(value: &Value, _: Timestamp) -> Vec<Value> {
    cells(value, [value].into_iter())
}
