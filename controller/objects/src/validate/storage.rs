//! The rules of claims, volumes, and what is around them.

use serde_json::{Value, json};

use super::{
    Unique, all_immutable, each_one_of, formats, formed, immutable, meta, one_of, one_of_if_set,
    required_text,
};
use crate::{
    field::{Errors, Path},
    json::{at, entries, get, has, items, text},
    quantity as quantities,
};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// What a volume may be made of.
const SOURCES: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// An amount of storage, which must not be nothing.
fn positive(amount: &Value, path: &Path, errors: &mut Errors) {
    let spelling = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    match quantities::parse(&spelling) {
        Ok(milli) if milli <= 0 => errors.invalid(path, spelling, "must be greater than zero"),
        Ok(_) => {}
        Err(error) => errors.invalid(path, spelling, error.to_string()),
    }
}

fn access_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    each_one_of(spec, "accessModes", path, &ACCESS_MODES, errors);
    let modes = items(spec, "accessModes");
    if modes.len() > 1 && modes.contains(&json!("ReadWriteOncePod")) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.forbidden(&path.child("accessModes"), detail);
    }
}

/// A PersistentVolumeClaim.
pub(crate) fn claim(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if items(spec, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    access_modes(spec, &path, errors);
    meta::selector(get(spec, "selector"), &path.child("selector"), errors);
    let storage = at(spec, "resources.requests.storage");
    let storage_path = path.child("resources").key("storage");
    if storage.is_null() {
        errors.required(&storage_path, "");
    } else {
        positive(storage, &storage_path, errors);
    }
    formed(spec, "storageClassName", &path, formats::subdomain, errors);
    one_of_if_set(spec, "volumeMode", &path, &VOLUME_MODES, errors);
}

/// A change of a PersistentVolumeClaim: it may be bound, and once it is, grow.
pub(crate) fn claim_update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let bound = text(old, "status.phase") == "Bound";
    let fixed = |value: &Value| {
        let mut spec = get(value, "spec").clone();
        if let Some(spec) = spec.as_object_mut() {
            if text(old, "spec.volumeName").is_empty() {
                spec.remove("volumeName");
            }
            if bound {
                spec.remove("volumeAttributesClassName");
                if let Some(resources) = spec.get_mut("resources").and_then(Value::as_object_mut) {
                    resources.remove("requests");
                }
            }
        }
        spec
    };
    if fixed(old) != fixed(new) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                      bound claims";
        errors.forbidden(&path, detail);
    }
    let (had, wanted) = (text(old, "status.capacity.storage"), text(new, "spec.resources.requests.storage"));
    if !had.is_empty() && quantities::compare(wanted, had) == Ok(std::cmp::Ordering::Less) {
        let path = path.child("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
}

/// A PersistentVolume.
pub(crate) fn volume(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if items(spec, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    access_modes(spec, &path, errors);
    let capacity = get(spec, "capacity");
    if entries(spec, "capacity").next().is_none() {
        errors.required(&path.child("capacity"), "");
    } else if !has(capacity, "storage") || entries(spec, "capacity").count() > 1 {
        errors.not_supported(&path.child("capacity"), capacity.clone(), &["storage"]);
    }
    for (name, amount) in entries(spec, "capacity") {
        positive(amount, &path.child("capacity").key(name), errors);
    }
    one_of(spec, "persistentVolumeReclaimPolicy", &path, &["Delete", "Recycle", "Retain"], errors);
    formed(spec, "storageClassName", &path, formats::subdomain, errors);
    one_of_if_set(spec, "volumeMode", &path, &VOLUME_MODES, errors);
    source(spec, &path, errors);
}

fn source(spec: &Value, path: &Path, errors: &mut Errors) {
    let given: Vec<&&str> = SOURCES.iter().filter(|source| has(spec, source)).collect();
    if given.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    for surplus in given.iter().skip(1) {
        errors.forbidden(&path.child(surplus), "may not specify more than 1 volume type");
    }
    for name in ["hostPath", "local"] {
        if has(spec, name) && required_text(get(spec, name), "path", &path.child(name), errors) {
            formed(get(spec, name), "path", &path.child(name), formats::no_backsteps, errors);
        }
    }
    if has(spec, "local") && !has(get(spec, "nodeAffinity"), "required") {
        errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
    }
    for (name, fields) in [("nfs", &["server", "path"][..]), ("csi", &["driver", "volumeHandle"][..])] {
        if has(spec, name) {
            for field in fields {
                required_text(get(spec, name), field, &path.child(name), errors);
            }
        }
    }
}

/// A change of a PersistentVolume: what it is made of stays.
pub(crate) fn volume_update(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (get(old, "spec"), get(new, "spec"));
    if SOURCES.iter().any(|source| get(before, source) != get(after, source)) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.forbidden(&Path::new("spec.persistentvolumesource"), detail);
    }
    all_immutable(before, after, &["volumeMode"], &Path::new("spec"), errors);
}

/// A StorageClass.
pub(crate) fn class(value: &Value, errors: &mut Errors) {
    let root = Path::default();
    if required_text(value, "provisioner", &root, errors) {
        for message in formats::qualified_name(&text(value, "provisioner").to_lowercase()) {
            errors.invalid(&Path::new("provisioner"), text(value, "provisioner"), message);
        }
    }
    for (key, _) in entries(value, "parameters").filter(|(key, _)| key.is_empty()) {
        errors.invalid(&Path::new("parameters"), key, "field must not be empty.");
    }
    one_of(value, "reclaimPolicy", &root, &["Delete", "Retain"], errors);
    one_of(value, "volumeBindingMode", &root, &["Immediate", "WaitForFirstConsumer"], errors);
}

/// A change of a StorageClass: volumes that were made of it would not follow.
pub(crate) fn class_update(old: &Value, new: &Value, errors: &mut Errors) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        let mut changed = Errors::default();
        immutable(get(old, field), get(new, field), &Path::new(field), &mut changed);
        if !changed.0.is_empty() {
            errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
        }
    }
    all_immutable(old, new, &["volumeBindingMode"], &Path::default(), errors);
}

