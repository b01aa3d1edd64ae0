//! The group `apps`: what keeps pods running.

use super::{ALL, Kind, PLAIN, SCALE, STATUS};
use crate::{defaults, table, validate};

const GROUP: &str = "apps";

pub(super) const KINDS: &[Kind] = &[
    Kind {
        group: GROUP,
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        validate: validate::workload::controller_revision,
        update: validate::workload::controller_revision_update,
        columns: table::workload::CONTROLLER_REVISION_COLUMNS,
        row: table::workload::controller_revision_row,
        ..PLAIN
    },
    Kind {
        group: GROUP,
        kind: "DaemonSet",
        plural: "daemonsets",
        short_names: &["ds"],
        categories: ALL,
        subresources: &[STATUS],
        counters: &["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"],
        has_generation: true,
        idle: "warren does not run DaemonSets yet: no pod is made for it",
        defaults: defaults::workload::daemon_set,
        validate: validate::workload::daemon_set,
        update: validate::workload::update,
        columns: table::workload::DAEMON_SET_COLUMNS,
        row: table::workload::daemon_set_row,
        ..PLAIN
    },
    Kind {
        group: GROUP,
        kind: "Deployment",
        plural: "deployments",
        short_names: &["deploy"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        has_generation: true,
        defaults: defaults::workload::deployment,
        validate: validate::workload::deployment,
        update: validate::workload::update,
        columns: table::workload::DEPLOYMENT_COLUMNS,
        row: table::workload::deployment_row,
        ..PLAIN
    },
    Kind {
        group: GROUP,
        kind: "ReplicaSet",
        plural: "replicasets",
        short_names: &["rs"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        counters: &["replicas"],
        has_generation: true,
        fields: &["status.replicas"],
        defaults: defaults::workload::replica_set,
        validate: validate::workload::replica_set,
        update: validate::workload::update,
        columns: table::workload::REPLICA_SET_COLUMNS,
        row: table::workload::replica_set_row,
        ..PLAIN
    },
    Kind {
        group: GROUP,
        kind: "StatefulSet",
        plural: "statefulsets",
        short_names: &["sts"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        counters: &["availableReplicas", "replicas"],
        has_generation: true,
        idle: "warren does not run StatefulSets yet: no pod is made for it",
        defaults: defaults::stateful::stateful_set,
        validate: validate::stateful::stateful_set,
        update: validate::stateful::stateful_set_update,
        columns: table::workload::STATEFUL_SET_COLUMNS,
        row: table::workload::stateful_set_row,
        ..PLAIN
    },
];
