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
mod discovery;
mod events;
mod extensions;
mod metrics;
mod networking;
mod node;
mod policy;
mod rbac;
mod registration;
mod scheduling;
mod storage;

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::Errors,
    schema::{self, Fields, Message},
    table::{self, Column},
    validate,
};

/// All verbs of an ordinary resource, in the order in which discovery shows them.
pub const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The verbs of a kind that no object can have: an empty list may be had, and what is not there be deleted.
const REFUSED: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];

/// Where the objects of a kind are.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// In the store, in this version.
    Stored,
    /// In the store, in another version: this is another face of them.
    Face(Face),
    /// Nowhere: they are made of something else whenever they are read.
    Derived,
    /// Nowhere: they are questions, answered at once.
    Answered,
}

/// How a version that is not the stored one is shown and accepted.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    /// A stored object in this version.
    pub show: fn(&Value) -> Value,
    /// An object of this version as it is stored; absent for a face that can only be read.
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

/// One served kind in one version.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// `deployment`: the kind in small letters. Filled in.
    pub singular: &'static str,
    /// The store's name of the resource, and Kubernetes' "group resource": `deployments.apps`. Filled in, but for a face
    /// in another group.
    pub resource: &'static str,
    /// What kubectl also understands.
    pub short_names: &'static [&'static str],
    /// `all` makes it part of `kubectl get all`.
    pub categories: &'static [&'static str],
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
    /// Whether `status` is separate (ignored on ordinary writes, written through `/status`). Filled in.
    pub has_status: bool,
    /// Fields of a first status that begin at 0, which typed clients do not decode a status without.
    pub counters: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the desired state.
    pub has_generation: bool,
    /// Whether the answer to a deletion is the object that is gone, not a `Status`: as typed clients of Kubernetes expect
    /// it of some kinds.
    pub returns_deleted: bool,
    /// Fields of the stored object by which it may be selected, besides name and namespace.
    pub fields: &'static [&'static str],
    /// What nobody does with such objects yet; every write is answered with it as a warning. Empty when all is done.
    pub idle: &'static str,
    /// Its fields. Filled in: of a face that the table of API types does not know, those of the stored version.
    pub(crate) message: &'static Message,
    /// Fills in what was left out.
    pub(crate) defaults: fn(&mut Value),
    /// Adapts a changed object that a client built on the stored one (before `defaults`).
    pub(crate) adapt: fn(&Value, &mut Value),
    /// Whether an object is somebody else's to act upon: what Warren refuses is then only warned of.
    pub(crate) is_of_others: fn(&Value) -> bool,
    /// How names of this kind are spelt.
    pub(crate) name: validate::NameRule,
    /// Judges an object as it is to be stored (after the metadata).
    pub(crate) validate: fn(&Value, &mut Errors),
    /// Judges a change (after `validate` of the new object).
    pub(crate) update: fn(&Value, &Value, &mut Errors),
    /// The printed columns.
    pub(crate) columns: &'static [Column],
    /// The cells of one object, one per column.
    pub(crate) row: fn(&Value, Timestamp) -> Vec<Value>,
}

/// What most kinds have in common.
const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    resource: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    source: Source::Stored,
    verbs: VERBS,
    refusal: "",
    subresources: &[],
    has_status: false,
    counters: &[],
    has_generation: false,
    returns_deleted: false,
    fields: &[],
    idle: "",
    message: &NO_FIELDS,
    defaults: nothing,
    adapt: no_change,
    is_of_others: no_object,
    name: validate::NameRule::Subdomain,
    validate: anything,
    update: any_change,
    columns: table::NAME_AND_AGE,
    row: table::name_and_age,
};

const STATUS: Subresource =
    Subresource { name: "status", verbs: &["get", "patch", "update"], ..PLAIN_SUBRESOURCE };
const SCALE: Subresource =
    Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", ..STATUS };
const PLAIN_SUBRESOURCE: Subresource =
    Subresource { name: "", group: "", version: "", kind: "", verbs: &[], refusal: "" };

/// In `kubectl get all`.
const ALL: &[&str] = &["all"];

fn nothing(_: &mut Value) {}
fn no_change(_: &Value, _: &mut Value) {}
fn no_object(_: &Value) -> bool {
    false
}
fn anything(_: &Value, _: &mut Errors) {}
fn any_change(_: &Value, _: &Value, _: &mut Errors) {}
/// Of a kind that the table of API types does not know, which no test lets pass.
static NO_FIELDS: Message = Message { package: "", name: "", atomic: false, fields: &[] };

/// Every served kind, core first, then by group. Of a kind with several versions the first is the preferred one.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let groups = [
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
        registration::KINDS,
        rbac::KINDS,
    ];
    let kinds: Vec<Kind> = groups.concat().into_iter().map(complete).collect();
    let with_message = |kind: &Kind| {
        let same = kinds.iter().filter(|other| other.resource == kind.resource);
        let mut known = std::iter::once(kind).chain(same);
        let message = known.find_map(|kind| schema::root(kind.group, kind.version, kind.kind));
        Kind { message: message.unwrap_or(&NO_FIELDS), ..*kind }
    };
    kinds.iter().map(with_message).collect()
});

