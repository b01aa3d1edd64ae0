//! Whose a bearer token is.

use http::{HeaderValue, header, request::Parts};
use jiff::Timestamp;
use warren_runtime::tls::PeerIdentity;
use warren_write::User;

use crate::{state::ApiState, status::Status};

/// The user whose token a request shows; `None` when it shows none, or a client certificate, which then decides.
pub(crate) fn bearer(api: &ApiState, parts: &Parts) -> Result<Option<User>, Status> {
    let Some(shown) = parts.headers.get(header::AUTHORIZATION) else { return Ok(None) };
    if parts.extensions.get::<PeerIdentity>().is_some() {
        return Ok(None);
    }
    let token = token(shown).ok_or_else(Status::unauthorized)?;
    let user = api.tokens.authenticate(&api.snapshot(), token, Timestamp::now());
    // The client learns nothing of the reason.
    user.map(Some).map_err(|why| {
        metrics::counter!("warren_api_refused_tokens_total").increment(1);
        tracing::debug!(%why, "a token is refused");
        Status::unauthorized()
    })
}

/// What follows `Bearer`.
fn token(shown: &HeaderValue) -> Option<&str> {
    let (scheme, token) = shown.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
