//! The tables of claims, volumes, and what is around them.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, joined, name, or_none, wide};
use crate::json::{at, get, has, items, text, truth};

const VOLUME_MODE: Column = wide("VolumeMode", "Whether it is a file system or a block device.");

pub(crate) const CLAIM_COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Pending, Bound or Lost."),
    column("Volume", "string", "The volume it is bound to."),
    column("Capacity", "string", "The size of the volume."),
    column("Access Modes", "string", "How the volume may be mounted."),
    column("StorageClass", "string", "The class it was asked of."),
    column("VolumeAttributesClass", "string", "The class of its attributes."),
    AGE,
    VOLUME_MODE,
];

pub(crate) const VOLUME_COLUMNS: &[Column] = &[
    NAME,
    column("Capacity", "string", "Its size."),
    column("Access Modes", "string", "How it may be mounted."),
    column("Reclaim Policy", "string", "What happens to it when its claim goes."),
    column("Status", "string", "Available, Bound, Released or Failed."),
    column("Claim", "string", "The claim it is bound to."),
    column("StorageClass", "string", "The class it was made of."),
    column("VolumeAttributesClass", "string", "The class of its attributes."),
    column("Reason", "string", "Why it is in this state."),
    AGE,
    VOLUME_MODE,
];

pub(crate) const CLASS_COLUMNS: &[Column] = &[
    NAME,
    column("Provisioner", "string", "Who makes its volumes."),
    column("ReclaimPolicy", "string", "What happens to its volumes when their claims go."),
    column("VolumeBindingMode", "string", "When its volumes are made and bound."),
    column("AllowVolumeExpansion", "string", "Whether its volumes may grow."),
    AGE,
];

pub(crate) const CSI_DRIVER_COLUMNS: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean", "Whether volumes are attached before they are mounted."),
    column("PodInfoOnMount", "boolean", "Whether the driver is told about the pod."),
    column("StorageCapacity", "boolean", "Whether the scheduler looks at the driver's capacity."),
    column("TokenRequests", "string", "The tokens that the driver gets."),
    column("RequiresRepublish", "boolean", "Whether mounts are renewed."),
    column("Modes", "string", "The lives that its volumes may have."),
    AGE,
];

pub(crate) const CSI_NODE_COLUMNS: &[Column] =
    &[NAME, column("Drivers", "integer", "The number of drivers on the node."), AGE];

pub(crate) const ATTACHMENT_COLUMNS: &[Column] = &[
    NAME,
    column("Attacher", "string", "Who attaches it."),
    column("PV", "string", "The volume."),
    column("Node", "string", "The node it is attached to."),
    column("Attached", "boolean", "Whether it is."),
    AGE,
];

/// "RWO,ROX" and so on.
fn modes(value: &Value, path: &str) -> Value {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    // In this order, whatever the object's.
    let all: Vec<&str> = items(value, path).iter().map(short).collect();
    let listed: Vec<&str> =
        ["RWO", "ROX", "RWX", "RWOP"].into_iter().filter(|mode| all.contains(mode)).collect();
    listed.join(",").into()
}

fn or_unset(text: &str) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

/// Where volumes and claims named their class, before there was a field.
fn class_name(value: &Value) -> Value {
    let annotation = get(at(value, "metadata.annotations"), "volume.beta.kubernetes.io/storage-class");
    annotation.as_str().unwrap_or(text(value, "spec.storageClassName")).into()
}

/// The phase, unless the object is on its way out.
fn phase(value: &Value) -> Value {
    let deleting = has(get(value, "metadata"), "deletionTimestamp");
    if deleting { "Terminating".into() } else { text(value, "status.phase").into() }
}

/// The cells of a PersistentVolumeClaim.
pub(crate) fn claim_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let volume = text(value, "spec.volumeName");
    let bound = !volume.is_empty();
    vec![
        name(value),
        phase(value),
        volume.into(),
        if bound { text(value, "status.capacity.storage").into() } else { "".into() },
        if bound { modes(value, "status.accessModes") } else { "".into() },
        class_name(value),
        or_unset(text(value, "spec.volumeAttributesClassName")),
        age(value, now),
        or_unset(text(value, "spec.volumeMode")),
    ]
}

/// The cells of a PersistentVolume.
pub(crate) fn volume_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match (text(value, "spec.claimRef.namespace"), text(value, "spec.claimRef.name")) {
        (_, "") => String::new(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![
        name(value),
        text(value, "spec.capacity.storage").into(),
        modes(value, "spec.accessModes"),
        text(value, "spec.persistentVolumeReclaimPolicy").into(),
        phase(value),
        claim.into(),
        class_name(value),
        or_unset(text(value, "spec.volumeAttributesClassName")),
        text(value, "status.reason").into(),
        age(value, now),
        or_unset(text(value, "spec.volumeMode")),
    ]
}

/// The cells of a StorageClass.
pub(crate) fn class_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = at(value, "metadata.annotations");
    let default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|annotation| text_of(annotations, annotation) == "true");
    let mark = if default { " (default)" } else { "" };
    vec![
        format!("{}{mark}", text(value, "metadata.name")).into(),
        text(value, "provisioner").into(),
        text(value, "reclaimPolicy").into(),
        text(value, "volumeBindingMode").into(),
        truth(value, "allowVolumeExpansion").to_string().into(),
        age(value, now),
    ]
}

/// An entry whose key has dots.
fn text_of<'a>(map: &'a Value, key: &str) -> &'a str {
    get(map, key).as_str().unwrap_or("")
}

/// The cells of a CSIDriver.
pub(crate) fn csi_driver_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let modes: Vec<&str> =
        items(value, "spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    vec![
        name(value),
        truth(value, "spec.attachRequired").into(),
        truth(value, "spec.podInfoOnMount").into(),
        truth(value, "spec.storageCapacity").into(),
        or_unset(&joined(value, "spec.tokenRequests", "audience")),
        truth(value, "spec.requiresRepublish").into(),
        or_none(&modes.join(",")),
        age(value, now),
    ]
}

/// The cells of a CSINode.
pub(crate) fn csi_node_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), items(value, "spec.drivers").len().into(), age(value, now)]
}

/// The cells of a VolumeAttachment.
pub(crate) fn attachment_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(value),
        text(value, "spec.attacher").into(),
        text(value, "spec.source.persistentVolumeName").into(),
        text(value, "spec.nodeName").into(),
        truth(value, "status.attached").into(),
        age(value, now),
    ]
}
