//! Secret: its entry, its defaults, its rules and its columns.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{default_to, ensure_map, entries, get, has, text},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name},
    validate::{
        config::{check_key, check_size, decoded_size, frozen},
        immutable,
    },
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "Secret",
    plural: "secrets",
    fields: &["type"],
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// A Secret: its type, and the texts of `stringData` moved into `data`.
fn defaults(value: &mut Value) {
    default_to(value, "type", "Opaque");
    let Some(Value::Object(texts)) = value.as_object_mut().and_then(|map| map.remove("stringData")) else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    if let Some(data) = ensure_map(value, "data") {
        for (key, text) in texts {
            data[key.as_str()] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }
}

/// The keys that the data of a Secret of a known type must have.
const KEYS_OF_TYPES: [(&str, &[&str]); 4] = [
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

fn validate(value: &Value, errors: &mut Errors) {
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

fn update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "type"), get(new, "type"), &Path::new("type"), errors);
    frozen(old, new, &["data"], errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "What the secret is for."),
    column("Data", "integer", "The number of entries."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), text(value, "type").into(), entries(value, "data").count().into(), age(value, now)]
}
