//! The tables of Namespaces, Nodes, ConfigMaps, Secrets, ServiceAccounts, Leases, PriorityClasses and RuntimeClasses.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, name, number, or_none, wide};
use crate::json::{entries, items, text, truth};

pub(crate) const NAMESPACE_COLUMNS: &[Column] =
    &[NAME, column("Status", "string", "Active, or Terminating while it is emptied."), AGE];

pub(crate) const NODE_COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the node is ready for pods."),
    column("Roles", "string", "The roles of the node."),
    AGE,
    column("Version", "string", "The version of the node's agent."),
    wide("Internal-IP", "The node's address inside the cluster."),
    wide("External-IP", "The node's address outside the cluster."),
    wide("OS-Image", "The node's operating system."),
    wide("Kernel-Version", "The node's kernel."),
    wide("Container-Runtime", "The node's container runtime and its version."),
];

pub(crate) const CONFIG_MAP_COLUMNS: &[Column] =
    &[NAME, column("Data", "integer", "The number of entries."), AGE];

pub(crate) const SECRET_COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "What the secret is for."),
    column("Data", "integer", "The number of entries."),
    AGE,
];

pub(crate) const SERVICE_ACCOUNT_COLUMNS: &[Column] =
    &[NAME, column("Secrets", "integer", "The number of secrets that the account may use."), AGE];

pub(crate) const LEASE_COLUMNS: &[Column] = &[NAME, column("Holder", "string", "Who holds it."), AGE];

pub(crate) const PRIORITY_CLASS_COLUMNS: &[Column] = &[
    NAME,
    column("Value", "integer", "The priority of its pods."),
    column("Global-Default", "boolean", "Whether pods without a class get it."),
    AGE,
    column("PreemptionPolicy", "string", "Whether its pods may displace others."),
];

pub(crate) const RUNTIME_CLASS_COLUMNS: &[Column] =
    &[NAME, column("Handler", "string", "What runs its containers."), AGE];

/// The cells of a Lease.
pub(crate) fn lease_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "spec.holderIdentity").into(), age(value, now)]
}

/// The cells of a PriorityClass.
pub(crate) fn priority_class_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(value),
        number(value, "value").into(),
        truth(value, "globalDefault").into(),
        age(value, now),
        text(value, "preemptionPolicy").into(),
    ]
}

/// The cells of a RuntimeClass.
pub(crate) fn runtime_class_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "handler").into(), age(value, now)]
}

/// The cells of a Namespace.
pub(crate) fn namespace_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "status.phase").into(), age(value, now)]
}

/// The cells of a ConfigMap.
pub(crate) fn config_map_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let count = entries(value, "data").count() + entries(value, "binaryData").count();
    vec![name(value), count.into(), age(value, now)]
}

/// The cells of a Secret.
pub(crate) fn secret_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "type").into(), entries(value, "data").count().into(), age(value, now)]
}

/// The cells of a ServiceAccount.
pub(crate) fn service_account_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), items(value, "secrets").len().into(), age(value, now)]
}

/// The cells of a Node.
pub(crate) fn node_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let address = |kind: &str| {
        let found = items(value, "status.addresses").iter().find(|entry| text(entry, "type") == kind);
        or_none(found.map_or("", |entry| text(entry, "address")))
    };
    let info = |field: &str| {
        let found = text(value, &format!("status.nodeInfo.{field}"));
        Value::from(if found.is_empty() { "<unknown>" } else { found })
    };
    vec![
        name(value),
        node_status(value).into(),
        roles(value),
        age(value, now),
        text(value, "status.nodeInfo.kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn node_status(value: &Value) -> String {
    let ready = items(value, "status.conditions").iter().find(|condition| text(condition, "type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if truth(value, "spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

/// The roles that the node's labels name.
fn roles(value: &Value) -> Value {
    let roles: BTreeSet<&str> = entries(value, "metadata.labels")
        .filter_map(|(key, role)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => role.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    or_none(&roles.into_iter().collect::<Vec<_>>().join(","))
}
