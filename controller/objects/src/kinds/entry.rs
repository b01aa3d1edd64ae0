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
pub struct Entry {
    /// Empty for the core group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// The store's name of the resource, where it does not follow from plural and group: of a version in another group.
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
    /// Fields of a first status that begin at 0, which typed clients do not decode a status without.
    pub counters: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the desired state.
    pub has_generation: bool,
    /// Whether the answer to a deletion is the object that is gone, not a `Status`: as typed clients of Kubernetes expect
    /// it of some kinds.
    pub returns_deleted: bool,
    /// Fields of the stored object by which it may be selected, besides name and namespace.
    pub fields: &'static [&'static str],
    /// What no planner does with such objects yet; every write is answered with it as a warning. Empty when all is done.
    pub idle: &'static str,
    /// Its fields, as an OpenAPI schema, where the table of Kubernetes' types has none of this name.
    pub structure: Option<fn() -> Value>,
    /// Fills in what was left out.
    pub defaults: fn(&mut Value),
    /// Adapts a changed object that a client built on the stored one (before `defaults`).
    pub adapt: fn(&Value, &mut Value),
    /// Whether another controller acts upon an object: what Warren refuses is then only warned of.
    pub is_of_others: fn(&Value) -> bool,
    /// How names of this kind are spelt.
    pub name: validate::NameRule,
    /// Judges an object as it is to be stored (after the metadata).
    pub validate: fn(&Value, &mut Errors),
    /// Judges a change (after `validate` of the new object).
    pub update: fn(&Value, &Value, &mut Errors),
    /// The printed columns.
    pub columns: &'static [Column<'static>],
    /// The cells of one object, one per column.
    pub row: fn(&Value, Timestamp) -> Vec<Value>,
}

/// What most kinds have in common.
pub const PLAIN: Entry = Entry {
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
    structure: None,
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
