//! The check of what a client sent: the object is walked against its kind's schema. Wrong types are errors, unknown
//! fields are reported by path.
//!
//! The words are those of serde, by which the typed views of planners read the same objects.

mod walk;

use serde_json::Value;

use crate::{
    kinds::Kind,
    schema::{Schema, Shape},
};
use walk::Walk;

/// The paths of fields that the kind does not have, in Kubernetes' spelling: `spec.template.spec.containers[0].imag`. As
/// in Kubernetes, not of all when there are very many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unknown(pub Vec<String>);

impl Unknown {
    /// Whether every field is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One message per field, as in `Warning` headers and strict decoding errors: `unknown field "spec.replicaz"`.
    pub fn messages(&self) -> Vec<String> {
        self.0.iter().map(|path| format!("unknown field \"{path}\"")).collect()
    }
}

/// More unknown fields than these are not named.
const MOST_MESSAGES: usize = 100;

/// Why a body is not an object of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field has the wrong type.
    #[error("{kind}.{field}: {expectation}")]
    Field {
        /// The kind that was asked for.
        kind: String,
        /// The field's path.
        field: String,
        /// What was found and what was expected.
        expectation: String,
    },
    /// The body as a whole is wrong.
    #[error("{kind}: {expectation}")]
    Body {
        /// The kind that was asked for.
        kind: String,
        /// What was found and what was expected.
        expectation: String,
    },
}

impl DecodeError {
    /// The path of the wrong field; empty when it is the whole body.
    pub fn field(&self) -> &str {
        match self {
            Self::Field { field, .. } => field,
            Self::Body { .. } => "",
        }
    }
}

/// Checks the types of all fields of an object; returns the fields that its kind does not have.
///
/// Explicit nulls count as absent, everywhere. What `apiVersion` says is not looked at.
pub fn decode(kind: &Kind, value: &Value) -> Result<Unknown, DecodeError> {
    Walk::default().object(&kind.kind, kind.schema(), value)
}

/// Removes the fields that the kind does not have, for clients that want them ignored.
pub fn prune(kind: &Kind, value: &mut Value) {
    if let Value::Object(map) = value {
        let schema = kind.schema();
        map.retain(|name, _| is_of_every_kind(name) || schema.get(name).is_some());
        for (name, value) in map {
            schema.get(name).into_iter().for_each(|property| prune_below(property.schema, value));
        }
    }
}

/// What an object says about its own type is no field of its schema.
fn is_of_every_kind(name: &str) -> bool {
    ["apiVersion", "kind"].contains(&name)
}

fn prune_below(schema: Schema<'_>, value: &mut Value) {
    match (schema.shape(), value) {
        (Shape::Object(fields), Value::Object(map)) => {
            map.retain(|name, _| fields.keeps_unknown() || fields.get(name).is_some());
            for (name, value) in map {
                fields.get(name).into_iter().for_each(|property| prune_below(property.schema, value));
            }
        }
        (Shape::Map(below), Value::Object(map)) => {
            map.values_mut().for_each(|value| prune_below(below, value));
        }
        (Shape::List(below), Value::Array(items)) => {
            items.iter_mut().for_each(|item| prune_below(below, item));
        }
        (Shape::OneOf(forms), value) => {
            walk::form(forms, value).into_iter().for_each(|schema| prune_below(schema, value));
        }
        _ => {}
    }
}

/// Removes from an object what is null and counts as absent: of a built-in kind everything, of a custom one only metadata,
/// for its definition says which other nulls are values ([`crate::defaults::apply`]).
pub fn strip_nulls_of(kind: &Kind, value: &mut Value) {
    match value.as_object_mut() {
        Some(map) if kind.message().is_none() => map.get_mut("metadata").into_iter().for_each(strip_nulls),
        _ => strip_nulls(value),
    }
}

/// Removes the entries of maps that are null: on input null means absent.
pub fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, item| !item.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn kind(resource: &str) -> &'static Kind {
        kinds::of(resource).unwrap()
    }

    #[test]
    fn unknown_fields_by_path() {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "creationTimestamp": null},
            "spec": {"replicaz": 3, "template": {"spec": {"containers": [{"name": "a", "imag": "x"}]}}},
            "extra": {"deep": [1]}
        });
        let unknown = decode(kind("deployments.apps"), &value).unwrap();
        let mut paths = unknown.0.clone();
        paths.sort();
        assert_eq!(paths, ["extra", "spec.replicaz", "spec.template.spec.containers[0].imag"]);
        let mut pruned = value;
        prune(kind("deployments.apps"), &mut pruned);
        assert_eq!(decode(kind("deployments.apps"), &pruned).unwrap(), Unknown::default());
        assert_eq!(pruned["spec"]["template"]["spec"]["containers"][0], json!({"name": "a"}));
        assert_eq!(unknown.messages()[0].matches("unknown field \"").count(), 1);
    }

    #[test]
    fn keys_with_dots_are_pruned_where_they_stand() {
        let mut value =
            json!({"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}, "a.b": 1}});
        let unknown = decode(kind("configmaps"), &value).unwrap();
        assert_eq!(unknown.0, ["metadata.a.b"]);
        prune(kind("configmaps"), &mut value);
        assert_eq!(value, json!({"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}}));
    }

    #[test]
    fn wrong_types_name_the_field() {
        let value = json!({"kind": "Deployment", "spec": {"replicas": "three"}});
        let error = decode(kind("deployments.apps"), &value).unwrap_err();
        assert_eq!(error.field(), "spec.replicas");
        let text = error.to_string();
        assert!(text.contains("Deployment.spec.replicas") && text.contains("i32"), "{text}");
        let value = json!({"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}});
        assert_eq!(decode(kind("pods"), &value).unwrap_err().field(), "spec.containers[0].env[0].value");
        assert!(decode(kind("pods"), &json!([])).is_err());
        assert!(decode(kind("pods"), &json!({"kind": "Service"})).is_err());
    }

    #[test]
    fn nulls_are_absent_and_numbers_are_quantities() {
        let value = json!({
            "metadata": {"labels": {"a": null}, "annotations": null},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1, "memory": 0.5}}}]}
        });
        assert_eq!(decode(kind("pods"), &value).unwrap(), Unknown::default());
    }
}
