//! `pods/eviction`: a deletion that disruption budgets could refuse. They are stored, and not honoured yet.

use http::StatusCode;
use serde_json::Value;

use crate::{
    body, delete,
    negotiate::Expected,
    respond::{Content, Reply},
    server::Call,
    state::ApiState,
    status::{self, Status},
    verbs,
};

const EVICTION: Expected<'static> = Expected { group: "policy", version: "v1", kind: "Eviction" };

pub(super) async fn create(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let eviction = body::of_kind(&call.headers, &call.body, EVICTION)?;
    let mut options = delete::options(eviction.get("deleteOptions").unwrap_or(&Value::Null), &call.query)?;
    options.dry_run |= call.query.dry_run()?;
    verbs::delete_named(api, call, &options).await?;
    Ok(Reply { code: StatusCode::CREATED, ..Reply::ok(Content::Status(status::created())) })
}
