//! Short reads and writes on JSON objects; everything absent or of another type reads as empty.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;
static NO_ITEMS: Vec<Value> = Vec::new();

/// A field, or null.
pub(crate) fn get<'a>(value: &'a Value, field: &str) -> &'a Value {
    value.get(field).unwrap_or(&NULL)
}

/// The value at a dotted chain of fields, or null.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, get)
}

/// Whether a field is there and not null.
pub(crate) fn has(value: &Value, field: &str) -> bool {
    !get(value, field).is_null()
}

/// A text at a dotted path, or "".
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap_or("")
}

/// A whole number at a dotted path.
pub(crate) fn int(value: &Value, path: &str) -> Option<i64> {
    at(value, path).as_i64()
}

/// A truth value at a dotted path; absent is false.
pub(crate) fn truth(value: &Value, path: &str) -> bool {
    at(value, path).as_bool().unwrap_or(false)
}

/// The items of a list at a dotted path.
pub(crate) fn items<'a>(value: &'a Value, path: &str) -> &'a Vec<Value> {
    at(value, path).as_array().unwrap_or(&NO_ITEMS)
}

/// The entries of a map at a dotted path.
pub(crate) fn entries<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    at(value, path).as_object().into_iter().flatten().map(|(key, item)| (key.as_str(), item))
}

/// The items of a list field that may be changed.
pub(crate) fn items_mut<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The map in a field that may be changed, if there is one.
pub(crate) fn map_mut<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(field).and_then(Value::as_object_mut)
}

/// The map in a field, made when it is absent; `None` when something else is there.
pub(crate) fn ensure_map<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    let slot = value.as_object_mut()?.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.is_object().then_some(slot)
}

/// Sets a field when it is absent, null or the empty text (Go's clients send both for "not given").
pub(crate) fn default_to(value: &mut Value, field: &str, default: impl Into<Value>) {
    if let Some(map) = value.as_object_mut() {
        let slot = map.entry(field).or_insert(Value::Null);
        if slot.is_null() || slot.as_str() == Some("") {
            *slot = default.into();
        }
    }
}

/// Sets a number when it is absent, null or 0, for fields where 0 means "not given".
pub(crate) fn default_number(value: &mut Value, field: &str, default: i64) {
    if let Some(map) = value.as_object_mut() {
        let slot = map.entry(field).or_insert(Value::Null);
        if slot.is_null() || slot.as_i64() == Some(0) {
            *slot = default.into();
        }
    }
}

/// Whether a value says nothing: null, "", [], {}.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
