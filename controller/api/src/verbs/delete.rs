//! DELETE of one object and of a collection.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use warren_store::{Object, Transaction};

use super::{list::select, stamp};
use crate::{
    addresses, body,
    delete::{Decision, DeleteOptions, decide, permit},
    engine::{ATTEMPTS, Engine, key_of},
    kinds::Kind,
    meta,
    path::ResourceTarget,
    respond::{Content, List, Reply},
    selectors::Selector,
    server::Call,
    status::{self, Status},
};

/// How many objects of a collection are deleted at a time: enough for commits to be grouped.
const AT_ONCE: usize = 32;

/// What became of the object.
pub(crate) enum Deletion {
    /// It is gone; this was its last state.
    Gone(Arc<Object>),
    /// It is on its way; this is its state.
    Pending(Value),
}

pub(crate) async fn delete(engine: &Engine, call: &Call) -> Result<Reply, Status> {
    let options = DeleteOptions::parse(&body::optional(&call.headers, &call.body)?, &call.query)?;
    let (kind, name) = (call.target.kind, &call.target.name);
    Ok(match delete_named(engine, &call.target, &options).await? {
        Deletion::Gone(object) if kind.returns_deleted => Reply::ok(Content::Stored(object)),
        Deletion::Gone(object) => {
            Reply::ok(Content::Status(status::deleted(kind, name, meta::text(&object.value, "uid"))))
        }
        Deletion::Pending(object) => Reply::fresh(object),
    })
}

/// Deletes one object; lost races are tried again.
pub(crate) async fn delete_named(
    engine: &Engine,
    target: &ResourceTarget,
    options: &DeleteOptions,
) -> Result<Deletion, Status> {
    let (kind, name) = (target.kind, target.name.as_str());
    permit(kind, name)?;
    for _ in 0..ATTEMPTS {
        let snapshot = engine.snapshot();
        let old = snapshot.get(&key_of(target)).ok_or_else(|| Status::not_found(kind, name))?;
        options.check(kind, &old.value)?;
        if let Some(deletion) = attempt(engine, kind, old, options).await? {
            return Ok(deletion);
        }
    }
    Err(Status::conflict(kind, name))
}

async fn attempt(
    engine: &Engine,
    kind: &Kind,
    old: &Arc<Object>,
    options: &DeleteOptions,
) -> Result<Option<Deletion>, Status> {
    match decide(kind, &old.value, options, Timestamp::now()) {
        Decision::Pending => Ok(Some(Deletion::Pending(old.value.clone()))),
        Decision::Remove if options.dry_run => Ok(Some(Deletion::Gone(Arc::clone(old)))),
        Decision::Mark(object) if options.dry_run => Ok(Some(Deletion::Pending(object))),
        Decision::Remove => Ok(engine.commit(removal(kind, old)).await?.map(|revision| {
            // Its last state has the revision of the deletion, as the event that watchers get.
            let mut last = old.value.clone();
            stamp(&mut last, revision);
            Deletion::Gone(Arc::new(Object::new(old.key.clone(), revision, last)))
        })),
        Decision::Mark(mut object) => {
            let transaction = Transaction::new().replace(old.key.clone(), old.revision, object.clone());
            Ok(engine.commit(transaction).await?.map(|revision| {
                stamp(&mut object, revision);
                Deletion::Pending(object)
            }))
        }
    }
}

/// The removal of an object and of what was allocated for it.
pub(super) fn removal(kind: &Kind, old: &Object) -> Transaction {
    let transaction = Transaction::new().delete(old.key.clone(), old.revision);
    if kind.resource == "services" { addresses::release(transaction, &old.value) } else { transaction }
}

/// Deletes all that is selected, several at a time. Objects that vanish meanwhile are no error.
pub(crate) async fn delete_collection(engine: &Engine, call: &Call) -> Result<Reply, Status> {
    let kind = call.target.kind;
    let options = DeleteOptions::parse(&body::optional(&call.headers, &call.body)?, &call.query)?;
    let selector = Selector::parse(kind, &call.query)?;
    let selected: Vec<Arc<Object>> = select(&engine.snapshot(), &call.target, &selector).cloned().collect();
    let options = &options;
    let deletions = selected
        .into_iter()
        .map(|object| async move { delete_selected(engine, kind, object, options).await });
    let outcomes: Vec<Option<Arc<Object>>> = stream::iter(deletions).buffered(AT_ONCE).try_collect().await?;
    let objects = outcomes.into_iter().flatten().collect();
    let revision = engine.snapshot().revision;
    Ok(Reply::ok(Content::List(List { objects, revision, continuation: None, remaining: None })))
}

/// Deletes one object of a collection; `None`: it was gone already.
async fn delete_selected(
    engine: &Engine,
    kind: &'static Kind,
    object: Arc<Object>,
    options: &DeleteOptions,
) -> Result<Option<Arc<Object>>, Status> {
    let (namespace, name) = (object.key.namespace.to_string(), object.key.name.to_string());
    let target = ResourceTarget { kind, namespace, name, subresource: None };
    match delete_named(engine, &target, options).await {
        Ok(Deletion::Gone(_)) => Ok(Some(object)),
        Ok(Deletion::Pending(value)) => {
            let revision = meta::text(&value, "resourceVersion").parse().unwrap_or(object.revision);
            Ok(Some(Arc::new(Object::new(object.key.clone(), revision, value))))
        }
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(status),
    }
}