/// Fills in what follows from the rest. The texts live as long as the table: for ever.
fn complete(kind: Kind) -> Kind {
    let resource = match (kind.resource, kind.group) {
        ("", "") => kind.plural,
        ("", group) => String::leak(format!("{}.{group}", kind.plural)),
        (given, _) => given,
    };
    let has_status = kind.subresources.iter().any(|subresource| subresource.name == "status");
    Kind { singular: String::leak(kind.kind.to_lowercase()), resource, has_status, ..kind }
}

impl Kind {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// What its objects may say.
    pub fn schema(&self) -> Fields<'static> {
        Fields::Table(self.message)
    }

    /// One of its subresources.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether another version is what is stored.
    pub fn is_face(&self) -> bool {
        matches!(self.source, Source::Face(_))
    }

    /// A stored object in this version, if that is not the stored one.
    pub fn shown(&self, stored: &Value) -> Option<Value> {
        match self.source {
            Source::Face(face) => Some((face.show)(stored)),
            _ => None,
        }
    }

    /// An object of this version as it is stored, if that is another one.
    pub fn stored(&self, shown: &Value) -> Option<Value> {
        match self.source {
            Source::Face(Face { store: Some(store), .. }) => Some(store(shown)),
            _ => None,
        }
    }
}

/// `v1`, `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The kind behind a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The entry of a resource: the version that is stored.
pub fn of(resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.resource == resource && !kind.is_face())
}

/// The entry of a kind as an owner reference names it; the version of the group does not matter.
pub fn named(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    KINDS.iter().find(|entry| entry.kind == kind && entry.group == group && !entry.is_face())
}

/// apiVersion and kind of the objects of a resource.
pub fn kind_of(resource: &str) -> Option<(String, &'static str)> {
    of(resource).map(|kind| (kind.api_version(), kind.kind))
}

/// All groups, in table order, each once.
pub fn groups() -> Vec<&'static str> {
    let mut all: Vec<&str> = group_versions().into_iter().map(|(group, _)| group).collect();
    all.dedup();
    all
}

/// All (group, version) pairs, in table order, each once.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for kind in KINDS.iter() {
        if !all.contains(&(kind.group, kind.version)) {
            all.push((kind.group, kind.version));
        }
    }
    all
}

/// Groups and kinds of Kubernetes that are refused by name, and why. An empty plural stands for the whole group. They
/// are not in discovery, so that charts which ask for them do without. (What charts hold without asking is in
/// `refused`.)
const NOT_SERVED: &[(&str, &str, &str)] = &[
    ("certificates.k8s.io", "", "certificate signing requests are not served by this version of Warren"),
    (
        "flowcontrol.apiserver.k8s.io",
        "",
        "priority and fairness of requests is not configurable in this version of Warren",
    ),
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
        let resource_of = |api_version, kind| named(api_version, kind).map(|kind| kind.resource);
        assert_eq!(resource_of("apps/v1", "Deployment"), Some("deployments.apps"));
        assert_eq!(resource_of("apps/v1beta2", "Deployment"), Some("deployments.apps"));
        assert_eq!(resource_of("v1", "Deployment"), None);
        let slices = Some(("discovery.k8s.io/v1".to_owned(), "EndpointSlice"));
        assert_eq!(kind_of("endpointslices.discovery.k8s.io"), slices);
        assert_eq!(kind_of("members.warren.internal"), None);
    }

    #[test]
    fn entries_are_consistent() {
        for kind in KINDS.iter() {
            let name = kind.kind;
            assert!(!name.is_empty() && !kind.plural.is_empty());
            let stored =
                |other: &&Kind| other.resource == kind.resource && !matches!(other.source, Source::Face(_));
            assert_eq!(KINDS.iter().filter(stored).count(), 1, "{name}");
            let writable = kind.verbs.contains(&"update");
            match kind.source {
                Source::Stored => assert_eq!(writable, kind.refusal.is_empty(), "{name}"),
                Source::Face(face) => assert_eq!(writable, face.store.is_some(), "{name}"),
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
            assert!(seen.insert((kind.group, kind.version, kind.plural)), "{}", kind.kind);
            for short in kind.short_names {
                assert!(
                    seen.insert((kind.version, "", short)) || !matches!(kind.source, Source::Stored),
                    "{short}"
                );
            }
        }
    }

    #[test]
    fn versions_of_a_group_stand_together() {
        let groups = groups();
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
            assert!(not_served(kind.group, kind.plural).is_none(), "{}", kind.kind);
        }
        assert_eq!(named("apps/v1beta2", "Deployment").unwrap().resource, "deployments.apps");
        assert!(named("v1", "Deployment").is_none());
    }
}
