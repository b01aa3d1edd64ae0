//! Every kind that is served at some moment: the built-in ones, and those that users defined.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use warren_state::Snapshot;

use crate::kinds::{Entry, KINDS, Kind, Text};

/// What defines kinds.
pub const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// More definitions than anybody has. The others are named, and not served.
const MOST_DEFINITIONS: usize = 2_000;

/// The kinds at one moment. Immutable; a newer state has another one.
#[derive(Debug, Default)]
pub struct Registry {
    kinds: Vec<Arc<Kind>>,
    /// Where in the list the version of a resource is that is stored.
    stored: BTreeMap<Text, usize>,
    /// What it was made of: the definitions' names and revisions.
    made_of: Vec<(Arc<str>, u64)>,
    faults: Vec<(Arc<str>, String)>,
}

static BUILT_IN: LazyLock<Arc<Registry>> = LazyLock::new(|| Arc::new(Registry::with(&[])));

impl Registry {
    /// The kinds that are always served.
    pub fn built_in() -> Arc<Self> {
        Arc::clone(&BUILT_IN)
    }

    /// The built-in kinds, and more that are known in the same way.
    fn with(more: &'static [Entry]) -> Self {
        let mut registry = Self::default();
        KINDS.iter().cloned().chain(more.iter().map(Kind::of_entry)).for_each(|kind| registry.add(kind));
        registry
    }

    /// The kinds of a state. A definition that cannot be served is named, and the others are.
    pub fn of(snapshot: &Snapshot) -> Arc<Self> {
        Self::beside(&BUILT_IN, snapshot)
    }

    /// The kinds that a state defines, beside those that are there without it.
    fn beside(always: &Arc<Self>, snapshot: &Snapshot) -> Arc<Self> {
        let made_of = definitions(snapshot);
        if made_of.is_empty() {
            return Arc::clone(always);
        }
        let (kinds, stored) = (always.kinds.clone(), always.stored.clone());
        let mut registry = Self { kinds, stored, made_of, faults: Vec::new() };
        let mut known: BTreeSet<String> = registry.kinds.iter().flat_map(|kind| names(kind)).collect();
        for (count, object) in snapshot.list(DEFINITIONS).enumerate() {
            let made = if count < MOST_DEFINITIONS {
                Kind::custom(&object.value)
            } else {
                Err(format!("more than {MOST_DEFINITIONS} definitions are not served"))
            };
            let made = match made {
                Ok(kind) if names(&kind).iter().any(|name| known.contains(name)) => {
                    Err("its plural or its kind is already that of another one in its group".to_owned())
                }
                made => made,
            };
            match made {
                Ok(kind) => {
                    known.extend(names(&kind));
                    registry.add(kind);
                }
                Err(why) => registry.faults.push((Arc::clone(&object.key.name), why)),
            }
        }
        Arc::new(registry)
    }

    fn add(&mut self, kind: Kind) {
        if !kind.is_converted() {
            self.stored.insert(kind.resource.clone(), self.kinds.len());
        }
        self.kinds.push(Arc::new(kind));
    }

    /// Whether it is that of a state.
    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        let now = snapshot.list(DEFINITIONS).map(|object| (&object.key.name, object.revision));
        now.eq(self.made_of.iter().map(|(name, revision)| (name, *revision)))
    }

    /// Every kind, core first, then by group. Of a kind with several versions the first is the preferred one.
    pub fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// The definitions that are not served, and why.
    pub fn faults(&self) -> &[(Arc<str>, String)] {
        &self.faults
    }

    /// The kind behind a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }

    /// The kind of a resource, in the version that is stored.
    pub fn stored(&self, resource: &str) -> Option<&Arc<Kind>> {
        self.stored.get(resource).and_then(|place| self.kinds.get(*place))
    }

    /// All groups, in the order of the kinds, each once.
    pub fn groups(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for (group, _) in self.group_versions() {
            if !all.contains(&group) {
                all.push(group);
            }
        }
        all
    }

    /// All pairs of group and version, in the order of the kinds, each once.
    pub fn group_versions(&self) -> Vec<(&str, &str)> {
        let mut seen = BTreeSet::new();
        let pairs = self.kinds.iter().map(|kind| (&*kind.group, &*kind.version));
        pairs.filter(|pair| seen.insert(*pair)).collect()
    }

    /// A kind as an owner reference names it; the version of the group does not matter.
    pub fn named(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds.iter().find(|entry| entry.kind == kind && entry.group == group && !entry.is_converted())
    }
}

fn definitions(snapshot: &Snapshot) -> Vec<(Arc<str>, u64)> {
    snapshot.list(DEFINITIONS).map(|object| (Arc::clone(&object.key.name), object.revision)).collect()
}

/// What no two kinds may share. Versions of one kind do, so they are compared before they are added.
fn names(kind: &Kind) -> [String; 2] {
    [format!("{}/plural/{}", kind.group, kind.plural), format!("{}/kind/{}", kind.group, kind.kind)]
}

/// The last registry that was asked for: it is made anew only when what defines kinds has changed.
#[derive(Debug)]
pub struct Registries {
    /// The kinds that every state has.
    always: Arc<Registry>,
    last: Mutex<Arc<Registry>>,
}

impl Default for Registries {
    fn default() -> Self {
        Self::beside(Registry::built_in())
    }
}

impl Registries {
    /// Registries with more kinds than the built-in ones.
    pub fn with(more: &'static [Entry]) -> Self {
        Self::beside(Arc::new(Registry::with(more)))
    }

    fn beside(always: Arc<Registry>) -> Self {
        Self { last: Mutex::new(Arc::clone(&always)), always }
    }

    /// The registry of a state.
    pub fn of(&self, snapshot: &Snapshot) -> Arc<Registry> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.is_of(snapshot) {
            *last = Registry::beside(&self.always, snapshot);
        }
        Arc::clone(&last)
    }
}
