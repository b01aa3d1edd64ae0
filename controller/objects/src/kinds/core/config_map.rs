//! ConfigMap: its entry, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{entries, get, has},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name},
    validate::config::{check_key, check_size, decoded_size, frozen},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "ConfigMap",
    plural: "configmaps",
    short_names: &["cm"],
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn validate(value: &Value, errors: &mut Errors) {
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

fn update(old: &Value, new: &Value, errors: &mut Errors) {
    frozen(old, new, &["data", "binaryData"], errors);
}

const COLUMNS: &[Column] = &[NAME, column("Data", "integer", "The number of entries."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let count = entries(value, "data").count() + entries(value, "binaryData").count();
    vec![name(value), count.into(), age(value, now)]
}
