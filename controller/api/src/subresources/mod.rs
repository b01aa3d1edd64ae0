//! What lies below an object.

mod binding;
mod eviction;
pub(crate) mod log;
mod scale;

use std::sync::Arc;

use warren_write::Scope;

use crate::{engine::Engine, respond::Reply, server::Call, status::Status, verbs};

/// Does what is asked of a subresource.
pub(crate) async fn call(
    engine: &Arc<Engine>,
    call: &Call,
    subresource: &str,
    verb: &str,
) -> Result<Reply, Status> {
    let known = call.target.subresource;
    if let Some(known) = known.filter(|known| !known.verbs.contains(&verb) && !known.refusal.is_empty()) {
        return Err(Status::refused(known.refusal));
    }
    match (subresource, verb) {
        ("status" | "ephemeralcontainers" | "resize", "get") => verbs::get(engine, call).await,
        ("status", "update") => verbs::put(engine, call, Scope::Status).await,
        ("status", "patch") => verbs::patch_scope(engine, call, Scope::Status).await,
        ("finalize", "update") => verbs::put(engine, call, Scope::Finalize).await,
        ("scale", "get") => scale::get(engine, call),
        ("scale", "update") => scale::update(engine, call).await,
        ("scale", "patch") => scale::patch(engine, call).await,
        ("log", "get") => log::get(engine, call).await,
        ("binding", "create") => binding::create(engine, call).await,
        ("eviction", "create") => eviction::create(engine, call).await,
        _ => Err(Status::method_not_allowed()),
    }
}
