//! The whole state at one revision: immutable, cheap to copy, and compared by what differs.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use serde::de::DeserializeOwned;

use crate::{Change, Key, Object};

/// An object that differs between two states.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What it was in the older state; `None` when it was not there.
    pub previous: Option<Arc<Object>>,
    /// What it is in the newer one; `None` when it is not there any more.
    pub current: Option<Arc<Object>>,
}

impl Difference {
    /// Which object.
    pub fn key(&self) -> &Key {
        let either = self.current.as_ref().or(self.previous.as_ref());
        &either.expect("a difference has one side at least").key
    }
}

/// The whole state at one revision.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Bumped by a restore.
    pub epoch: u64,
    /// The last commit that this state includes.
    pub revision: u64,
    objects: imbl::OrdMap<Key, Arc<Object>>,
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

    /// Creates or replaces an object; what it was before.
    pub fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        self.objects.insert(object.key.clone(), object)
    }

    /// Removes an object; what it was before.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        self.objects.remove(key)
    }

    /// What leads from an older state to this one, in key order. What both share is skipped: the cost follows the
    /// number of differences where one state was made from the other, and the number of objects where it was not.
    pub fn diff<'s>(&'s self, older: &'s Self) -> impl Iterator<Item = Difference> + 's {
        older.objects.diff(&self.objects).map(|item| match item {
            DiffItem::Add(_, current) => Difference { previous: None, current: Some(Arc::clone(current)) },
            DiffItem::Update { old: (_, previous), new: (_, current) } => {
                Difference { previous: Some(Arc::clone(previous)), current: Some(Arc::clone(current)) }
            }
            DiffItem::Remove(_, previous) => {
                Difference { previous: Some(Arc::clone(previous)), current: None }
            }
        })
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

    /// Everything from a key on, in key order; without one, all.
    pub fn from<'a>(&'a self, first: Option<&Key>) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let first = first.cloned().unwrap_or_else(|| Key::new("", "", ""));
        self.objects.range(first..).map(|(_, object)| object)
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
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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

    proptest! {
        /// Whatever was done to a state, the differences lead from the old one to the new one and name nothing else.
        #[test]
        fn differences_are_what_was_done(
            before in prop::collection::btree_set(0u16..400, 0..200),
            done in prop::collection::vec((0u16..400, any::<bool>()), 0..40),
        ) {
            let object = |number: &u16, revision| {
                Arc::new(Object::new(Key::new("pods", "d", &format!("{number:04}")), revision, json!({})))
            };
            let older = Snapshot::from_objects(1, []);
            let older = before.iter().fold(older, |state, number| state.with(object(number, 1)));
            let mut newer = older.clone();
            for (number, put) in &done {
                if *put {
                    newer.insert(object(number, 2));
                } else {
                    newer.remove(&object(number, 2).key);
                }
            }
            let mut led = older.clone();
            for difference in newer.diff(&older) {
                let held = |object: &Option<Arc<Object>>| object.as_ref().map(Arc::as_ptr);
                prop_assert_eq!(held(&older.get(difference.key()).cloned()), held(&difference.previous));
                prop_assert_ne!(held(&difference.previous), held(&difference.current));
                match &difference.current {
                    Some(current) => led.insert(Arc::clone(current)),
                    None => led.remove(difference.key()),
                };
            }
            prop_assert!(led.iter().zip(newer.iter()).all(|(one, other)| Arc::ptr_eq(one, other)));
            prop_assert_eq!(led.len(), newer.len());
        }
    }
}
