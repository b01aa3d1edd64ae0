//! The tables of claims, volumes, and what is around them.

use serde_json::Value;

use crate::{
    json::{at, get, has, items, text},
    table::{Column, wide},
};

pub(crate) const VOLUME_MODE: Column = wide("VolumeMode", "Whether it is a file system or a block device.");

/// "RWO,ROX" and so on.
pub(crate) fn modes(value: &Value, path: &str) -> Value {
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

pub(crate) fn or_unset(text: &str) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

/// Where volumes and claims named their class, before there was a field.
pub(crate) fn class_name(value: &Value) -> Value {
    let annotation = get(at(value, "metadata.annotations"), "volume.beta.kubernetes.io/storage-class");
    annotation.as_str().unwrap_or(text(value, "spec.storageClassName")).into()
}

/// The phase, unless the object is on its way out.
pub(crate) fn phase(value: &Value) -> Value {
    let deleting = has(get(value, "metadata"), "deletionTimestamp");
    if deleting { "Terminating".into() } else { text(value, "status.phase").into() }
}
