//! POST: a new object.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;
use warren_objects::unsupported;
use warren_write::{Admitted, Effect, Intent, Operation};

use super::{stamp, written};
use crate::{
    body::{self, WriteOptions},
    meta,
    respond::Reply,
    server::Call,
    state::{ApiState, key},
    status::Status,
};

/// How often a creation is tried again: whoever makes something else in a namespace with quotas writes these, too.
const ATTEMPTS: usize = 100;

pub(crate) async fn create(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let kind = &call.target.kind;
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let (mut object, mut warnings) = body::object(kind, &call.headers, &call.body, options.validation)?;
    meta::agree_with_url(kind, &call.target.namespace, "", &mut object)?;
    meta::on_create(kind, &mut object, &Uuid::new_v4().to_string(), Timestamp::now())?;
    let generates = meta::wants_generated_name(&object);
    for _ in 0..ATTEMPTS {
        if generates {
            let name = meta::generated_name(meta::text(&object, "generateName"), &(api.suffix)());
            meta::of(&mut object).insert("name".into(), name.into());
        }
        if let Some(created) = attempt(api, call, &object, generates, options.dry_run).await? {
            warnings.extend(unsupported::warnings(kind, &created));
            let reply = written(api, &call.target, created, options.dry_run);
            return Ok(Reply { code: StatusCode::CREATED, ..reply }.with_warnings(warnings));
        }
    }
    let name = meta::text(&object, "name");
    Err(if generates { Status::no_name_generated(kind, name) } else { Status::conflict(kind, name) })
}

/// One try; `None`: another author was faster in a way that another try can mend.
async fn attempt(
    api: &ApiState,
    call: &Call,
    object: &Value,
    generated: bool,
    dry_run: bool,
) -> Result<Option<Value>, Status> {
    let kind = &call.target.kind;
    let key = key(kind, &call.target.namespace, meta::text(object, "name"));
    let snapshot = api.snapshot();
    if generated && snapshot.get(&key).is_some() {
        return Ok(None);
    }
    let operation = Operation::Create { object: object.clone() };
    let intent = Intent { author: call.author(), kind, key: &key, operation };
    let admitted = api.gate.admit(&snapshot, intent)?;
    let Admitted { transaction, effect: Effect::Stored(mut stored), .. } = admitted else {
        return Err(Status::internal("a new object was not to be stored"));
    };
    if dry_run {
        return Ok(Some(stored));
    }
    Ok(api.commit(transaction).await?.map(|revision| {
        stamp(&mut stored, revision);
        stored
    }))
}
