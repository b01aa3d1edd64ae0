//! Keys, objects and immutable snapshots.

use std::{
    any::Any,
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Change;

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
    pub value: Value,
    json: OnceLock<Bytes>,
    typed: OnceLock<Result<Arc<dyn Any + Send + Sync>, String>>,
}

impl Object {
    /// An object; stamps `metadata.resourceVersion`.
    pub fn new(key: Key, revision: u64, mut value: Value) -> Self {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
        }
        Self { key, revision, value, json: OnceLock::new(), typed: OnceLock::new() }
    }

    /// The value as JSON text, made once per revision: the file, every reader and every watcher share it.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            metrics::counter!("warren_store_encodings_total").increment(1);
            serde_json::to_vec(&self.value).expect("a JSON value can be written as JSON").into()
        })
    }

    /// A typed view, parsed once per revision. One resource has one type; asking for another is an error.
    pub fn typed<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, String> {
        let parsed = self.typed.get_or_init(|| match T::deserialize(&self.value) {
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

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

/// The whole state at one revision.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Bumped by a restore.
    pub epoch: u64,
    /// The last commit that this state includes.
    pub revision: u64,
    pub(crate) objects: imbl::OrdMap<Key, Arc<Object>>,
}

impl Snapshot {
    /// A state made of the given objects; for planners' tests.
    pub fn from_objects(revision: u64, objects: impl IntoIterator<Item = Object>) -> Self {
        let objects = objects.into_iter().map(|object| (object.key.clone(), Arc::new(object))).collect();
        Self { epoch: 1, revision, objects }
    }

    /// The state before some changes, of which it includes all: they are undone, the last one first.
    pub fn before(&self, changes: &[Change]) -> Self {
        let mut state = self.clone();
        for change in changes.iter().rev() {
            for event in change.events.iter().rev() {
                match &event.previous {
                    Some(previous) => state.objects.insert(event.key.clone(), Arc::clone(previous)),
                    None => state.objects.remove(&event.key),
                };
            }
            state.revision = change.revision - 1;
        }
        state
    }

    /// The state without some objects, and those of them that it holds.
    pub fn without<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> (Self, Vec<Arc<Object>>) {
        let mut state = self.clone();
        let left_out = keys.into_iter().filter_map(|key| state.objects.remove(key)).collect();
        (state, left_out)
    }

    /// The state with one more object.
    pub fn with(&self, object: Arc<Object>) -> Self {
        let mut state = self.clone();
        state.objects.insert(object.key.clone(), object);
        state
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// All objects of a resource, by namespace and name.
    pub fn list<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Arc<Object>> + 'a {
        self.objects
            .range(Key::new(resource, "", "")..)
            .map(|(_, object)| object)
            .take_while(move |object| &*object.key.resource == resource)
    }

    /// All objects of a resource in one namespace, by name.
    pub fn list_namespace<'a>(
        &'a self,
        resource: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> + 'a {
        self.objects
            .range(Key::new(resource, namespace, "")..)
            .map(|(_, object)| object)
            .take_while(move |o| &*o.key.resource == resource && &*o.key.namespace == namespace)
    }

    /// Everything, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Typed views of a resource; objects that do not parse are left out (they are reported by [`Object::typed`]).
    pub fn typed<'a, T: DeserializeOwned + Send + Sync + 'static>(
        &'a self,
        resource: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Object>, Arc<T>)> + 'a {
        self.list(resource).filter_map(|object| Some((object, object.typed::<T>().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

    #[test]
    fn a_state_without_some_objects_leaves_the_others() {
        let object = |name: &str| Object::new(Key::new("pods", "d", name), 1, json!({}));
        let all = Snapshot::from_objects(1, [object("a"), object("b")]);
        let (rest, out) = all.without(&[Key::new("pods", "d", "a"), Key::new("pods", "d", "absent")]);
        let names = |objects: &mut dyn Iterator<Item = &Arc<Object>>| {
            objects.map(|object| object.key.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!((names(&mut rest.iter()), names(&mut out.iter())), (vec!["b".into()], vec!["a".into()]));
        assert_eq!((all.len(), rest.revision), (2, 1));
        assert_eq!(names(&mut rest.with(Arc::clone(&out[0])).iter()), ["a", "b"]);
    }
}
