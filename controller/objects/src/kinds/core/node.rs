//! Node: its entry, its defaults, its rules and its columns.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    defaults::pod::numbers_to_quantities,
    field::{Errors, Path},
    json::{at, default_to, entries, get, has, items, map_mut, text, truth},
    kinds::{Entry, PLAIN, STATUS},
    table::{AGE, Column, NAME, age, column, name, or_none, wide},
    validate::{affinity::EFFECTS, container, formats, formed, one_of, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "Node",
    plural: "nodes",
    short_names: &["no"],
    namespaced: false,
    subresources: &[STATUS],
    fields: &["spec.unschedulable"],
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// A Node: all of its capacity is allocatable unless it says otherwise.
fn defaults(value: &mut Value) {
    let Some(status) = value.get_mut("status").filter(|status| status.is_object()) else { return };
    for list in ["capacity", "allocatable"] {
        if let Some(quantities) = status.get_mut(list) {
            numbers_to_quantities(quantities);
        }
    }
    if let Some(capacity) = status.get("capacity").cloned() {
        default_to(status, "allocatable", capacity.clone());
        offer_all(&capacity, map_mut(status, "allocatable"));
    }
}

/// Whether users offer a resource: the node does not report it.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.starts_with("kubernetes.io/")
}

/// What users add to a node's capacity is allocatable, too, and what they take from it is not.
fn offer_all(capacity: &Value, allocatable: Option<&mut Map<String, Value>>) {
    let (Some(capacity), Some(allocatable)) = (capacity.as_object(), allocatable) else { return };
    allocatable.retain(|name, _| !is_extended(name) || capacity.contains_key(name));
    for (name, amount) in capacity.iter().filter(|(name, _)| is_extended(name)) {
        allocatable.entry(name).or_insert_with(|| amount.clone());
    }
}

/// The taints of a node.
fn taints(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, taint) in items(spec, "taints").iter().enumerate() {
        let path = path.child("taints").index(index);
        if required_text(taint, "key", &path, errors) {
            formed(taint, "key", &path, formats::qualified_name, errors);
        }
        formed(taint, "value", &path, formats::label_value, errors);
        one_of(taint, "effect", &path, &EFFECTS, errors);
        if !seen.insert((text(taint, "key"), text(taint, "effect"))) {
            errors.duplicate(&path, taint.clone());
        }
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    taints(get(value, "spec"), &Path::new("spec"), errors);
    for list in ["capacity", "allocatable"] {
        for (name, quantity) in entries(get(value, "status"), list) {
            container::quantity(quantity, &Path::new("status").child(list).key(name), errors);
        }
    }
}

/// A change of a Node: its pod addresses stay once given.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (get(old, "spec"), get(new, "spec"));
    for field in ["podCIDR", "providerID"] {
        if has(before, field) && !text(before, field).is_empty() && text(before, field) != text(after, field)
        {
            let detail = format!("node updates may not change {field} except from \"\" to valid");
            errors.forbidden(&Path::new("spec").child(field), detail);
        }
    }
    node_update(old, new, errors);
}

/// A change of a node's addresses.
fn node_update(old: &Value, new: &Value, errors: &mut Errors) {
    let list = "status.addresses";
    if at(old, list) == at(new, list) {
        return;
    }
    for (index, address) in items(new, list).iter().enumerate() {
        if matches!(text(address, "type"), "InternalIP" | "ExternalIP") {
            formed(address, "address", &Path::new(list).index(index), formats::endpoint_ip, errors);
        }
    }
}

const COLUMNS: &[Column] = &[
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

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
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
