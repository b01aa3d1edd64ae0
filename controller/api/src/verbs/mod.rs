//! The verbs, each for all kinds.

mod create;
mod delete;
mod get;
mod list;
mod patch;
mod update;
mod watch;

pub(crate) use create::create;
pub(crate) use delete::{delete, delete_collection};
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use patch::{patch, patch_scope};
pub(crate) use update::{put, update, write};
pub(crate) use watch::watch;

use std::sync::Arc;

use serde_json::{Value, json};
use warren_store::Object;

use crate::{
    meta,
    path::ResourceTarget,
    respond::{Content, Reply},
    state::{ApiState, key},
};

/// The answer about an object that was just written: the store's own text of it, unless another author has written since.
pub(crate) fn written(api: &ApiState, target: &ResourceTarget, value: Value, dry_run: bool) -> Reply {
    let key = key(&target.kind, &target.namespace, meta::text(&value, "name"));
    let is_this = |object: &&Arc<Object>| {
        !dry_run && object.revision.to_string() == meta::text(&value, "resourceVersion")
    };
    match api.snapshot().get(&key).filter(is_this) {
        Some(object) => Reply::ok(Content::Stored(Arc::clone(object))),
        None => Reply::fresh(value),
    }
}

/// Sets `metadata.resourceVersion`, which the store stamps on what it keeps, on our copy too.
pub(crate) fn stamp(object: &mut Value, revision: u64) {
    crate::meta::of(object).insert("resourceVersion".into(), json!(revision.to_string()));
}
