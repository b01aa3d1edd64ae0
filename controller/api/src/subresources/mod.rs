//! What lies below an object.

mod binding;
mod eviction;
pub(crate) mod log;
mod scale;
mod token;

use std::sync::Arc;

use warren_write::Scope;

use crate::{respond::Reply, server::Call, state::ApiState, status::Status, verbs};

/// Does what is asked of a subresource.
pub(crate) async fn call(
    api: &Arc<ApiState>,
    call: &Call,
    subresource: &str,
    verb: &str,
) -> Result<Reply, Status> {
    let known = call.target.subresource;
    if let Some(known) = known.filter(|known| !known.verbs.contains(&verb) && !known.refusal.is_empty()) {
        return Err(Status::refused(known.refusal));
    }
    match (subresource, verb) {
        ("status" | "ephemeralcontainers" | "resize", "get") => verbs::get(api, call).await,
        ("status", "update") => verbs::put(api, call, Scope::Status).await,
        ("status", "patch") => verbs::patch_scope(api, call, Scope::Status).await,
        ("finalize", "update") => verbs::put(api, call, Scope::Finalize).await,
        ("scale", "get") => scale::get(api, call),
        ("scale", "update") => scale::update(api, call).await,
        ("scale", "patch") => scale::patch(api, call).await,
        ("log", "get") => log::get(api, call).await,
        ("binding", "create") => binding::create(api, call).await,
        ("token", "create") => token::create(api, call),
        ("eviction", "create") => eviction::create(api, call).await,
        _ => Err(Status::method_not_allowed()),
    }
}
