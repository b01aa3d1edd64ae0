//! Event: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    human,
    json::{at, get, has, int, text},
    kinds::{Entry, PLAIN},
    table::{Column, NAME, column, name, wide},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "Event",
    plural: "events",
    short_names: &["ev"],
    fields: &[
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.resourceVersion",
        "involvedObject.uid",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    validate,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// An Event: it lies in the namespace of what it is about.
fn validate(value: &Value, errors: &mut Errors) {
    let (own, involved) = (text(value, "metadata.namespace"), text(value, "involvedObject.namespace"));
    // What has no namespace is reported in "default".
    let expected =
        if involved.is_empty() && ["default", "kube-system"].contains(&own) { own } else { involved };
    if !own.is_empty() && own != expected {
        let path = Path::new("involvedObject").child("namespace");
        errors.invalid(&path, involved, "does not match event.namespace");
    }
}

const COLUMNS: &[Column] = &[
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

fn row(event: &Value, now: Timestamp) -> Vec<Value> {
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
