//! The verbs, each for all kinds.

mod create;
mod delete;
mod get;
mod list;
mod patch;
mod update;
mod watch;

pub(crate) use create::create;
pub(crate) use delete::{delete, delete_collection, delete_named};
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use patch::{patch, patch_scope};
pub(crate) use update::{put, update, write};
pub(crate) use watch::watch;

use serde_json::{Value, json};

/// Sets `metadata.resourceVersion`, which the store stamps on what it keeps, on our copy too.
pub(crate) fn stamp(object: &mut Value, revision: u64) {
    crate::meta::of(object).insert("resourceVersion".into(), json!(revision.to_string()));
}
