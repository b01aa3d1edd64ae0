//! The table of events.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, NAME, column, name, wide};
use crate::{
    human,
    json::{at, get, has, int, text},
};

pub(crate) const COLUMNS: &[Column] = &[
    column("Last Seen", "string", "When it happened last."),
    column("Type", "string", "Normal or Warning."),
    column("Reason", "string", "One word for what happened."),
    column("Object", "string", "What it happened to."),
    wide("Subobject", "The part of the object."),
    wide("Source", "Who reported it."),
    column("Message", "string", "What happened."),
    wide("First Seen", "When it happened first."),
    Column { kind: "integer", ..wide("Count", "How often it happened.") },
    Column { priority: 1, ..NAME },
];

/// The cells of an event.
pub(crate) fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let first =
        if has(event, "firstTimestamp") { get(event, "firstTimestamp") } else { get(event, "eventTime") };
    let last = if has(event, "lastTimestamp") { get(event, "lastTimestamp") } else { first };
    let (last, count) = if has(event, "series") {
        (at(event, "series.lastObservedTime"), int(event, "series.count").unwrap_or(0))
    } else {
        (last, int(event, "count").filter(|count| *count > 0).unwrap_or(1))
    };
    let (kind, target) =
        (text(event, "involvedObject.kind").to_lowercase(), text(event, "involvedObject.name"));
    vec![
        human::since(last, now).into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        if target.is_empty() { kind.into() } else { format!("{kind}/{target}").into() },
        text(event, "involvedObject.fieldPath").into(),
        source(event).into(),
        text(event, "message").trim().into(),
        human::since(first, now).into(),
        count.into(),
        name(event),
    ]
}

/// Who reported the event, and from which host.
fn source(event: &Value) -> String {
    let or = |first: &'static str, second: &'static str| {
        let found = text(event, first);
        if found.is_empty() { text(event, second) } else { found }.to_owned()
    };
    let (component, host) =
        (or("source.component", "reportingComponent"), or("source.host", "reportingInstance"));
    if host.is_empty() { component } else { format!("{component}, {host}") }
}
