//! `pods/eviction`: a deletion that the pod's disruption budget must allow.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::{ErrorKind, FieldError};
use warren_write::{Effect, Intent, Operation};

use crate::{
    body,
    delete::{self, DeleteOptions},
    meta,
    negotiate::Expected,
    respond::{Content, Reply},
    server::Call,
    state::{ApiState, key_of},
    status::{self, Status},
};

const EVICTION: Expected<'static> = Expected { group: "policy", version: "v1", kind: "Eviction" };

/// How often an eviction is tried again: whoever evicts other pods by the same budget writes to it, too.
const ATTEMPTS: usize = 100;

pub(super) async fn create(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let eviction = body::of_kind(&call.headers, &call.body, EVICTION)?;
    agree(call, &eviction)?;
    let mut options = delete::options(eviction.get("deleteOptions").unwrap_or(&Value::Null), &call.query)?;
    options.dry_run |= call.query.dry_run()?;
    evict(api, call, &options).await?;
    Ok(Reply { code: StatusCode::CREATED, ..Reply::ok(Content::Status(status::created())) })
}

/// The eviction must be of the pod that the path names.
fn agree(call: &Call, eviction: &Value) -> Result<(), Status> {
    if meta::text(eviction, "name") != call.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let namespace = meta::text(eviction, "namespace");
    if !namespace.is_empty() && namespace != call.target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let option = "ignoreStoreReadErrorWithClusterBreakingPotential";
    if eviction["deleteOptions"][option] == true {
        let error = FieldError {
            field: format!("deleteOptions.{option}"),
            kind: ErrorKind::Invalid,
            value: Some(json!(true)),
            detail: "can not be set for pod eviction, try after removing the option".into(),
        };
        return Err(Status::invalid_kind(EVICTION.group, EVICTION.kind, &call.target.name, &[error]));
    }
    Ok(())
}

/// The pod and its budget are written in one commit; lost races are judged anew.
async fn evict(api: &ApiState, call: &Call, options: &DeleteOptions) -> Result<(), Status> {
    let (kind, key) = (&call.target.kind, key_of(&call.target));
    for _ in 0..ATTEMPTS {
        let snapshot = api.snapshot();
        let operation = Operation::Evict { old: snapshot.get(&key), options, now: Timestamp::now() };
        let intent = Intent { author: call.author(), kind, key: &key, operation };
        let admitted = api.gate.admit(&snapshot, intent)?;
        let is_done = options.dry_run || admitted.effect == Effect::Unchanged;
        if is_done || api.commit(admitted.transaction).await?.is_some() {
            return Ok(());
        }
    }
    let why =
        format!("pod \"{}\" was not evicted: it or its disruption budget changed all the time", key.name);
    Err(Status::timeout(why))
}
