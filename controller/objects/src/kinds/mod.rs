//! The one table of kinds: everything that is known about a served kind in one entry. Discovery, paths, verbs,
//! decoding, defaults, validation and printing are driven by it, here and in `warren-api`.
//!
//! To add a kind: a file in the folder of its group, with its entry (`PLAIN` has what most kinds have in common), its
//! defaults, rules and columns, and a line in the group's list. What several kinds share is in `defaults/`, `validate/`
//! and `table/`. The planner that gives it behaviour then empties `idle`.

mod admission;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod coordination;
mod core;
mod custom;
mod discovery;
mod entry;
mod events;
mod extensions;
mod flowcontrol;
mod metrics;
mod networking;
mod node;
mod policy;
mod rbac;
mod registration;
mod scheduling;
mod storage;

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, OnceLock},
};

use jiff::Timestamp;
use serde_json::Value;

pub(crate) use core::judge_binding;
use custom::Custom;
pub(crate) use entry::{ALL, CLUSTER, PLAIN_SUBRESOURCE, QUESTION, REFUSED, SCALE, STATUS};
pub use entry::{Entry, PLAIN};
pub use scheduling::{SYSTEM_CLASSES, SystemClass};

use crate::{
    classes,
    field::{Errors, Path},
    schema::{self, Fields, Message, Structural},
    table::Column,
    validate,
};

/// A name: that of a built-in kind lives for ever, that of a custom one with its kind.
pub type Text = Cow<'static, str>;

/// All verbs of an ordinary resource, in the order in which discovery shows them.
pub const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Where the objects of a kind are.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// In the store, in this version.
    Stored,
    /// In the store, in another version: this is another version of them.
    Converted(Conversion),
    /// Nowhere: they are made of something else whenever they are read.
    Derived,
    /// Nowhere: they are questions, answered at once.
    Answered,
}

/// How a version that is not the stored one is shown and accepted.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// A stored object in this version.
    pub show: fn(&Value) -> Value,
    /// An object of this version as it is stored; absent for a version that can only be read.
    pub store: Option<fn(&Value) -> Value>,
}

/// Something below an object: `pods/NAME/log`.
#[derive(Debug, Clone, Copy)]
pub struct Subresource {
    /// The last path segment.
    pub name: &'static str,
    /// Group of the kind that it speaks; empty with an empty version means the parent's.
    pub group: &'static str,
    /// Version of the kind that it speaks.
    pub version: &'static str,
    /// The kind that it speaks; empty means the parent's.
    pub kind: &'static str,
    /// What may be done with it. Without any it is not shown in discovery.
    pub verbs: &'static [&'static str],
    /// What those are told who try anything else; empty for the usual words.
    pub refusal: &'static str,
}

/// One served kind in one version, built in or custom.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Empty for the core group.
    pub group: Text,
    /// `v1`.
    pub version: Text,
    /// `Deployment`.
    pub kind: Text,
    /// `deployments`.
    pub plural: Text,
    /// `deployment`: the kind in small letters.
    pub singular: Text,
    /// The store's name of the resource, and Kubernetes' "group resource": `deployments.apps`.
    pub resource: Text,
    /// What kubectl also understands.
    pub short_names: Vec<Text>,
    /// `all` makes it part of `kubectl get all`.
    pub categories: Vec<Text>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Where the objects are.
    pub source: Source,
    /// What may be done with the objects.
    pub verbs: &'static [&'static str],
    /// What those are told who try anything else; empty for the usual words.
    pub refusal: &'static str,
    /// What lies below an object.
    pub subresources: &'static [Subresource],
    /// Whether `status` is separate (ignored on ordinary writes, written through `/status`).
    pub has_status: bool,
    /// Fields of a first status that begin at 0, which typed clients do not decode a status without.
    pub counters: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the desired state.
    pub has_generation: bool,
    /// Whether the answer to a deletion is the object that is gone, not a `Status`: as typed clients of Kubernetes expect
    /// it of some kinds.
    pub returns_deleted: bool,
    /// Fields of the stored object by which it may be selected, besides name and namespace.
    pub fields: Vec<Text>,
    /// What no planner does with such objects yet; every write is answered with it as a warning. Empty when all is done.
    pub idle: &'static str,
    rules: Rules,
    /// What is to be said to clients about its fields, found when it is first asked for.
    telling: OnceLock<Vec<classes::Field>>,
}

