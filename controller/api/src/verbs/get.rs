//! GET of one object.

use std::sync::Arc;

use crate::{
    query::ListOptions,
    respond::{Content, Reply},
    server::Call,
    state::{ApiState, key_of, shown},
    status::Status,
};

pub(crate) async fn get(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let snapshot = api.snapshot();
    let wanted = ListOptions::parse(&call.query)?.revision.unwrap_or(0);
    if wanted > snapshot.revision {
        return Err(Status::revision_too_large(wanted, snapshot.revision));
    }
    let snapshot = shown(api, &call.target.kind, snapshot, &call.target.namespace);
    let object = snapshot.get(&key_of(&call.target));
    let object = object.ok_or_else(|| Status::not_found(&call.target.kind, &call.target.name))?;
    Ok(Reply::ok(Content::Stored(Arc::clone(object))))
}