/// A CSIDriver.
pub(crate) fn csi_driver(value: &Value, errors: &mut Errors) {
    let name = text(value, "metadata.name");
    if name.len() > 63 {
        errors.too_long(&Path::new("metadata.name"), 63);
    }
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    each_one_of(spec, "volumeLifecycleModes", &path, &["Ephemeral", "Persistent"], errors);
    one_of_if_set(spec, "fsGroupPolicy", &path, &["File", "None", "ReadWriteOnceWithFSType"], errors);
}

/// A change of a CSIDriver.
pub(crate) fn csi_driver_update(old: &Value, new: &Value, errors: &mut Errors) {
    let fields = ["attachRequired", "volumeLifecycleModes"];
    all_immutable(get(old, "spec"), get(new, "spec"), &fields, &Path::new("spec"), errors);
}

/// A CSINode.
pub(crate) fn csi_node(value: &Value, errors: &mut Errors) {
    let mut names = Unique::default();
    for (index, driver) in items(get(value, "spec"), "drivers").iter().enumerate() {
        let path = Path::new("spec").child("drivers").index(index);
        required_text(driver, "name", &path, errors);
        required_text(driver, "nodeID", &path, errors);
        names.check(text(driver, "name"), &path.child("name"), errors);
    }
}

/// A VolumeAttachment.
pub(crate) fn attachment(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    required_text(spec, "attacher", &path, errors);
    required_text(spec, "nodeName", &path, errors);
    let (source, path) = (get(spec, "source"), path.child("source"));
    match (has(source, "persistentVolumeName"), has(source, "inlineVolumeSpec")) {
        (false, false) => {
            errors.required(&path, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        }
        (true, true) => {
            errors.forbidden(&path, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
        _ => {}
    }
}

/// A change of a VolumeAttachment: its spec stays.
pub(crate) fn attachment_update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "spec"), get(new, "spec"), &Path::new("spec"), errors);
}