/// What is special about a kind.
#[derive(Debug, Clone)]
enum Rules {
    /// What its file says.
    BuiltIn(BuiltIn),
    /// What its definition says.
    Custom(Custom),
}

/// The special of a built-in kind. Objects are filled in, judged and printed as they are stored.
#[derive(Debug, Clone)]
struct BuiltIn {
    /// The entry of the version that is stored.
    stored: &'static Entry,
    /// The fields of that version.
    stored_fields: &'static Message,
    /// The fields of this version: those of the stored one where the table of API types has no others.
    fields: &'static Message,
    /// What the entry says about its fields itself.
    structure: Option<Arc<Structural>>,
}

/// Of a kind that the table of API types does not know, which no test lets pass.
static NO_FIELDS: Message = Message { package: "", name: "", atomic: false, fields: &[] };

/// Every built-in kind, core first, then by group. Of a kind with several versions the first is the preferred one.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let groups: [&'static [Entry]; _] = [
        core::KINDS,
        apps::KINDS,
        authentication::KINDS,
        authorization::KINDS,
        metrics::KINDS,
        autoscaling::KINDS,
        batch::KINDS,
        policy::KINDS,
        discovery::KINDS,
        networking::KINDS,
        coordination::KINDS,
        events::KINDS,
        node::KINDS,
        scheduling::KINDS,
        storage::KINDS,
        admission::KINDS,
        extensions::KINDS,
        flowcontrol::KINDS,
        registration::KINDS,
        rbac::KINDS,
    ];
    let entries: Vec<&'static Entry> = groups.into_iter().flatten().collect();
    let stored = |entry: &'static Entry| {
        let is_it = |other: &&Entry| {
            !matches!(other.source, Source::Converted(_)) && resource(other) == resource(entry)
        };
        entries.iter().copied().find(is_it).unwrap_or(entry)
    };
    entries.iter().map(|entry| Kind::built_in(entry, stored(entry))).collect()
});

/// The store's name of a built-in kind's resource.
fn resource(entry: &Entry) -> Text {
    match (entry.resource, entry.group) {
        ("", "") => entry.plural.into(),
        ("", group) => format!("{}.{group}", entry.plural).into(),
        (given, _) => given.into(),
    }
}

impl Kind {
    /// A kind of which an entry knows everything, in the version that is stored.
    pub(crate) fn of_entry(entry: &'static Entry) -> Self {
        Self::built_in(entry, entry)
    }

