//! The core group.

mod config_map;
mod endpoints;
mod event;
mod limit_range;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_template;
mod replication_controller;
mod resource_quota;
mod secret;
mod service;
mod service_account;

pub(crate) use pod::judge_binding;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[
    config_map::ENTRY,
    endpoints::ENTRY,
    event::ENTRY,
    limit_range::ENTRY,
    namespace::ENTRY,
    node::ENTRY,
    persistent_volume_claim::ENTRY,
    persistent_volume::ENTRY,
    pod::ENTRY,
    pod_template::ENTRY,
    replication_controller::ENTRY,
    resource_quota::ENTRY,
    secret::ENTRY,
    service_account::ENTRY,
    service::ENTRY,
];
