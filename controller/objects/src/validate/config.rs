//! The rules of ConfigMaps and Secrets.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, truth},
    validate::formats,
};

/// The most bytes that all values of one object may have.
const SIZE_LIMIT: usize = 1024 * 1024;

/// What was declared immutable stays, and stays immutable.
pub(crate) fn frozen(old: &Value, new: &Value, fields: &[&str], errors: &mut Errors) {
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

pub(crate) fn check_key(field: &str, key: &str, errors: &mut Errors) {
    for message in formats::config_key(key) {
        errors.invalid(&Path::new(field).key(key), key, message);
    }
}

/// The size of a base64 value; the value itself is never shown, it may be secret.
pub(crate) fn decoded_size(field: &str, key: &str, content: &Value, errors: &mut Errors) -> usize {
    match content.as_str().map(|text| STANDARD.decode(text)) {
        Some(Ok(bytes)) => bytes.len(),
        _ => {
            errors.type_invalid(&Path::new(field).key(key), "<content>", "must be base64");
            0
        }
    }
}

pub(crate) fn check_size(size: usize, errors: &mut Errors) {
    if size > SIZE_LIMIT {
        errors.too_long(&Path::new("data"), SIZE_LIMIT);
    }
}