    fn built_in(entry: &'static Entry, stored: &'static Entry) -> Self {
        let message = |entry: &Entry| schema::root(entry.group, entry.version, entry.kind);
        let stored_fields = message(stored).unwrap_or(&NO_FIELDS);
        let fields = message(entry).unwrap_or(stored_fields);
        let structure = stored.structure.map(|schema| Arc::new(Structural::of_entry(entry.kind, &schema())));
        let texts = |names: &'static [&'static str]| names.iter().map(|name| Text::from(*name)).collect();
        Self {
            group: entry.group.into(),
            version: entry.version.into(),
            kind: entry.kind.into(),
            plural: entry.plural.into(),
            singular: entry.kind.to_lowercase().into(),
            resource: resource(entry),
            short_names: texts(entry.short_names),
            categories: texts(entry.categories),
            namespaced: entry.namespaced,
            source: entry.source,
            verbs: entry.verbs,
            refusal: entry.refusal,
            subresources: entry.subresources,
            has_status: entry.subresources.iter().any(|subresource| subresource.name == "status"),
            counters: entry.counters,
            has_generation: entry.has_generation,
            returns_deleted: entry.returns_deleted,
            fields: texts(entry.fields),
            idle: entry.idle,
            rules: Rules::BuiltIn(BuiltIn { stored, stored_fields, fields, structure }),
            telling: OnceLock::new(),
        }
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// What its objects may say.
    pub fn schema(&self) -> Fields<'_> {
        match &self.rules {
            Rules::BuiltIn(BuiltIn { structure: Some(structure), .. }) => Fields::Structural(structure),
            Rules::BuiltIn(built_in) => Fields::Table(built_in.fields),
            Rules::Custom(custom) => custom.schema(),
        }
    }

    /// Its row in the table of API types, if it is built in.
    pub fn message(&self) -> Option<&'static Message> {
        match &self.rules {
            Rules::BuiltIn(built_in) if built_in.structure.is_none() => Some(built_in.fields),
            _ => None,
        }
    }

    /// One of its subresources.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether another version is what is stored.
    pub fn is_converted(&self) -> bool {
        matches!(self.source, Source::Converted(_))
    }

    /// A stored object in this version, if that is not the stored one.
    pub fn shown(&self, stored: &Value) -> Option<Value> {
        match self.source {
            Source::Converted(conversion) => Some((conversion.show)(stored)),
            _ => None,
        }
    }

    /// An object of this version as it is stored, if that is another one.
    pub fn stored(&self, shown: &Value) -> Option<Value> {
        match self.source {
            Source::Converted(Conversion { store: Some(store), .. }) => Some(store(shown)),
            _ => None,
        }
    }

    /// The fields of a stored object about which something is to be said to clients.
    pub(crate) fn telling(&self) -> &[classes::Field] {
        self.telling.get_or_init(|| match &self.rules {
            Rules::BuiltIn(built_in) => classes::telling(built_in.stored_fields),
            Rules::Custom(_) => Vec::new(),
        })
    }

    /// Fills in what was left out.
    pub(crate) fn fill(&self, value: &mut Value) {
        match &self.rules {
            Rules::BuiltIn(BuiltIn { stored: entry, structure, .. }) => {
                structure.iter().for_each(|structure| structure.fill(value));
                (entry.defaults)(value);
            }
            Rules::Custom(custom) => custom.fill(value),
        }
    }

    /// Adapts a changed object that a client built on the stored one.
    pub(crate) fn adapt(&self, old: &Value, new: &mut Value) {
        if let Rules::BuiltIn(BuiltIn { stored: entry, .. }) = &self.rules {
            (entry.adapt)(old, new);
        }
    }

    /// Whether another controller acts upon an object.
    pub(crate) fn is_of_others(&self, value: &Value) -> bool {
        match &self.rules {
            Rules::BuiltIn(BuiltIn { stored: entry, .. }) => (entry.is_of_others)(value),
            Rules::Custom(_) => true,
        }
    }

    /// How names are spelt.
    pub(crate) fn name_rule(&self) -> validate::NameRule {
        match &self.rules {
            Rules::BuiltIn(BuiltIn { stored: entry, .. }) => entry.name,
            Rules::Custom(_) => validate::NameRule::Subdomain,
        }
    }

    /// Judges an object as it is to be stored, after its metadata.
    pub(crate) fn judge(&self, value: &Value, errors: &mut Errors) {
        match &self.rules {
            Rules::BuiltIn(BuiltIn { stored: entry, structure, .. }) => {
                structure.iter().for_each(|structure| structure.judge(value, &Path::default(), errors));
                (entry.validate)(value, errors);
            }
            Rules::Custom(custom) => custom.judge(value, &Path::default(), errors),
        }
    }

    /// Judges a change, after the new object.
    pub(crate) fn judge_change(&self, old: &Value, new: &Value, errors: &mut Errors) {
        if let Rules::BuiltIn(BuiltIn { stored: entry, .. }) = &self.rules {
            (entry.update)(old, new, errors);
        }
    }

    /// The printed columns.
    pub(crate) fn columns(&self) -> Vec<Column<'_>> {
        match &self.rules {
            Rules::BuiltIn(BuiltIn { stored: entry, .. }) => entry.columns.to_vec(),
            Rules::Custom(custom) => custom.columns(),
        }
    }

    /// The cells of one object, one per column.
    pub(crate) fn row(&self, value: &Value, now: Timestamp) -> Vec<Value> {
        match &self.rules {
            Rules::BuiltIn(BuiltIn { stored: entry, .. }) => (entry.row)(value, now),
            Rules::Custom(custom) => custom.row(value, now),
        }
    }
}

/// `v1`, `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The built-in kind behind a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The built-in kind of a resource, in the version that is stored.
pub fn of(resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.resource == resource && !kind.is_converted())
}

