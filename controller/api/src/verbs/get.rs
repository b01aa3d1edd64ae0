//! GET of one object.

use std::sync::Arc;

use crate::{
    engine::{Engine, key_of, shown},
    query::ListOptions,
    respond::{Content, Reply},
    server::Call,
    status::Status,
};

pub(crate) async fn get(engine: &Engine, call: &Call) -> Result<Reply, Status> {
    let snapshot = engine.snapshot();
    let wanted = ListOptions::parse(&call.query)?.revision.unwrap_or(0);
    if wanted > snapshot.revision {
        return Err(Status::revision_too_large(wanted, snapshot.revision));
    }
    let snapshot = shown(engine, &call.target.kind, snapshot, &call.target.namespace).await;
    let object = snapshot.get(&key_of(&call.target));
    let object = object.ok_or_else(|| Status::not_found(&call.target.kind, &call.target.name))?;
    Ok(Reply::ok(Content::Stored(Arc::clone(object))))
}
