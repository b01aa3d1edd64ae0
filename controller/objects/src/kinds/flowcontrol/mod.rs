//! The group `flowcontrol.apiserver.k8s.io`: whose requests wait for whom.

mod flow_schema;
mod priority_level_configuration;

use super::{Entry, PLAIN, STATUS};

const FLOW_CONTROL: Entry = Entry {
    group: "flowcontrol.apiserver.k8s.io",
    namespaced: false,
    has_generation: true,
    subresources: &[STATUS],
    ..PLAIN
};

pub(super) const KINDS: &[Entry] = &[flow_schema::ENTRY, priority_level_configuration::ENTRY];
