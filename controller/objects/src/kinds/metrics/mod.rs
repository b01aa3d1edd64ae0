//! The group `metrics.k8s.io`: what pods and nodes use, as their agents last measured it.

mod node_metrics;
mod pod_metrics;

use super::{Entry, PLAIN, Source};
use crate::table;

const METRICS: Entry = Entry {
    group: "metrics.k8s.io",
    version: "v1beta1",
    source: Source::Derived,
    verbs: &["get", "list"],
    refusal: "usage is measured by the nodes' agents, to be read only",
    columns: table::metrics::COLUMNS,
    ..PLAIN
};

pub(super) const KINDS: &[Entry] = &[node_metrics::ENTRY, pod_metrics::ENTRY];
