//! PUT, and the one path on which every change of an existing object goes.

use serde_json::Value;
use warren_objects::unsupported;
use warren_store::{Object, Snapshot, Transaction};

use super::{stamp, written};
use crate::{
    addresses::{self, Claim},
    admission::{self, Scope},
    body::{self, WriteOptions},
    delete,
    engine::{ATTEMPTS, Engine, key_of},
    kinds::Kind,
    meta,
    path::ResourceTarget,
    respond::Reply,
    server::Call,
    status::Status,
};

pub(crate) async fn update(engine: &Engine, call: &Call) -> Result<Reply, Status> {
    put(engine, call, Scope::Main).await
}

/// PUT of an object, or of a part of it.
pub(crate) async fn put(engine: &Engine, call: &Call, scope: Scope) -> Result<Reply, Status> {
    let kind = call.target.kind;
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let (mut object, mut warnings) = body::object(kind, &call.headers, &call.body, options.validation)?;
    meta::agree_with_url(kind, &call.target.namespace, &call.target.name, &mut object)?;
    let result = write(engine, &call.target, scope, options.dry_run, |_| Ok(object.clone())).await?;
    if scope == Scope::Main {
        warnings.extend(unsupported::warnings(kind, &result));
    }
    Ok(written(engine, &call.target, result, options.dry_run).with_warnings(warnings))
}

/// Changes an object: `transform` makes the wanted state from the stored one. Without a `resourceVersion` in the
/// wanted state a lost race is tried again; with one it is a conflict.
pub(crate) async fn write(
    engine: &Engine,
    target: &ResourceTarget,
    scope: Scope,
    dry_run: bool,
    mut transform: impl FnMut(&Value) -> Result<Value, Status> + Send,
) -> Result<Value, Status> {
    let (kind, name) = (target.kind, target.name.as_str());
    for _ in 0..ATTEMPTS {
        let snapshot = engine.snapshot();
        let old = snapshot.get(&key_of(target)).ok_or_else(|| Status::not_found(kind, name))?;
        let wanted = transform(&old.value)?;
        same_revision(kind, name, &old.value, &wanted)?;
        let mut new = admission::update(kind, scope, &old.value, wanted)?;
        let (transaction, claim) = plan(engine, kind, &snapshot, old, &mut new)?;
        if new == old.value || dry_run {
            return Ok(new);
        }
        let committed = engine.commit(transaction).await?;
        drop(claim);
        if let Some(revision) = committed {
            stamp(&mut new, revision);
            return Ok(new);
        }
    }
    Err(Status::conflict(kind, name))
}

/// 409 when the client worked on an older state.
fn same_revision(kind: &Kind, name: &str, old: &Value, wanted: &Value) -> Result<(), Status> {
    let stated = meta::text(wanted, "resourceVersion");
    if matches!(stated, "" | "0") || stated == meta::text(old, "resourceVersion") {
        return Ok(());
    }
    if stated.parse::<u64>().is_err() {
        return Err(Status::bad_request(format!(
            "metadata.resourceVersion: Invalid value: {stated:?}: must be a number"
        )));
    }
    Err(Status::conflict(kind, name))
}

/// What to commit: the change, or the removal when the last finalizer went; service addresses go along.
fn plan<'a>(
    engine: &'a Engine,
    kind: &Kind,
    snapshot: &Snapshot,
    old: &Object,
    new: &mut Value,
) -> Result<(Transaction, Option<Claim<'a>>), Status> {
    if delete::is_finished(kind, new) {
        return Ok((super::delete::removal(kind, old), None));
    }
    let mut transaction = Transaction::new();
    let mut claim = None;
    if kind.resource == "services" {
        let before = addresses::held(&old.value);
        if before.is_some() && addresses::held(new) != before {
            transaction = addresses::release(transaction, &old.value);
        }
        if admission::wants_address(new) && (before.is_none() || addresses::held(new) != before) {
            claim = addresses::claim(&engine.addresses, &engine.config, snapshot, new)
                .map_err(|error| Status::invalid(kind, &old.key.name, &[error]))?;
        }
        if let Some(claim) = &claim {
            transaction = claim.reserve(transaction, new);
        }
    }
    Ok((transaction.replace(old.key.clone(), old.revision, new.clone()), claim))
}
