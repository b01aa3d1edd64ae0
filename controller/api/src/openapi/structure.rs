//! Schemas of kinds that k8s-openapi has no types for (`metrics.k8s.io`, old versions): from the table of API types,
//! thus without descriptions.

use serde_json::{Map, Value, json};
use warren_objects::schema::{Message, Type};

use super::{merging, schemas::REFERENCE};

/// Adds the message of a kind, which is more than its row: every kind says what it is.
pub(super) fn define_kind(all: &mut Map<String, Value>, message: &'static Message) -> String {
    let name = define(all, message);
    for field in ["apiVersion", "kind"] {
        all[&name]["properties"][field] = json!({"type": "string"});
    }
    name
}

/// Adds a message and all that it refers to, as far as they are not there yet; returns its definition's name.
fn define(all: &mut Map<String, Value>, message: &'static Message) -> String {
    let name = merging::definition(message);
    if !all.contains_key(&name) {
        // Taken now, because a type may be part of itself.
        all.insert(name.clone(), Value::Null);
        let properties: Map<String, Value> = message
            .json_fields()
            .into_iter()
            .map(|field| (field.json.to_owned(), of(all, field.kind)))
            .collect();
        all.insert(name.clone(), json!({"type": "object", "properties": properties}));
    }
    name
}

fn of(all: &mut Map<String, Value>, kind: Type) -> Value {
    match kind {
        Type::Bool => json!({"type": "boolean"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Double => json!({"type": "number", "format": "double"}),
        Type::String | Type::Duration => json!({"type": "string"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Time | Type::MicroTime => json!({"type": "string", "format": "date-time"}),
        Type::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Type::IntOrString => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Type::Json => json!({"type": "object"}),
        Type::Object(message) => json!({"$ref": format!("{REFERENCE}{}", define(all, message))}),
        Type::List(item) | Type::Items(item) => json!({"type": "array", "items": of(all, *item)}),
        Type::Map(value) => json!({"type": "object", "additionalProperties": of(all, *value)}),
        // Any of several forms.
        Type::OneOf(_) => json!({}),
    }
}
