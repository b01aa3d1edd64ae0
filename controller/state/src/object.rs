//! What an object is called, and one object at one revision.

use std::{
    any::Any,
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Document;

/// What an object is called. Ordered by resource, namespace, name, so that a list is a range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Plural and group: "pods", "deployments.apps", "members.warren.internal".
    pub resource: Arc<str>,
    /// Empty for cluster-scoped resources.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Key {
    /// A key; `namespace` is empty for cluster-scoped resources.
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.resource, self.name)
        } else {
            write!(f, "{}/{}/{}", self.resource, self.namespace, self.name)
        }
    }
}
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no object: write RESOURCE/NAMESPACE/NAME (pods/default/web, deployments.apps/shop/cart), or \
     RESOURCE/NAME for what is in no namespace (nodes/node-1)"
)]
pub struct KeyError(String);

impl FromStr for Key {
    type Err = KeyError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let parts: Vec<&str> = text.split('/').collect();
        match *parts.as_slice() {
            _ if parts.iter().any(|part| part.is_empty()) => Err(KeyError(text.to_owned())),
            [resource, name] => Ok(Self::new(resource, "", name)),
            [resource, namespace, name] => Ok(Self::new(resource, namespace, name)),
            _ => Err(KeyError(text.to_owned())),
        }
    }
}

/// One object at one revision. Immutable.
pub struct Object {
    /// Its name.
    pub key: Key,
    /// The revision of the commit that wrote it.
    pub revision: u64,
    /// The JSON, with `metadata.resourceVersion` equal to `revision`.
    pub value: Document,
    json: OnceLock<Bytes>,
    typed: OnceLock<Result<Arc<dyn Any + Send + Sync>, String>>,
}

impl Object {
    /// An object; stamps `metadata.resourceVersion`.
    pub fn new(key: Key, revision: u64, value: impl Into<Document>) -> Self {
        let mut value = value.into();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
        }
        Self { key, revision, value, json: OnceLock::new(), typed: OnceLock::new() }
    }

    /// The same object, held as its text until it is looked at: for what is kept and seldom read.
    #[must_use]
    pub fn folded(&self) -> Self {
        let text = self.json();
        Self {
            key: self.key.clone(),
            revision: self.revision,
            value: Document::of_text(text.clone()),
            json: text.clone().into(),
            typed: OnceLock::new(),
        }
    }

    /// The value as JSON text, made once per revision: the file, every reader and every watcher share it.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            metrics::counter!("warren_store_encodings_total").increment(1);
            serde_json::to_vec(&*self.value).expect("a JSON value can be written as JSON").into()
        })
    }

    /// A typed view, parsed once per revision. One resource has one type; asking for another is an error.
    pub fn typed<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, String> {
        let parsed = self.typed.get_or_init(|| match T::deserialize(&*self.value) {
            Ok(view) => Ok(Arc::new(view) as Arc<dyn Any + Send + Sync>),
            Err(error) => Err(format!("{}: {error}", self.key)),
        });
        match parsed {
            Ok(view) => Arc::clone(view)
                .downcast::<T>()
                .map_err(|_| format!("{}: already parsed as another type", self.key)),
            Err(error) => Err(error.clone()),
        }
    }
}

/// Objects of one store differ by key or revision; the values count for states that tests make.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.key == other.key && self.value == other.value
    }
}

/// Says that an object equals itself, by which `Arc` compares pointers first.
impl Eq for Object {}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

/// What lies at `/a/b` inside `value`. Unlike [`Value::pointer`] it knows no escapes, and allocates nothing:
/// planners ask this of every object in every pass.
pub fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('/').skip(1).try_fold(value, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_object_is_the_same() {
        let value =
            serde_json::json!({"metadata": {"name": "a"}, "data": {"k": [1, 2.5, -3, null, "\u{1f407}"]}});
        let object = Object::new(Key::new("configmaps", "d", "a"), 7, value);
        let folded = object.folded().folded();
        assert_eq!(folded, object);
        assert_eq!((folded.json(), &folded.value["data"]["k"][1]), (object.json(), &serde_json::json!(2.5)));
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        for key in [Key::new("pods", "default", "web"), Key::new("nodes", "", "node-1")] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "pods", "pods/", "/a/b", "pods//web", "a/b/c/d"] {
            let error = text.parse::<Key>().expect_err(text);
            assert!(error.to_string().contains("RESOURCE/NAMESPACE/NAME"), "{error}");
        }
    }
}
