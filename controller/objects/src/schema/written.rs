//! Objects as Go writes them. Its JSON encoder leaves out some zeros and never others, and programs compare what it has
//! written byte by byte: `kubectl rollout undo` does so with the templates that ControllerRevisions hold.

use serde_json::{Map, Value};

use super::{Field, Message, Type};

/// The fields of a message as Go's JSON encoder writes them, but for nulls, which are left out. What the message does not
/// know stays as it is. Quantities stay as they are spelt.
pub fn as_written(message: &'static Message, value: &Value) -> Value {
    let Value::Object(given) = value else { return value.clone() };
    let fields = message.json_fields();
    let unknown = given.iter().filter(|(name, _)| !fields.iter().any(|field| field.json == **name));
    let mut written: Map<String, Value> =
        unknown.map(|(name, value)| (name.clone(), value.clone())).collect();
    for field in fields {
        let value = match given.get(field.json) {
            None | Some(Value::Null) => absent(field),
            Some(value) => Some(within(field.kind, value)).filter(|value| !is_left_out(field, value)),
        };
        written.extend(value.map(|value| (field.json.to_owned(), value)));
    }
    Value::Object(written)
}

fn within(kind: Type, value: &Value) -> Value {
    match (kind, value) {
        (Type::Object(message), value) => as_written(message, value),
        (Type::List(item), Value::Array(items)) => items.iter().map(|value| within(*item, value)).collect(),
        (Type::Map(item), Value::Object(entries)) => {
            Value::Object(entries.iter().map(|(name, value)| (name.clone(), within(*item, value))).collect())
        }
        _ => value.clone(),
    }
}

/// A struct that is no pointer has no zero that Go would leave out.
fn is_struct(field: &Field) -> bool {
    matches!(field.kind, Type::Object(_)) && !field.is_pointer()
}

fn is_left_out(field: &Field, value: &Value) -> bool {
    !field.zero_is_written() && !is_struct(field) && is_zero(field.kind, value)
}

/// What Go writes for a field that is not set.
fn absent(field: &Field) -> Option<Value> {
    match field.kind {
        Type::Object(message) if is_struct(field) => Some(as_written(message, &Value::Object(Map::new()))),
        // Null.
        Type::Object(_) | Type::Map(_) | Type::List(_) | Type::Items(_) | Type::Bytes => None,
        kind if field.zero_is_written() && !field.is_pointer() => zero(kind),
        _ => None,
    }
}

/// Go's zero value of a type, where JSON has one besides null.
pub(crate) fn zero(kind: Type) -> Option<Value> {
    match kind {
        Type::Object(_) | Type::Map(_) => Some(Value::Object(Map::new())),
        Type::List(_) | Type::Items(_) => Some(Value::Array(Vec::new())),
        Type::Bool => Some(Value::Bool(false)),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Some(Value::from(0)),
        Type::String | Type::Bytes => Some(Value::from("")),
        Type::Quantity => Some(Value::from("0")),
        Type::Duration => Some(Value::from("0s")),
        Type::Time | Type::MicroTime | Type::Json | Type::OneOf(_) => None,
    }
}

/// Whether a value is Go's zero value of its type.
pub(crate) fn is_zero(kind: Type, value: &Value) -> bool {
    zero(kind).is_some_and(|zero| zero == *value)
}
