//! What is known of a built-in kind: one entry, in the kind's own file.

use jiff::Timestamp;
use serde_json::Value;

use super::{Source, Subresource, VERBS};
use crate::{
    field::Errors,
    table::{self, Column},
    validate,
};

/// The verbs of a kind that no object can have: an empty list may be had, and what is not there be deleted.
pub(crate) const REFUSED: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];

/// What is known of a built-in kind, in one version of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Empty for the core group.
    pub(crate) group: &'static str,
    /// `v1`.
    pub(crate) version: &'static str,
    /// `Deployment`.
    pub(crate) kind: &'static str,
    /// `deployments`.
    pub(crate) plural: &'static str,
    /// The store's name of the resource, where it does not follow from plural and group: of a face in another group.
    pub(crate) resource: &'static str,
    /// What kubectl also understands.
    pub(crate) short_names: &'static [&'static str],
    /// `all` makes it part of `kubectl get all`.
    pub(crate) categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub(crate) namespaced: bool,
    /// Where the objects are.
    pub(crate) source: Source,
    /// What may be done with the objects.
    pub(crate) verbs: &'static [&'static str],
    /// What those are told who try anything else; empty for the usual words.
    pub(crate) refusal: &'static str,
    /// What lies below an object.
    pub(crate) subresources: &'static [Subresource],
    /// Fields of a first status that begin at 0, which typed clients do not decode a status without.
    pub(crate) counters: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the desired state.
    pub(crate) has_generation: bool,
    /// Whether the answer to a deletion is the object that is gone, not a `Status`: as typed clients of Kubernetes expect
    /// it of some kinds.
    pub(crate) returns_deleted: bool,
    /// Fields of the stored object by which it may be selected, besides name and namespace.
    pub(crate) fields: &'static [&'static str],
    /// What nobody does with such objects yet; every write is answered with it as a warning. Empty when all is done.
    pub(crate) idle: &'static str,
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
    pub(crate) columns: &'static [Column<'static>],
    /// The cells of one object, one per column.
    pub(crate) row: fn(&Value, Timestamp) -> Vec<Value>,
}

/// What most kinds have in common.
pub(crate) const PLAIN: Entry = Entry {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    resource: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    source: Source::Stored,
    verbs: VERBS,
    refusal: "",
    subresources: &[],
    counters: &[],
    has_generation: false,
    returns_deleted: false,
    fields: &[],
    idle: "",
    defaults: nothing,
    adapt: no_change,
    is_of_others: no_object,
    name: validate::NameRule::Subdomain,
    validate: anything,
    update: any_change,
    columns: table::NAME_AND_AGE,
    row: table::name_and_age,
};

pub(crate) const STATUS: Subresource =
    Subresource { name: "status", verbs: &["get", "patch", "update"], ..PLAIN_SUBRESOURCE };
pub(crate) const SCALE: Subresource =
    Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", ..STATUS };
pub(crate) const PLAIN_SUBRESOURCE: Subresource =
    Subresource { name: "", group: "", version: "", kind: "", verbs: &[], refusal: "" };

/// In `kubectl get all`.
pub(crate) const ALL: &[&str] = &["all"];

fn nothing(_: &mut Value) {}
fn no_change(_: &Value, _: &mut Value) {}
fn no_object(_: &Value) -> bool {
    false
}
fn anything(_: &Value, _: &mut Errors) {}
fn any_change(_: &Value, _: &Value, _: &mut Errors) {}

/// A question, which is answered and not kept.
pub(crate) const QUESTION: Entry =
    Entry { namespaced: false, source: Source::Answered, verbs: &["create"], ..PLAIN };
/// A kind of the cluster that no object can have.
pub(crate) const CLUSTER: Entry = Entry { namespaced: false, verbs: REFUSED, ..PLAIN };
