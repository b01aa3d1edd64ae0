//! The rules of ConfigMaps and Secrets.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{formats, immutable};
use crate::{
    field::{Errors, Path},
    json::{entries, get, has, text, truth},
};

/// The most bytes that all values of one object may have.
const SIZE_LIMIT: usize = 1024 * 1024;

/// The keys that the data of a Secret of a known type must have.
const KEYS_OF_TYPES: [(&str, &[&str]); 4] = [
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

/// A ConfigMap.
pub(crate) fn config_map(value: &Value, errors: &mut Errors) {
    let mut size = 0;
    for (key, content) in entries(value, "data") {
        check_key("data", key, errors);
        if has(get(value, "binaryData"), key) {
            errors.invalid(&Path::new("data").key(key), key, "duplicate of key present in binaryData");
        }
        size += content.as_str().map_or(0, str::len);
    }
    for (key, content) in entries(value, "binaryData") {
        check_key("binaryData", key, errors);
        size += decoded_size("binaryData", key, content, errors);
    }
    check_size(size, errors);
}

/// A Secret.
pub(crate) fn secret(value: &Value, errors: &mut Errors) {
    let mut size = 0;
    for (key, content) in entries(value, "data") {
        check_key("data", key, errors);
        size += decoded_size("data", key, content, errors);
    }
    check_size(size, errors);
    let (kind, data) = (text(value, "type"), get(value, "data"));
    for (_, keys) in KEYS_OF_TYPES.iter().filter(|(name, _)| *name == kind) {
        for key in keys.iter().filter(|key| !has(data, key)) {
            errors.required(&Path::new("data").key(key), "");
        }
    }
    if kind == "kubernetes.io/basic-auth" && !has(data, "username") && !has(data, "password") {
        errors.required(&Path::new("data").key("username"), "");
        errors.required(&Path::new("data").key("password"), "");
    }
    let account = "kubernetes.io/service-account.name";
    let annotations = get(get(value, "metadata"), "annotations");
    if kind == "kubernetes.io/service-account-token" && !has(annotations, account) {
        errors.required(&Path::new("metadata.annotations").key(account), "");
    }
}

/// A change of a ConfigMap.
pub(crate) fn config_map_update(old: &Value, new: &Value, errors: &mut Errors) {
    frozen(old, new, &["data", "binaryData"], errors);
}

/// A change of a Secret.
pub(crate) fn secret_update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "type"), get(new, "type"), &Path::new("type"), errors);
    frozen(old, new, &["data"], errors);
}

/// What was declared immutable stays, and stays immutable.
fn frozen(old: &Value, new: &Value, fields: &[&str], errors: &mut Errors) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !truth(old, "immutable") {
        return;
    }
    if !truth(new, "immutable") {
        errors.forbidden(&Path::new("immutable"), DETAIL);
    }
    for field in fields {
        if get(old, field) != get(new, field) {
            errors.forbidden(&Path::new(field), DETAIL);
        }
    }
}

fn check_key(field: &str, key: &str, errors: &mut Errors) {
    for message in formats::config_key(key) {
        errors.invalid(&Path::new(field).key(key), key, message);
    }
}

/// The size of a base64 value; the value itself is never shown, it may be secret.
fn decoded_size(field: &str, key: &str, content: &Value, errors: &mut Errors) -> usize {
    match content.as_str().map(|text| STANDARD.decode(text)) {
        Some(Ok(bytes)) => bytes.len(),
        _ => {
            errors.type_invalid(&Path::new(field).key(key), "<content>", "must be base64");
            0
        }
    }
}

fn check_size(size: usize, errors: &mut Errors) {
    if size > SIZE_LIMIT {
        errors.too_long(&Path::new("data"), SIZE_LIMIT);
    }
}
