//! What concerns the cluster as a whole: the groups `coordination.k8s.io`, `events.k8s.io`, `node.k8s.io`,
//! `scheduling.k8s.io`, `storage.k8s.io`.

use super::{Face, Kind, PLAIN, STATUS, Source};
use crate::{defaults, faces, table, validate};

const STORAGE: Kind = Kind {
    group: "storage.k8s.io",
    namespaced: false,
    idle: "warren does not provision or attach storage yet: the object is only kept",
    ..PLAIN
};

pub(super) const KINDS: &[Kind] = &[
    // Those of the nodes are derived from their heartbeats.
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        validate: validate::cluster::lease,
        columns: table::cluster::LEASE_COLUMNS,
        row: table::cluster::lease_row,
        ..PLAIN
    },
    // The events of the core group, as newer clients write them.
    Kind {
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        resource: "events",
        short_names: &["ev"],
        source: Source::Face(Face { show: faces::event_v1, store: Some(faces::event_from_v1) }),
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
    },
    Kind {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        namespaced: false,
        idle: "warren does not know RuntimeClasses yet: pods run by Docker's default runtime",
        validate: validate::cluster::runtime_class,
        update: validate::cluster::runtime_class_update,
        columns: table::cluster::RUNTIME_CLASS_COLUMNS,
        row: table::cluster::runtime_class_row,
        ..PLAIN
    },
    Kind {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        plural: "priorityclasses",
        short_names: &["pc"],
        namespaced: false,
        has_generation: true,
        idle: "warren does not apply PriorityClasses yet: no pod gets its priority from it",
        defaults: defaults::cluster::priority_class,
        validate: validate::cluster::priority_class,
        update: validate::cluster::priority_class_update,
        columns: table::cluster::PRIORITY_CLASS_COLUMNS,
        row: table::cluster::priority_class_row,
        ..PLAIN
    },
    Kind {
        kind: "CSIDriver",
        plural: "csidrivers",
        returns_deleted: true,
        defaults: defaults::storage::csi_driver,
        validate: validate::storage::csi_driver,
        update: validate::storage::csi_driver_update,
        columns: table::storage::CSI_DRIVER_COLUMNS,
        row: table::storage::csi_driver_row,
        ..STORAGE
    },
    Kind {
        kind: "CSINode",
        plural: "csinodes",
        returns_deleted: true,
        validate: validate::storage::csi_node,
        columns: table::storage::CSI_NODE_COLUMNS,
        row: table::storage::csi_node_row,
        ..STORAGE
    },
    Kind {
        kind: "StorageClass",
        plural: "storageclasses",
        short_names: &["sc"],
        returns_deleted: true,
        defaults: defaults::storage::class,
        validate: validate::storage::class,
        update: validate::storage::class_update,
        columns: table::storage::CLASS_COLUMNS,
        row: table::storage::class_row,
        ..STORAGE
    },
    Kind {
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        subresources: &[STATUS],
        returns_deleted: true,
        defaults: defaults::storage::attachment,
        validate: validate::storage::attachment,
        update: validate::storage::attachment_update,
        columns: table::storage::ATTACHMENT_COLUMNS,
        row: table::storage::attachment_row,
        ..STORAGE
    },
];
