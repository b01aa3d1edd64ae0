//! PodMetrics: its entry and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::METRICS;
use crate::{json::items, kinds::Entry, table::metrics::cells};

pub(crate) const ENTRY: Entry = Entry { kind: "PodMetrics", plural: "pods", row, ..METRICS };

/// The cells of a PodMetrics: all its containers together.
fn row(value: &Value, _: Timestamp) -> Vec<Value> {
    cells(value, items(value, "containers").iter())
}
