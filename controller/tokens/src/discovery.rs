//! What others need to verify tokens of this cluster: OpenID Connect's discovery documents.
//!
//! Source: <https://openid.net/specs/openid-connect-discovery-1_0.html>, RFC 7517.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{KeyRing, SigningKey};

/// Where the keys are, below the issuer.
const KEYS: &str = "/openid/v1/jwks";

/// `/.well-known/openid-configuration`.
pub(crate) fn configuration(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}{KEYS}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// `/openid/v1/jwks`: every key that verifies, the next one included.
pub(crate) fn key_set(ring: &KeyRing) -> Value {
    let key = |key: &SigningKey| {
        let (x, y) = &key.point;
        json!({
            "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    };
    json!({ "keys": ring.keys().iter().map(key).collect::<Vec<_>>() })
}
