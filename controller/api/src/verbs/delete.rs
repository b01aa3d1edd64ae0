//! DELETE of one object and of a collection.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use warren_store::{Key, Object, Snapshot};
use warren_write::{Admitted, Effect, Intent, Operation, deletion};

use super::{list::chosen, stamp};
use crate::{
    body,
    delete::{self, DeleteOptions},
    meta,
    query::ListOptions,
    respond::{Content, List, Reply},
    selectors::Selector,
    server::Call,
    state::{ATTEMPTS, ApiState, key_of},
    status::{self, Status},
};

/// How many objects of a collection are deleted at a time: enough for commits to be grouped.
const AT_ONCE: usize = 32;

/// How often the deletion of one object of a collection is tried again: others may count an event, or report a status,
/// many times meanwhile.
const COLLECTION_ATTEMPTS: usize = 100;

/// What became of the object.
enum Deletion {
    /// It is gone; this was its last state.
    Gone(Arc<Object>),
    /// It is on its way; this is its state.
    Pending(Value),
}

pub(crate) async fn delete(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let options = delete::options(&body::optional(&call.headers, &call.body)?, &call.query)?;
    let (kind, name) = (&call.target.kind, &call.target.name);
    let reply = match delete_named(api, call, &options).await? {
        Deletion::Gone(object) if kind.returns_deleted => Reply::ok(Content::Stored(object)),
        Deletion::Gone(object) => {
            Reply::ok(Content::Status(status::deleted(kind, name, meta::text(&object.value, "uid"))))
        }
        Deletion::Pending(object) => Reply::fresh(object),
    };
    Ok(reply.with_warnings(warnings(call, &options)))
}

fn warnings(call: &Call, options: &DeleteOptions) -> Vec<String> {
    deletion::warning(&call.target.kind, options).into_iter().map(str::to_owned).collect()
}

/// Deletes one object; lost races are tried again.
async fn delete_named(api: &ApiState, call: &Call, options: &DeleteOptions) -> Result<Deletion, Status> {
    let key = key_of(&call.target);
    for _ in 0..ATTEMPTS {
        let snapshot = api.snapshot();
        if let Some(deletion) = attempt(api, call, &snapshot, &key, options).await? {
            return Ok(deletion);
        }
    }
    Err(Status::conflict(&call.target.kind, &key.name))
}

/// One try; `None`: another author wrote meanwhile.
async fn attempt(
    api: &ApiState,
    call: &Call,
    snapshot: &Snapshot,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Option<Deletion>, Status> {
    let (kind, old) = (&call.target.kind, snapshot.get(key));
    let operation = Operation::Delete { old, options, now: Timestamp::now() };
    let intent = Intent { author: call.author(), kind, key, operation };
    let Admitted { transaction, effect, .. } = api.gate.admit(snapshot, intent)?;
    let old = old.ok_or_else(|| Status::not_found(kind, &key.name))?;
    match effect {
        Effect::Unchanged => Ok(Some(Deletion::Pending(old.value.clone()))),
        Effect::Removed(_) if options.dry_run => Ok(Some(Deletion::Gone(Arc::clone(old)))),
        Effect::Stored(object) if options.dry_run => Ok(Some(Deletion::Pending(object))),
        // Its last state has the revision of the deletion, as the event that watchers get.
        Effect::Removed(last) => Ok(api
            .commit(transaction)
            .await?
            .map(|revision| Deletion::Gone(Arc::new(Object::new(key.clone(), revision, last))))),
        Effect::Stored(mut object) => Ok(api.commit(transaction).await?.map(|revision| {
            stamp(&mut object, revision);
            Deletion::Pending(object)
        })),
    }
}

/// Deletes all that is selected, or a page of it, several at a time. Objects that vanish, or are no longer selected
/// when their turn comes, are no error. What fails stops nothing: the first failure is told when all have had their turn.
pub(crate) async fn delete_collection(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let options = delete::options(&body::optional(&call.headers, &call.body)?, &call.query)?;
    let selector = Selector::parse(&call.target.kind, &call.query)?;
    let wanted = ListOptions::parse(&call.query)?;
    wanted.check_list()?;
    let page = chosen(api, call, &wanted, &selector).await?;
    let (options, selector) = (&options, &selector);
    let deletions =
        page.objects.into_iter().map(|object| delete_selected(api, call, object, selector, options));
    let outcomes: Vec<_> = stream::iter(deletions).buffered(AT_ONCE).collect().await;
    let outcomes: Result<Vec<Option<Arc<Object>>>, Status> = outcomes.into_iter().collect();
    let objects = outcomes?.into_iter().flatten().collect();
    let revision = api.snapshot().revision;
    let reply = Reply::ok(Content::List(List { objects, revision, ..page }));
    Ok(reply.with_warnings(warnings(call, options)))
}

/// Deletes one object of a collection, if it is still the one that was selected; `None`: it is not. An author who writes to it
/// meanwhile does not keep it.
async fn delete_selected(
    api: &ApiState,
    call: &Call,
    selected: Arc<Object>,
    selector: &Selector,
    options: &DeleteOptions,
) -> Result<Option<Arc<Object>>, Status> {
    let (key, uid) = (&selected.key, meta::text(&selected.value, "uid"));
    for _ in 0..COLLECTION_ATTEMPTS {
        let snapshot = api.snapshot();
        let still = |object: &&Arc<Object>| {
            meta::text(&object.value, "uid") == uid && selector.matches(&object.value)
        };
        let Some(object) = snapshot.get(key).filter(still) else { return Ok(None) };
        match attempt(api, call, &snapshot, key, options).await? {
            Some(Deletion::Gone(_)) => return Ok(Some(selected)),
            Some(Deletion::Pending(value)) => {
                let revision = meta::text(&value, "resourceVersion").parse().unwrap_or(object.revision);
                return Ok(Some(Arc::new(Object::new(key.clone(), revision, value))));
            }
            None => {}
        }
    }
    Err(Status::conflict(&call.target.kind, &key.name))
}
