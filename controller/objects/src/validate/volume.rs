//! The rules of a pod's volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, int, items, text},
    validate::{Unique, container, env, formats, formed, one_of_if_set, required_text},
};

/// What `hostPath.type` may say.
const HOST_PATH_TYPES: [&str; 7] =
    ["BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// All volumes; returns their names for the mounts.
pub(crate) fn volumes<'a>(spec: &'a Value, path: &Path, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut names = Unique::default();
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        let path = path.child("volumes").index(index);
        if required_text(volume, "name", &path, errors) {
            formed(volume, "name", &path, formats::label, errors);
            names.check(text(volume, "name"), &path.child("name"), errors);
        }
        source(volume, &path, errors);
    }
    items(spec, "volumes").iter().map(|volume| text(volume, "name")).collect()
}

fn source(volume: &Value, path: &Path, errors: &mut Errors) {
    let given: Vec<&str> = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "name" && !value.is_null())
        .map(|(key, _)| key.as_str())
        .collect();
    if given.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    for surplus in given.iter().skip(1) {
        errors.forbidden(&path.child(surplus), "may not specify more than 1 volume type");
    }
    for name in given {
        let (source, path) = (get(volume, name), path.child(name));
        match name {
            "emptyDir" => empty_dir(source, &path, errors),
            "hostPath" => {
                if required_text(source, "path", &path, errors) {
                    formed(source, "path", &path, formats::absolute_path, errors);
                }
                one_of_if_set(source, "type", &path, &HOST_PATH_TYPES, errors);
            }
            "configMap" => files(source, "name", &path, errors),
            "secret" => files(source, "secretName", &path, errors),
            "downwardAPI" => {
                mode(source, "defaultMode", &path, errors);
                env::downward_items(source, &path, errors);
            }
            "projected" => projected(source, &path, errors),
            _ => {}
        }
    }
}

fn empty_dir(source: &Value, path: &Path, errors: &mut Errors) {
    container::quantity(get(source, "sizeLimit"), &path.child("sizeLimit"), errors);
    let medium = text(source, "medium");
    if !medium.starts_with("HugePages") {
        one_of_if_set(source, "medium", path, &["Memory"], errors);
    }
}

/// The files of a ConfigMap or a Secret.
fn files(source: &Value, name: &str, path: &Path, errors: &mut Errors) {
    required_text(source, name, path, errors);
    mode(source, "defaultMode", path, errors);
    for (index, item) in items(source, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        required_text(item, "key", &path, errors);
        if required_text(item, "path", &path, errors) {
            formed(item, "path", &path, formats::file_below, errors);
        }
        mode(item, "mode", &path, errors);
    }
}

fn projected(volume: &Value, path: &Path, errors: &mut Errors) {
    mode(volume, "defaultMode", path, errors);
    for (index, source) in items(volume, "sources").iter().enumerate() {
        let path = path.child("sources").index(index);
        let given: Vec<&String> = source.as_object().into_iter().flatten().map(|(key, _)| key).collect();
        for surplus in given.iter().skip(1) {
            let detail = "may not specify more than 1 volume type within a projected source";
            errors.forbidden(&path.child(surplus), detail);
        }
        if given.is_empty() {
            errors.required(&path, "must specify a volume type");
        }
        for name in given {
            let (part, path) = (get(source, name), path.child(name));
            match name.as_str() {
                "configMap" | "secret" => files(part, "name", &path, errors),
                "downwardAPI" => env::downward_items(part, &path, errors),
                "serviceAccountToken" => token(part, &path, errors),
                _ => {}
            }
        }
    }
}

/// A token of the pod's account: it lives ten minutes at least.
fn token(source: &Value, path: &Path, errors: &mut Errors) {
    let wrong = int(source, "expirationSeconds").and_then(|seconds| match seconds {
        ..600 => Some((seconds, "may not specify a duration less than 10 minutes")),
        600..=0x1_0000_0000 => None,
        _ => Some((seconds, "may not specify a duration larger than 2^32 seconds")),
    });
    if let Some((seconds, detail)) = wrong {
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    if required_text(source, "path", path, errors) {
        formed(source, "path", path, formats::file_below, errors);
    }
}

/// The permission bits of a file.
pub(crate) fn mode(value: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(bits) = int(value, field).filter(|bits| !(0..=0o777).contains(bits)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(&path.child(field), bits, detail);
    }
}
