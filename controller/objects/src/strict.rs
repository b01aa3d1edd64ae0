//! The typed check of what a client sent: wrong types are errors, unknown fields are reported by path.
//!
//! Objects stay JSON (typed structs would drop what they do not know); the types only judge.

use std::collections::BTreeSet;

use k8s_openapi::{Resource, serde::de::DeserializeOwned};
use serde_json::Value;

use crate::kinds::{self, Kind};

/// The paths of fields that the kind does not have, in Kubernetes' spelling: `spec.template.spec.containers[0].imag`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unknown(pub Vec<String>);

impl Unknown {
    /// Whether every field is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One message per field, as in `Warning` headers and strict decoding errors: `unknown field "spec.replicaz"`. As in
    /// Kubernetes, not of all when there are very many.
    pub fn messages(&self) -> Vec<String> {
        self.0.iter().take(MOST_MESSAGES).map(|path| format!("unknown field \"{path}\"")).collect()
    }
}

/// More unknown fields than these are not named.
const MOST_MESSAGES: usize = 100;

/// Why a body is not an object of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No such resource is served.
    #[error("no kind is known for the resource \"{0}\"")]
    UnknownResource(String),
    /// A field has the wrong type.
    #[error("{kind}.{field}: {expectation}")]
    Field {
        /// The kind that was asked for.
        kind: &'static str,
        /// The field's path.
        field: String,
        /// What was found and what was expected.
        expectation: String,
    },
    /// The body as a whole is wrong.
    #[error("{kind}: {expectation}")]
    Body {
        /// The kind that was asked for.
        kind: &'static str,
        /// What was found and what was expected.
        expectation: String,
    },
}

impl DecodeError {
    /// The path of the wrong field; empty when it is the whole body.
    pub fn field(&self) -> &str {
        match self {
            Self::Field { field, .. } => field,
            _ => "",
        }
    }
}

/// Checks the types of all fields of an object; returns the fields that its kind does not have.
///
/// Explicit nulls count as absent, everywhere.
pub fn decode(resource: &str, value: &Value) -> Result<Unknown, DecodeError> {
    let kind = kinds::of(resource).ok_or_else(|| DecodeError::UnknownResource(resource.to_owned()))?;
    decode_version(kind, value)
}

/// As [`decode`], in a version of a kind that need not be the stored one.
pub fn decode_version(kind: &Kind, value: &Value) -> Result<Unknown, DecodeError> {
    let mut value = value.clone();
    strip_nulls(&mut value);
    (kind.decode)(kind, &mut value)
}

/// Removes the fields that [`decode`] reported, for clients that want them ignored.
pub fn prune(resource: &str, value: &mut Value, unknown: &Unknown) {
    if unknown.is_empty() || kinds::of(resource).is_none() {
        return;
    }
    let paths: BTreeSet<&str> = unknown.0.iter().map(String::as_str).collect();
    prune_below(value, "", &paths);
}

fn prune_below(value: &mut Value, path: &str, paths: &BTreeSet<&str>) {
    // Where nothing is to be removed, nothing is looked at.
    if paths.range(path..).next().is_none_or(|next| !next.starts_with(path)) {
        return;
    }
    match value {
        Value::Object(map) => {
            map.retain(|key, item| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let keep = !paths.contains(path.as_str());
                if keep {
                    prune_below(item, &path, paths);
                }
                keep
            });
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune_below(item, &format!("{path}[{index}]"), paths);
            }
        }
        _ => {}
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

/// For kinds that are only ever shown.
pub(crate) fn never_written(kind: &Kind, _: &mut Value) -> Result<Unknown, DecodeError> {
    let expectation = format!("{} are derived: they cannot be written", kind.resource);
    Err(DecodeError::Body { kind: kind.kind, expectation })
}

