//! Warren's own paths beside the Kubernetes API: join tokens, members and the overlay, for administrators.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use serde::Deserialize as _;
use serde_json::{Value, json};
use warren_nodes::{Nodes, TokenError, TokenInfo, WriteError};
use warren_runtime::tls::PeerIdentity;
use warren_store::CommitError;
use warren_vocabulary::member::MemberRole;
use warren_write::Refused;

const DEFAULT_LIFETIME: u64 = 3_600;
const LONGEST_BODY: usize = 16 << 10;
const LONGEST_LIFETIME: u64 = 30 * 24 * 3_600;

/// `/warren/v1/...`; every path demands the group system:masters.
pub(crate) fn router(nodes: Arc<Nodes>) -> Router {
    Router::new()
        .route("/warren/v1/tokens", get(list_tokens).post(create_token))
        .route("/warren/v1/tokens/{id}", delete(revoke_token))
        .route("/warren/v1/members/{name}", delete(remove_member))
        .route("/warren/v1/overlay", get(overlay))
        .route_layer(middleware::from_fn(administrators_only))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(nodes)
}

pub(crate) fn status(code: StatusCode, reason: &str, message: impl Into<String>) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message.into(), "reason": reason, "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}

pub(crate) async fn administrators_only(
    peer: Option<Extension<PeerIdentity>>,
    request: Request,
    next: Next,
) -> Response {
    match peer {
        Some(Extension(peer)) if peer.organizations.iter().any(|group| group == "system:masters") => {
            next.run(request).await
        }
        Some(Extension(peer)) => {
            let message =
                format!("user {:?} is not an administrator (group system:masters)", peer.common_name);
            status(StatusCode::FORBIDDEN, "Forbidden", message)
        }
        None => status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"),
    }
}

async fn create_token(State(nodes): State<Arc<Nodes>>, body: Bytes) -> Response {
    let (role, seconds) = match wanted(&body) {
        Ok(wanted) => wanted,
        Err(problem) => return status(StatusCode::BAD_REQUEST, "BadRequest", problem),
    };
    match nodes.create_token(role, Duration::from_secs(seconds)).await {
        Ok(token) => (StatusCode::CREATED, Json(json!({"token": token}))).into_response(),
        Err(TokenError::Store(error)) => not_written(&error),
        Err(error) => status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string()),
    }
}

/// What a client is told when something was not written.
fn not_written(error: &WriteError) -> Response {
    match error {
        WriteError::Store(error) => refused(error),
        WriteError::Refused(Refused { refusal, .. }) => {
            let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::FORBIDDEN);
            status(code, refusal.reason, refusal.message.clone())
        }
    }
}

/// What a client is told when the store did not take something.
pub(crate) fn refused(error: &CommitError) -> Response {
    let (code, reason) = match error {
        CommitError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
        CommitError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    status(code, reason, error.to_string())
}

/// `{"role": "node", "lifetimeSeconds": N}`; what is left out has its default.
fn wanted(body: &[u8]) -> Result<(MemberRole, u64), String> {
    let body: Value = match body {
        [] => json!({}),
        body => serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?,
    };
    let role = match body.get("role") {
        None => MemberRole::Node,
        Some(value) => MemberRole::deserialize(value).map_err(|_| {
            format!("role: Unsupported value: {value}: supported values: \"node\", \"gateway\"")
        })?,
    };
    let seconds = match body.get("lifetimeSeconds") {
        None => DEFAULT_LIFETIME,
        Some(value) => {
            let seconds = value.as_u64().filter(|seconds| (1..=LONGEST_LIFETIME).contains(seconds));
            seconds.ok_or_else(|| {
                format!("lifetimeSeconds: Invalid value: {value}: must be from 1 to {LONGEST_LIFETIME}")
            })?
        }
    };
    Ok((role, seconds))
}

async fn list_tokens(State(nodes): State<Arc<Nodes>>) -> Response {
    let token =
        |token: TokenInfo| json!({"id": token.id, "role": token.role, "expires": token.expires.to_string()});
    let tokens: Vec<Value> = nodes.list_tokens().into_iter().map(token).collect();
    Json(json!({"tokens": tokens})).into_response()
}

async fn revoke_token(State(nodes): State<Arc<Nodes>>, Path(id): Path<String>) -> Response {
    match nodes.revoke_token(&id).await {
        Ok(()) => Json(json!({"revoked": id})).into_response(),
        Err(error @ TokenError::Unknown(_)) => status(StatusCode::NOT_FOUND, "NotFound", error.to_string()),
        Err(error) => status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string()),
    }
}

/// Its certificate opens nothing any more, its network is free, and its name can join again.
async fn remove_member(State(nodes): State<Arc<Nodes>>, Path(name): Path<String>) -> Response {
    match nodes.remove_member(&name).await {
        Ok(true) => Json(json!({"removed": name})).into_response(),
        Ok(false) => status(StatusCode::NOT_FOUND, "NotFound", format!("members {name:?} not found")),
        Err(error) => not_written(&error),
    }
}

async fn overlay(State(nodes): State<Arc<Nodes>>) -> Response {
    Json(nodes.network_status()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_checked_and_the_field_named() {
        assert_eq!(wanted(b""), Ok((MemberRole::Node, DEFAULT_LIFETIME)));
        assert_eq!(wanted(br#"{"lifetimeSeconds": 600}"#), Ok((MemberRole::Node, 600)));
        assert_eq!(wanted(br#"{"role": "gateway"}"#), Ok((MemberRole::Gateway, DEFAULT_LIFETIME)));
        for bad in ["0", "-1", "\"x\"", "99999999999"] {
            let error = wanted(format!("{{\"lifetimeSeconds\": {bad}}}").as_bytes()).expect_err(bad);
            assert!(error.starts_with("lifetimeSeconds: Invalid value"), "{error}");
        }
        let error = wanted(br#"{"role": "controller"}"#).expect_err("no such role");
        assert!(error.starts_with("role: Unsupported value: \"controller\""), "{error}");
        assert!(wanted(b"{").is_err());
    }
}