/// Groups and kinds of Kubernetes that are refused by name, and why. An empty plural stands for the whole group. They
/// are not in discovery, so that charts which ask for them do without. (What charts hold without asking is in
/// `refused`.)
const NOT_SERVED: &[(&str, &str, &str)] = &[
    ("certificates.k8s.io", "", "certificate signing requests are not served by this version of Warren"),
    ("resource.k8s.io", "", "dynamic resource allocation is not served by this version of Warren"),
];

/// Why a group or a resource of Kubernetes is refused, if it is refused by name.
pub fn not_served(group: &str, plural: &str) -> Option<&'static str> {
    let refused = |row: &&(&str, &str, &str)| row.0 == group && (row.1.is_empty() || row.1 == plural);
    NOT_SERVED.iter().find(refused).map(|row| row.2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_and_resources_lead_to_each_other() {
        let registry = crate::Registry::built_in();
        let resource_of = |api_version, kind| registry.named(api_version, kind).map(|kind| &*kind.resource);
        assert_eq!(resource_of("apps/v1", "Deployment"), Some("deployments.apps"));
        assert_eq!(resource_of("apps/v1beta2", "Deployment"), Some("deployments.apps"));
        assert_eq!(resource_of("v1", "Deployment"), None);
        let slices = of("endpointslices.discovery.k8s.io").unwrap();
        assert_eq!((&*slices.api_version(), &*slices.kind), ("discovery.k8s.io/v1", "EndpointSlice"));
        assert!(of("members.warren.internal").is_none());
    }

    #[test]
    fn entries_are_consistent() {
        for kind in KINDS.iter() {
            let name = &kind.kind;
            assert!(!name.is_empty() && !kind.plural.is_empty());
            let stored = |other: &&Kind| {
                other.resource == kind.resource && !matches!(other.source, Source::Converted(_))
            };
            assert_eq!(KINDS.iter().filter(stored).count(), 1, "{name}");
            let writable = kind.verbs.contains(&"update");
            match kind.source {
                Source::Stored => assert_eq!(writable, kind.refusal.is_empty(), "{name}"),
                Source::Converted(conversion) => assert_eq!(writable, conversion.store.is_some(), "{name}"),
                // Only what is made of stored objects alone has a history to watch.
                Source::Derived => assert!(kind.verbs.starts_with(&["get", "list"]), "{name}"),
                Source::Answered => assert_eq!(kind.verbs, ["create"], "{name}"),
            }
            assert!(kind.idle.is_empty() || kind.idle.starts_with("warren "), "{name}");
            let subresources: Vec<&str> =
                kind.subresources.iter().map(|subresource| subresource.name).collect();
            assert!(subresources.is_sorted(), "{name}");
            assert!(kind.short_names.is_sorted(), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut seen = BTreeSet::new();
        for kind in KINDS.iter() {
            assert!(seen.insert((&*kind.group, &*kind.version, &*kind.plural)), "{}", kind.kind);
            for short in &kind.short_names {
                assert!(
                    seen.insert((&*kind.version, "", &**short)) || !matches!(kind.source, Source::Stored),
                    "{short}"
                );
            }
        }
    }

    #[test]
    fn versions_of_a_group_stand_together() {
        let mut groups: Vec<&str> = KINDS.iter().map(|kind| &*kind.group).collect();
        groups.dedup();
        let unique: BTreeSet<&str> = groups.iter().copied().collect();
        assert_eq!(unique.len(), groups.len(), "{groups:?}");
        assert_eq!(groups[0], "");
    }

    #[test]
    fn every_kind_has_fields() {
        for kind in KINDS.iter() {
            let schema = kind.schema();
            assert!(schema.get("metadata").is_some() && schema.all().len() > 1, "{}", kind.kind);
        }
        assert_eq!(find("batch", "v1beta1", "cronjobs").unwrap().schema().name(), "CronJob");
    }

    #[test]
    fn what_is_not_served_is_named() {
        assert!(not_served("resource.k8s.io", "resourceclaims").unwrap().starts_with("dynamic"));
        assert!(not_served("apps", "deployments").is_none());
        for kind in KINDS.iter() {
            assert!(not_served(&kind.group, &kind.plural).is_none(), "{}", kind.kind);
        }
    }
}
