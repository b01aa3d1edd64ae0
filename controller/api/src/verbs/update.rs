//! PUT, and the one path on which every change of an existing object goes.

use serde_json::Value;
use warren_objects::unsupported;
use warren_write::{Admitted, Effect, Intent, Operation, Scope};

use super::{stamp, written};
use crate::{
    body::{self, WriteOptions},
    kinds::Kind,
    meta,
    respond::Reply,
    server::Call,
    state::{ATTEMPTS, ApiState, key_of},
    status::Status,
};

pub(crate) async fn update(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    put(api, call, Scope::Main).await
}

/// PUT of an object, or of a part of it.
pub(crate) async fn put(api: &ApiState, call: &Call, scope: Scope) -> Result<Reply, Status> {
    let kind = &call.target.kind;
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let (mut object, mut warnings) = body::object(kind, &call.headers, &call.body, options.validation)?;
    meta::agree_with_url(kind, &call.target.namespace, &call.target.name, &mut object)?;
    let result = write(api, call, scope, options.dry_run, |_| Ok(object.clone())).await?;
    if scope == Scope::Main {
        warnings.extend(unsupported::warnings(kind, &result));
    }
    Ok(written(api, &call.target, result, options.dry_run).with_warnings(warnings))
}

/// Changes an object: `transform` makes the wanted state from the stored one. Without a `resourceVersion` in the
/// wanted state a lost race is tried again; with one it is a conflict.
pub(crate) async fn write(
    api: &ApiState,
    call: &Call,
    scope: Scope,
    dry_run: bool,
    mut transform: impl FnMut(&Value) -> Result<Value, Status> + Send,
) -> Result<Value, Status> {
    let (kind, name, key) = (&call.target.kind, call.target.name.as_str(), key_of(&call.target));
    for _ in 0..ATTEMPTS {
        let snapshot = api.snapshot();
        let old = snapshot.get(&key).ok_or_else(|| Status::not_found(kind, name))?;
        let object = transform(&old.value)?;
        same_revision(kind, name, &old.value, &object)?;
        let operation = Operation::Update { old, object, scope };
        let admitted =
            api.gate.admit(&snapshot, Intent { author: call.author(), kind, key: &key, operation })?;
        // The rest of what was admitted, a claim of an address, is held until the commit is done.
        let Admitted { transaction, effect, .. } = admitted;
        let mut new = match effect {
            Effect::Unchanged => return Ok(old.value.clone()),
            Effect::Stored(new) | Effect::Removed(new) => new,
        };
        if dry_run {
            return Ok(new);
        }
        if let Some(revision) = api.commit(transaction).await? {
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
