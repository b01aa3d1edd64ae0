//! The group `storage.k8s.io`: where volumes come from.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;

use super::{Entry, PLAIN};

const STORAGE: Entry = Entry {
    group: "storage.k8s.io",
    namespaced: false,
    idle: "warren does not provision or attach storage yet: the object is only kept",
    ..PLAIN
};

pub(super) const KINDS: &[Entry] = &[
    csi_driver::ENTRY,
    csi_node::ENTRY,
    csi_storage_capacity::ENTRY,
    storage_class::ENTRY,
    volume_attachment::ENTRY,
];
