//! Which fields of a message end with a connection, for those that pass messages on. Pure.

use http::{
    HeaderMap, HeaderName,
    header::{
        CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes the fields that concern one connection only (RFC 9110, 7.6.1), those named by `Connection` too. `Trailer`
/// stays: it says which fields come behind the body.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9112, 6.3: the encoding overrides the length; passing the length on would smuggle messages.
        headers.remove(CONTENT_LENGTH);
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
        // A client must not be able to remove what frames, routes or protects its request.
        for name in named.iter().filter(|name| !is_end_to_end(name.as_str())) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        HTTP2_SETTINGS,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Whether a field is meant for the other end, by its definition: `Connection` cannot name it.
pub fn is_end_to_end(name: &str) -> bool {
    const NAMES: [&str; 36] = [
        "accept",
        "age",
        "allow",
        "authentication-info",
        "authorization",
        "baggage",
        "cache-control",
        "cookie",
        "date",
        "dnt",
        "etag",
        "expect",
        "expires",
        "from",
        "host",
        "last-event-id",
        "last-modified",
        "link",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "referer",
        "retry-after",
        "server",
        "set-cookie",
        "strict-transport-security",
        "traceparent",
        "tracestate",
        "trailer",
        "user-agent",
        "vary",
        "via",
        "warning",
        "www-authenticate",
    ];
    const PREFIXES: [&str; 9] =
        ["accept-", "access-control-", "content-", "grpc-", "if-", "sec-", "x-api-", "x-auth-", "x-csrf-"];
    NAMES.binary_search(&name).is_ok()
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || is_forwarding(name)
}

/// Whether a field names the client, or what it asked for, as proxies write them.
pub fn is_forwarding(name: &str) -> bool {
    const NAMES: [&str; 15] = [
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "forwarded-for",
        "front-end-https",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-forwarded",
        "x-original-forwarded-for",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
        "x-scheme",
    ];
    // Most names begin otherwise.
    matches!(name.as_bytes().first(), Some(b'c' | b'f' | b't' | b'x'))
        && (name.starts_with("x-forwarded-") || NAMES.binary_search(&name).is_ok())
}

/// The members of a list that may come in several fields.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}
