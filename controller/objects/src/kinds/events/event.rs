//! Event: its entry.

use crate::{
    conversions,
    kinds::{Conversion, Entry, PLAIN, Source},
};

// The events of the core group, as newer clients write them.
pub(crate) const ENTRY: Entry = Entry {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    resource: "events",
    short_names: &["ev"],
    source: Source::Converted(Conversion {
        show: conversions::event_v1,
        store: Some(conversions::event_from_v1),
    }),
    fields: &[
        "reason",
        "regarding.apiVersion",
        "regarding.fieldPath",
        "regarding.kind",
        "regarding.name",
        "regarding.namespace",
        "regarding.resourceVersion",
        "regarding.uid",
        "reportingController",
        "type",
    ],
    ..PLAIN
};