/// Decodes as `T`, which is the type of `kind`, or of a version of it that has the same fields.
pub(crate) fn decode_as<T: Resource + DeserializeOwned>(
    kind: &Kind,
    value: &mut Value,
) -> Result<Unknown, DecodeError> {
    if !value.is_object() {
        let expectation = format!("expected a JSON object, found {}", type_name(value));
        return Err(DecodeError::Body { kind: kind.kind, expectation });
    }
    if let Some(version) = value.get_mut("apiVersion") {
        *version = T::API_VERSION.into();
    }
    let value = &*value;
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        let mut text = String::new();
        spell(&path, &mut text);
        unknown.push(text);
    };
    let judged = serde_ignored::Deserializer::new(value, &mut note);
    match serde_path_to_error::deserialize::<_, T>(judged) {
        Ok(_) => Ok(Unknown(unknown)),
        Err(error) => Err(locate(kind, &error)),
    }
}

/// An error with the path of its field.
fn locate(kind: &Kind, error: &serde_path_to_error::Error<serde_json::Error>) -> DecodeError {
    let mut field = String::new();
    for segment in error.path().iter() {
        match segment {
            serde_path_to_error::Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            serde_path_to_error::Segment::Map { key } => push_name(&mut field, key),
            serde_path_to_error::Segment::Enum { variant } => push_name(&mut field, variant),
            serde_path_to_error::Segment::Unknown => {}
        }
    }
    let expectation = error.inner().to_string();
    if field.is_empty() {
        DecodeError::Body { kind: kind.kind, expectation }
    } else {
        DecodeError::Field { kind: kind.kind, field, expectation }
    }
}

/// A path of serde_ignored in Kubernetes' spelling.
fn spell(path: &serde_ignored::Path<'_>, text: &mut String) {
    match path {
        serde_ignored::Path::Root => {}
        serde_ignored::Path::Seq { parent, index } => {
            spell(parent, text);
            text.push_str(&format!("[{index}]"));
        }
        serde_ignored::Path::Map { parent, key } => {
            spell(parent, text);
            push_name(text, key);
        }
        serde_ignored::Path::Some { parent }
        | serde_ignored::Path::NewtypeStruct { parent }
        | serde_ignored::Path::NewtypeVariant { parent } => spell(parent, text),
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_by_path() {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "creationTimestamp": null},
            "spec": {"replicaz": 3, "template": {"spec": {"containers": [{"name": "a", "imag": "x"}]}}},
            "extra": {"deep": [1]}
        });
        let unknown = decode("deployments.apps", &value).unwrap();
        let mut paths = unknown.0.clone();
        paths.sort();
        assert_eq!(paths, ["extra", "spec.replicaz", "spec.template.spec.containers[0].imag"]);
        let mut pruned = value;
        prune("deployments.apps", &mut pruned, &unknown);
        assert_eq!(decode("deployments.apps", &pruned).unwrap(), Unknown::default());
        assert_eq!(pruned["spec"]["template"]["spec"]["containers"][0], json!({"name": "a"}));
        assert_eq!(unknown.messages()[0].matches("unknown field \"").count(), 1);
    }

    #[test]
    fn keys_with_dots_are_pruned_where_they_stand() {
        let mut value =
            json!({"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}, "a.b": 1}});
        let unknown = decode("configmaps", &value).unwrap();
        assert_eq!(unknown.0, ["metadata.a.b"]);
        prune("configmaps", &mut value, &unknown);
        assert_eq!(value, json!({"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}}));
    }

    #[test]
    fn wrong_types_name_the_field() {
        let value = json!({"kind": "Deployment", "spec": {"replicas": "three"}});
        let error = decode("deployments.apps", &value).unwrap_err();
        assert_eq!(error.field(), "spec.replicas");
        let text = error.to_string();
        assert!(text.contains("Deployment.spec.replicas") && text.contains("i32"), "{text}");
        let value = json!({"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}});
        assert_eq!(decode("pods", &value).unwrap_err().field(), "spec.containers[0].env[0].value");
        assert!(decode("pods", &json!([])).is_err());
        assert!(decode("pods", &json!({"kind": "Service"})).is_err());
        assert!(matches!(decode("widgets", &json!({})), Err(DecodeError::UnknownResource(_))));
    }

    #[test]
    fn nulls_are_absent_and_numbers_are_quantities() {
        let value = json!({
            "metadata": {"labels": {"a": null}, "annotations": null},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1, "memory": 0.5}}}]}
        });
        assert_eq!(decode("pods", &value).unwrap(), Unknown::default());
    }
}
