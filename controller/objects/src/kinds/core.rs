//! The core group.

use super::{ALL, Kind, PLAIN, PLAIN_SUBRESOURCE, SCALE, STATUS, Source, Subresource};
use crate::{defaults, table, validate};

/// Below a pod, a connection that is upgraded.
const fn stream(name: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, version: "v1", kind, verbs: &["create", "get"], ..PLAIN_SUBRESOURCE }
}

const POD_SUBRESOURCES: &[Subresource] = &[
    stream("attach", "PodAttachOptions"),
    Subresource { name: "binding", version: "v1", kind: "Binding", verbs: &["create"], ..PLAIN_SUBRESOURCE },
    Subresource {
        name: "ephemeralcontainers",
        verbs: &["get"],
        refusal: "ephemeral containers are not run by this version of Warren: use kubectl exec, or a pod of its own",
        ..PLAIN_SUBRESOURCE
    },
    Subresource {
        name: "eviction",
        group: "policy",
        version: "v1",
        kind: "Eviction",
        verbs: &["create"],
        ..PLAIN_SUBRESOURCE
    },
    stream("exec", "PodExecOptions"),
    Subresource { name: "log", verbs: &["get"], ..PLAIN_SUBRESOURCE },
    stream("portforward", "PodPortForwardOptions"),
    Subresource {
        name: "resize",
        verbs: &["get"],
        refusal: "pods are not resized in place by this version of Warren: make a pod with other resources",
        ..PLAIN_SUBRESOURCE
    },
    STATUS,
];

pub(super) const KINDS: &[Kind] = &[
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        short_names: &["cm"],
        validate: validate::config::config_map,
        update: validate::config::config_map_update,
        columns: table::cluster::CONFIG_MAP_COLUMNS,
        row: table::cluster::config_map_row,
        ..PLAIN
    },
    Kind {
        kind: "Endpoints",
        plural: "endpoints",
        short_names: &["ep"],
        source: Source::Derived,
        verbs: &["get", "list", "watch"],
        refusal: "Endpoints are derived from EndpointSlices, to be read only: write \
                  endpointslices.discovery.k8s.io with the label kubernetes.io/service-name instead",
        columns: table::service::ENDPOINTS_COLUMNS,
        row: table::service::endpoints_row,
        ..PLAIN
    },
    Kind {
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
        validate: validate::cluster::event,
        columns: table::event::COLUMNS,
        row: table::event::row,
        ..PLAIN
    },
    Kind {
        kind: "LimitRange",
        plural: "limitranges",
        short_names: &["limits"],
        idle: "warren does not apply LimitRanges yet: no default or bound of them reaches a pod",
        defaults: defaults::quota::limit_range,
        validate: validate::quota::limit_range,
        columns: table::quota::LIMIT_RANGE_COLUMNS,
        row: table::quota::limit_range_row,
        ..PLAIN
    },
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        short_names: &["ns"],
        namespaced: false,
        subresources: &[Subresource { name: "finalize", verbs: &["update"], ..PLAIN_SUBRESOURCE }, STATUS],
        fields: &["status.phase"],
        defaults: defaults::cluster::namespace,
        name: validate::NameRule::Label,
        columns: table::cluster::NAMESPACE_COLUMNS,
        row: table::cluster::namespace_row,
        ..PLAIN
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        short_names: &["no"],
        namespaced: false,
        subresources: &[STATUS],
        fields: &["spec.unschedulable"],
        defaults: defaults::cluster::node,
        validate: validate::cluster::node,
        update: validate::cluster::node_update,
        columns: table::cluster::NODE_COLUMNS,
        row: table::cluster::node_row,
        ..PLAIN
    },
    Kind {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        short_names: &["pvc"],
        subresources: &[STATUS],
        idle: "warren does not bind PersistentVolumeClaims yet: it stays Pending",
        returns_deleted: true,
        defaults: defaults::storage::claim,
        validate: validate::storage::claim,
        update: validate::storage::claim_update,
        columns: table::storage::CLAIM_COLUMNS,
        row: table::storage::claim_row,
        ..PLAIN
    },
    Kind {
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        short_names: &["pv"],
        namespaced: false,
        subresources: &[STATUS],
        idle: "warren does not mount PersistentVolumes yet: nothing is bound to it",
        returns_deleted: true,
        defaults: defaults::storage::volume,
        validate: validate::storage::volume,
        update: validate::storage::volume_update,
        columns: table::storage::VOLUME_COLUMNS,
        row: table::storage::volume_row,
        ..PLAIN
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        short_names: &["po"],
        categories: ALL,
        subresources: POD_SUBRESOURCES,
        has_generation: true,
        fields: &[
            "spec.hostNetwork",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
        ],
        returns_deleted: true,
        defaults: defaults::pod::pod,
        validate: validate::pod::pod,
        update: validate::pod_update::pod,
        columns: table::pod::COLUMNS,
        row: table::pod::row,
        ..PLAIN
    },
    Kind {
        kind: "PodTemplate",
        plural: "podtemplates",
        has_generation: true,
        returns_deleted: true,
        defaults: defaults::workload::pod_template,
        validate: validate::workload::pod_template,
        columns: table::workload::POD_TEMPLATE_COLUMNS,
        row: table::workload::pod_template_row,
        ..PLAIN
    },
    Kind {
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        short_names: &["rc"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        counters: &["replicas"],
        has_generation: true,
        fields: &["status.replicas"],
        idle: "warren does not run ReplicationControllers: use a Deployment",
        defaults: defaults::workload::replication_controller,
        validate: validate::workload::replication_controller,
        columns: table::workload::REPLICA_SET_COLUMNS,
        row: table::workload::replication_controller_row,
        ..PLAIN
    },
    Kind {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        short_names: &["quota"],
        subresources: &[STATUS],
        idle: "warren does not enforce ResourceQuotas yet: nothing is counted and nothing is refused",
        returns_deleted: true,
        defaults: defaults::quota::resource_quota,
        validate: validate::quota::resource_quota,
        update: validate::quota::resource_quota_update,
        columns: table::quota::RESOURCE_QUOTA_COLUMNS,
        row: table::quota::resource_quota_row,
        ..PLAIN
    },
    Kind {
        kind: "Secret",
        plural: "secrets",
        fields: &["type"],
        defaults: defaults::cluster::secret,
        validate: validate::config::secret,
        update: validate::config::secret_update,
        columns: table::cluster::SECRET_COLUMNS,
        row: table::cluster::secret_row,
        ..PLAIN
    },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        short_names: &["sa"],
        subresources: &[Subresource {
            name: "token",
            group: "authentication.k8s.io",
            version: "v1",
            kind: "TokenRequest",
            refusal: "service account tokens are not issued by this version of Warren",
            ..PLAIN_SUBRESOURCE
        }],
        returns_deleted: true,
        columns: table::cluster::SERVICE_ACCOUNT_COLUMNS,
        row: table::cluster::service_account_row,
        ..PLAIN
    },
    Kind {
        kind: "Service",
        plural: "services",
        short_names: &["svc"],
        categories: ALL,
        subresources: &[STATUS],
        fields: &["spec.clusterIP", "spec.type"],
        returns_deleted: true,
        defaults: defaults::service::service,
        name: validate::NameRule::ServiceLabel,
        validate: validate::service::service,
        update: validate::service::update,
        columns: table::service::SERVICE_COLUMNS,
        row: table::service::service_row,
        ..PLAIN
    },
];
