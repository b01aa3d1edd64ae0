//! Defaults of claims, volumes, and what is around them.

use serde_json::{Value, json};

use super::pod::numbers_to_quantities;
use crate::json::{default_to, ensure_map};

/// A PersistentVolumeClaim.
pub(crate) fn claim(value: &mut Value) {
    if let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "volumeMode", "Filesystem");
        for list in ["requests", "limits"] {
            if let Some(quantities) = spec.get_mut("resources").and_then(|resources| resources.get_mut(list))
            {
                numbers_to_quantities(quantities);
            }
        }
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "phase", "Pending");
    }
}

/// A PersistentVolume.
pub(crate) fn volume(value: &mut Value) {
    if let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "persistentVolumeReclaimPolicy", "Retain");
        default_to(spec, "volumeMode", "Filesystem");
        if let Some(capacity) = spec.get_mut("capacity") {
            numbers_to_quantities(capacity);
        }
        if let Some(host_path) = spec.get_mut("hostPath") {
            default_to(host_path, "type", "");
        }
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "phase", "Pending");
    }
}

/// A StorageClass.
pub(crate) fn class(value: &mut Value) {
    default_to(value, "reclaimPolicy", "Delete");
    default_to(value, "volumeBindingMode", "Immediate");
}

/// A CSIDriver.
pub(crate) fn csi_driver(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "attachRequired", true);
    default_to(spec, "podInfoOnMount", false);
    default_to(spec, "storageCapacity", false);
    default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default_to(spec, "volumeLifecycleModes", json!(["Persistent"]));
    default_to(spec, "requiresRepublish", false);
    default_to(spec, "seLinuxMount", false);
}

/// A VolumeAttachment.
pub(crate) fn attachment(value: &mut Value) {
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "attached", false);
    }
}
