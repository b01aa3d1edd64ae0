//! The rules of claims, volumes, and what is around them.

use serde_json::{Value, json};

use crate::{
    field::{Errors, Path},
    json::{at, get, has, items},
    quantity as quantities,
    validate::{each_one_of, formats, formed, meta, one_of_if_set, required_text},
};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// What a volume may be made of.
pub(crate) const SOURCES: [&str; 22] = [
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
pub(crate) fn positive(amount: &Value, path: &Path, errors: &mut Errors) {
    let spelling = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    match quantities::parse(&spelling) {
        Ok(milli) if milli <= 0 => errors.invalid(path, spelling, "must be greater than zero"),
        Ok(_) => {}
        Err(error) => errors.invalid(path, spelling, error.to_string()),
    }
}

pub(crate) fn access_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    each_one_of(spec, "accessModes", path, &ACCESS_MODES, errors);
    let modes = items(spec, "accessModes");
    if modes.len() > 1 && modes.contains(&json!("ReadWriteOncePod")) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.forbidden(&path.child("accessModes"), detail);
    }
}

pub(crate) fn source(spec: &Value, path: &Path, errors: &mut Errors) {
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

/// What a claim, or a template of one, asks for.
pub(crate) fn claim(spec: &Value, path: &Path, errors: &mut Errors) {
    if items(spec, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    access_modes(spec, path, errors);
    meta::selector(get(spec, "selector"), &path.child("selector"), errors);
    let storage = at(spec, "resources.requests.storage");
    let storage_path = path.child("resources").key("storage");
    if storage.is_null() {
        errors.required(&storage_path, "");
    } else {
        positive(storage, &storage_path, errors);
    }
    formed(spec, "storageClassName", path, formats::subdomain, errors);
    one_of_if_set(spec, "volumeMode", path, &VOLUME_MODES, errors);
}
