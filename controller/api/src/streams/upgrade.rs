//! From an HTTP request to a connection of bytes: which protocol the client speaks, and the answer 101.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warren_runtime::hop_by_hop::tokens;

use crate::status::Status;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";

/// A connection that was upgraded.
pub(super) type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// How the client wants to speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    Spdy { protocol: &'static str },
    WebSocket { protocol: &'static str, accept: String },
}

/// The words of a header that may be repeated and may hold a list.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    tokens(headers, name).filter(|word| !word.is_empty())
}

fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    let asks =
        |name: &HeaderName, word: &str| words(headers, name).any(|given| given.eq_ignore_ascii_case(word));
    asks(&header::CONNECTION, "upgrade") && asks(&header::UPGRADE, protocol)
}

/// Whether a request is to become a WebSocket.
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    asks_for(headers, "websocket")
}

/// Finds a common protocol; `spdy` and `websocket` are what we speak, the best first.
pub(super) fn negotiate(
    headers: &HeaderMap,
    spdy: &[&'static str],
    websocket: &[&'static str],
) -> Result<Transport, Status> {
    if asks_for(headers, SPDY) {
        let protocol = common(headers, &STREAM_PROTOCOL, spdy)?;
        return Ok(Transport::Spdy { protocol });
    }
    if asks_for_websocket(headers) {
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty());
        let is_known = words(headers, &header::SEC_WEBSOCKET_VERSION).any(|version| version == "13");
        let Some(key) = key.filter(|_| is_known) else {
            return Err(Status::bad_request(
                "a WebSocket needs the headers Sec-WebSocket-Key and Sec-WebSocket-Version: 13",
            ));
        };
        let protocol = common(headers, &header::SEC_WEBSOCKET_PROTOCOL, websocket)?;
        return Ok(Transport::WebSocket { protocol, accept: derive_accept_key(key.as_bytes()) });
    }
    Err(Status::bad_request("Upgrade request required"))
}

fn common(headers: &HeaderMap, name: &HeaderName, ours: &[&'static str]) -> Result<&'static str, Status> {
    if ours == [""] {
        return Ok("");
    }
    let theirs: Vec<&str> = words(headers, name).collect();
    ours.iter().find(|protocol| theirs.contains(*protocol)).copied().ok_or_else(|| {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            theirs.join(" "),
            ours.join(" ")
        );
        Status::new(403, "Forbidden", message)
    })
}

/// What the connection becomes, if it can be upgraded at all.
pub(super) fn upgradable(parts: &Parts) -> Result<OnUpgrade, Status> {
    let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
    upgrade.ok_or_else(|| Status::bad_request("Upgrade request required"))
}

/// The answer 101.
pub(super) fn switching(transport: &Transport) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    match transport {
        Transport::Spdy { protocol } => {
            headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
            headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        }
        Transport::WebSocket { protocol, accept } => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            if !protocol.is_empty() {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            }
            if let Ok(accept) = HeaderValue::from_str(accept) {
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    const WEBSOCKET: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

    #[test]
    fn the_best_common_protocol_is_taken() {
        let old = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v5.channel.k8s.io, v4.channel.k8s.io, v3.channel.k8s.io"),
        ]);
        let transport = negotiate(&old, &["v4.channel.k8s.io"], WEBSOCKET).unwrap();
        assert_eq!(transport, Transport::Spdy { protocol: "v4.channel.k8s.io" });
        // The key and answer of RFC 6455, section 1.3.
        let new = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "v4.channel.k8s.io,v5.channel.k8s.io"),
        ]);
        let transport = negotiate(&new, &[], WEBSOCKET).unwrap();
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(transport, Transport::WebSocket { protocol: "v5.channel.k8s.io", accept });
        let response = switching(&transport);
        assert_eq!(response.status().as_u16(), 101);
        assert_eq!(response.headers()["upgrade"], "websocket");
    }

    #[test]
    fn what_cannot_be_upgraded_is_told_why() {
        let plain = negotiate(&headers(&[("connection", "close")]), &[], WEBSOCKET).unwrap_err();
        assert_eq!((plain.code, plain.message.as_str()), (400, "Upgrade request required"));
        let foreign = headers(&[
            ("connection", "upgrade"),
            ("upgrade", "spdy/3.1"),
            ("x-stream-protocol-version", "v1.channel.k8s.io"),
        ]);
        let status = negotiate(&foreign, &["v4.channel.k8s.io"], &[]).unwrap_err();
        assert_eq!(status.code, 403);
        assert!(status.message.contains("client supports [v1.channel.k8s.io]"), "{}", status.message);
        let keyless = headers(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        assert!(negotiate(&keyless, &[], WEBSOCKET).unwrap_err().message.contains("Sec-WebSocket-Key"));
    }
}
