//! The one table of kinds: which function serves which resource for which concern.

use jiff::Timestamp;
use k8s_openapi::api::{apps, core, discovery, networking};
use serde_json::Value;

use crate::{
    defaults,
    field::Errors,
    strict::{DecodeError, Unknown, decode_as},
    table::{self, Column},
    unsupported, validate,
};

/// What one resource needs from each concern.
pub(crate) struct Kind {
    /// Plural and group.
    pub(crate) resource: &'static str,
    /// The kind's name.
    pub(crate) kind: &'static str,
    /// The typed check.
    pub(crate) decode: fn(&Kind, &Value) -> Result<Unknown, DecodeError>,
    /// Fills in what was left out.
    pub(crate) defaults: fn(&mut Value),
    /// How names of this kind are spelt.
    pub(crate) name: validate::NameRule,
    /// Judges an object as it is to be stored (after the metadata).
    pub(crate) validate: fn(&Value, &mut Errors),
    /// Judges a change (after `validate` of the new object).
    pub(crate) update: fn(&Value, &Value, &mut Errors),
    /// Fields that are stored but not acted upon.
    pub(crate) warnings: fn(&Value) -> Vec<String>,
    /// The printed columns.
    pub(crate) columns: &'static [Column],
    /// The cells of one object, one per column.
    pub(crate) row: fn(&Value, Timestamp) -> Vec<Value>,
}

/// The entry of a resource.
pub(crate) fn of(resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.resource == resource)
}

fn nothing(_: &mut Value) {}
fn anything(_: &Value, _: &mut Errors) {}
fn any_change(_: &Value, _: &Value, _: &mut Errors) {}
fn no_warnings(_: &Value) -> Vec<String> {
    Vec::new()
}

/// Every served kind.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        resource: "pods",
        kind: "Pod",
        decode: decode_as::<core::v1::Pod>,
        defaults: defaults::pod::pod,
        name: validate::NameRule::Subdomain,
        validate: validate::pod::pod,
        update: validate::pod_update::pod,
        warnings: unsupported::pod,
        columns: table::pod::COLUMNS,
        row: table::pod::row,
    },
    Kind {
        resource: "services",
        kind: "Service",
        decode: decode_as::<core::v1::Service>,
        defaults: defaults::service::service,
        name: validate::NameRule::ServiceLabel,
        validate: validate::service::service,
        update: validate::service::update,
        warnings: unsupported::service,
        columns: table::service::SERVICE_COLUMNS,
        row: table::service::service_row,
    },
    Kind {
        resource: "namespaces",
        kind: "Namespace",
        decode: decode_as::<core::v1::Namespace>,
        defaults: defaults::cluster::namespace,
        name: validate::NameRule::Label,
        validate: anything,
        update: any_change,
        warnings: no_warnings,
        columns: table::cluster::NAMESPACE_COLUMNS,
        row: table::cluster::namespace_row,
    },
    Kind {
        resource: "nodes",
        kind: "Node",
        decode: decode_as::<core::v1::Node>,
        defaults: defaults::cluster::node,
        name: validate::NameRule::Subdomain,
        validate: validate::cluster::node,
        update: validate::cluster::node_update,
        warnings: no_warnings,
        columns: table::cluster::NODE_COLUMNS,
        row: table::cluster::node_row,
    },
    Kind {
        resource: "configmaps",
        kind: "ConfigMap",
        decode: decode_as::<core::v1::ConfigMap>,
        defaults: nothing,
        name: validate::NameRule::Subdomain,
        validate: validate::config::config_map,
        update: validate::config::config_map_update,
        warnings: no_warnings,
        columns: table::cluster::CONFIG_MAP_COLUMNS,
        row: table::cluster::config_map_row,
    },
    Kind {
        resource: "secrets",
        kind: "Secret",
        decode: decode_as::<core::v1::Secret>,
        defaults: defaults::cluster::secret,
        name: validate::NameRule::Subdomain,
        validate: validate::config::secret,
        update: validate::config::secret_update,
        warnings: no_warnings,
        columns: table::cluster::SECRET_COLUMNS,
        row: table::cluster::secret_row,
    },
    Kind {
        resource: "serviceaccounts",
        kind: "ServiceAccount",
        decode: decode_as::<core::v1::ServiceAccount>,
        defaults: nothing,
        name: validate::NameRule::Subdomain,
        validate: anything,
        update: any_change,
        warnings: unsupported::service_account,
        columns: table::cluster::SERVICE_ACCOUNT_COLUMNS,
        row: table::cluster::service_account_row,
    },
    Kind {
        resource: "events",
        kind: "Event",
        decode: decode_as::<core::v1::Event>,
        defaults: nothing,
        name: validate::NameRule::Subdomain,
        validate: validate::cluster::event,
        update: any_change,
        warnings: no_warnings,
        columns: table::event::COLUMNS,
        row: table::event::row,
    },
    Kind {
        resource: "deployments.apps",
        kind: "Deployment",
        decode: decode_as::<apps::v1::Deployment>,
        defaults: defaults::workload::deployment,
        name: validate::NameRule::Subdomain,
        validate: validate::workload::deployment,
        update: validate::workload::update,
        warnings: unsupported::template,
        columns: table::workload::DEPLOYMENT_COLUMNS,
        row: table::workload::deployment_row,
    },
    Kind {
        resource: "replicasets.apps",
        kind: "ReplicaSet",
        decode: decode_as::<apps::v1::ReplicaSet>,
        defaults: defaults::workload::replica_set,
        name: validate::NameRule::Subdomain,
        validate: validate::workload::replica_set,
        update: validate::workload::update,
        warnings: unsupported::template,
        columns: table::workload::REPLICA_SET_COLUMNS,
        row: table::workload::replica_set_row,
    },
    // Derived from EndpointSlices, to be read only: nothing but its table is ever asked for.
    Kind {
        resource: "endpoints",
        kind: "Endpoints",
        decode: decode_as::<core::v1::Endpoints>,
        defaults: nothing,
        name: validate::NameRule::Subdomain,
        validate: anything,
        update: any_change,
        warnings: no_warnings,
        columns: table::service::ENDPOINTS_COLUMNS,
        row: table::service::endpoints_row,
    },
    Kind {
        resource: "endpointslices.discovery.k8s.io",
        kind: "EndpointSlice",
        decode: decode_as::<discovery::v1::EndpointSlice>,
        defaults: defaults::service::endpoint_slice,
        name: validate::NameRule::Subdomain,
        validate: validate::endpoints::slice,
        update: validate::endpoints::slice_update,
        warnings: no_warnings,
        columns: table::service::SLICE_COLUMNS,
        row: table::service::slice_row,
    },
    Kind {
        resource: "ingresses.networking.k8s.io",
        kind: "Ingress",
        decode: decode_as::<networking::v1::Ingress>,
        defaults: nothing,
        name: validate::NameRule::Subdomain,
        validate: validate::ingress::ingress,
        update: any_change,
        warnings: unsupported::ingress,
        columns: table::service::INGRESS_COLUMNS,
        row: table::service::ingress_row,
    },
];
