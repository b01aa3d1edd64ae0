//! What a proxy must change in messages that pass through it. Pure.

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONNECTION, EXPECT, HOST, TE, TRAILER, UPGRADE},
    uri::PathAndQuery,
};
use warren_runtime::hop_by_hop::{remove_hop_by_hop, tokens};

use crate::{
    forwarding::{self, Client, Origin},
    path,
};

/// The one protocol that connections are handed over to. Others (`h2c` above all) would carry requests past all
/// rules.
pub(crate) const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// The most fields of a message, either way.
pub(crate) const MAX_FIELDS: usize = 256;

/// What is wrong with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) StatusCode, pub(crate) &'static str);

impl From<&'static str> for Malformed {
    fn from(what: &'static str) -> Self {
        Self(StatusCode::BAD_REQUEST, what)
    }
}

/// What the rules are asked about.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: HeaderValue,
    /// In the form in which paths are judged, where that differs from the one that is passed on.
    judged: Option<Box<str>>,
    /// In the form that is passed on.
    pub(crate) passed: PathAndQuery,
}

impl Target {
    pub(crate) fn host(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.judged.as_deref().unwrap_or_else(|| self.passed.path())
    }
}

/// A request that is ready to be passed on, except for what its route changes.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) target: Target,
    pub(crate) origin: Origin,
    /// The client wants a WebSocket.
    pub(crate) upgrade: bool,
}

/// Turns a client's request into one for an upstream, except for the body: origin form, a path without dot segments,
/// one `Host`, no hop-by-hop fields, the client named in `X-Forwarded-*`.
pub(crate) fn forward<B>(request: &mut Request<B>, client: &Client) -> Result<Prepared, Malformed> {
    if request.headers().len() > MAX_FIELDS {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Malformed(status, "the request has more than 256 header fields"));
    }
    let host = settle_host(request)?;
    let (passed, judged) = settle_path(request)?;
    let upgrade = wants_websocket(request);
    let headers = request.headers_mut();
    let trailers = headers.contains_key(TE) && takes_trailers(headers);
    remove_hop_by_hop(headers);
    // Upstreams may merge them into the fields of the head, behind our back. We pass none on.
    headers.remove(TRAILER);
    // We read the body ourselves, and that answers the expectation.
    headers.remove(EXPECT);
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let origin = forwarding::apply(headers, client, &host);
    *request.version_mut() = Version::HTTP_11;
    Ok(Prepared { target: Target { host, judged, passed }, origin, upgrade })
}

/// One `Host`, which the request's target overrides (RFC 9112, 3.2.2), and a target in origin form.
fn settle_host<B>(request: &mut Request<B>) -> Result<HeaderValue, &'static str> {
    if request.method() == Method::CONNECT {
        return Err("CONNECT is not served here");
    }
    if let Some(authority) = request.uri().authority() {
        if request.uri().scheme().is_none() {
            return Err("the target is neither a path nor an URL");
        }
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::try_from(host).map_err(|_| "the host is malformed")?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host.as_bytes()) => Ok(host.clone()),
        (None, _) if request.version() < Version::HTTP_11 => Ok(HeaderValue::from_static("")),
        (None, _) => Err("the request has no Host header"),
        (Some(_), None) => Err("the Host header is malformed"),
        (Some(_), Some(_)) => Err("the request has several Host headers"),
    }
}

/// Whether it can be a host and a port (RFC 3986, 3.2.2). An empty one is allowed.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte))
}

/// The path and the query as they are passed on, and the path as it is judged where that differs.
fn settle_path<B>(request: &mut Request<B>) -> Result<(PathAndQuery, Option<Box<str>>), &'static str> {
    let given = request.uri().path_and_query().cloned();
    let given = given.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if given.path() == "*" && request.method() == Method::OPTIONS {
        return Ok((given, None));
    }
    let normal = path::normalise(given.path())?;
    let std::borrow::Cow::Owned(passed) = normal.passed else { return Ok((given, None)) };
    let passed = match given.query() {
        Some(query) => PathAndQuery::try_from(format!("{passed}?{query}")),
        None => PathAndQuery::try_from(passed),
    };
    let passed = passed.map_err(|_| "the path is malformed")?;
    *request.uri_mut() = Uri::from(passed.clone());
    Ok((passed, Some(normal.judged.into())))
}

/// Whether the connection is to become a WebSocket. Any other protocol is not taken up: the request goes on without.
fn wants_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut wanted = headers.get_all(UPGRADE).iter();
    let named = || tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    matches!((wanted.next(), wanted.next()), (Some(wanted), None) if is_websocket(wanted))
        && request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && named()
}

/// Whether this value of an `Upgrade` field names WebSockets, and nothing else.
pub(crate) fn is_websocket(value: &HeaderValue) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &TE)
        .filter_map(|token| token.split(';').next())
        .any(|token| token.trim().eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderName;
    use warren_runtime::hop_by_hop::is_end_to_end;

    use super::*;

    fn client() -> Client {
        Client::new([192, 0, 2, 7].into(), true, 443, &Arc::from([]))
    }

    fn request(fields: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().uri("/a?b");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    fn prepared(fields: &[(&'static str, &'static str)]) -> (Request<()>, Prepared) {
        let mut request = request(fields);
        let prepared = forward(&mut request, &client()).expect("a good request");
        (request, prepared)
    }

    fn forwarded(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        prepared(fields).0.headers().clone()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let ours =
            ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip"];
        let mut names: Vec<_> =
            headers.keys().map(HeaderName::as_str).filter(|name| !ours.contains(name)).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_tables_are_sorted() {
        for name in [
            "accept",
            "authorization",
            "cookie",
            "host",
            "www-authenticate",
            "x-forwarded-for",
            "x-real-ip",
            "forwarded",
            "content-length",
            "true-client-ip",
        ] {
            assert!(is_end_to_end(name), "{name}");
        }
        for name in ["x-private", "close", "keep-alive", "te", "upgrade"] {
            assert!(!is_end_to_end(name), "{name}");
        }
    }

    #[test]
    fn hop_by_hop_fields_stay_here_and_no_others() {
        let headers = forwarded(&[
            ("host", "a"),
            (
                "connection",
                "close, X-Private, Host, Content-Length, Authorization, Cookie, X-Forwarded-For, X-Real-IP",
            ),
            ("connection", "http2-settings, x-api-key"),
            ("x-private", "1"),
            ("authorization", "Basic eA=="),
            ("cookie", "a=b"),
            ("x-api-key", "k"),
            ("http2-settings", "AAMAAABk"),
            ("content-length", "5"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("trailer", "x-forwarded-for"),
            ("accept", "*/*"),
        ]);
        assert_eq!(
            names(&headers),
            ["accept", "authorization", "content-length", "cookie", "host", "x-api-key"]
        );
        assert_eq!(
            (&headers["x-forwarded-for"], &headers["x-real-ip"]),
            (&headers["x-real-ip"], &headers["x-forwarded-for"])
        );
    }

    #[test]
    fn a_length_beside_an_encoding_is_not_forwarded() {
        let headers = forwarded(&[("host", "a"), ("content-length", "5"), ("transfer-encoding", "chunked")]);
        assert!(!headers.contains_key("content-length") && !headers.contains_key("transfer-encoding"));
    }

    #[test]
    fn trailers_are_asked_for_when_the_client_takes_them() {
        let headers = forwarded(&[("host", "a"), ("te", "gzip;q=0.5, Trailers")]);
        assert_eq!(
            (&headers["te"], &headers["connection"]),
            (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("te"))
        );
        assert!(!forwarded(&[("host", "a"), ("te", "gzip")]).contains_key("te"));
        let mut response = HeaderMap::new();
        response.insert(TRAILER, HeaderValue::from_static("grpc-status"));
        remove_hop_by_hop(&mut response);
        assert!(response.contains_key(TRAILER));
    }

    #[test]
    fn a_websocket_is_the_one_upgrade_and_only_when_the_connection_names_it() {
        let fields = |protocol: &'static str| {
            [("host", "a"), ("connection", "keep-alive, Upgrade, HTTP2-Settings"), ("upgrade", protocol)]
        };
        for protocol in ["websocket", "WebSocket"] {
            let (request, prepared) = prepared(&fields(protocol));
            assert!(prepared.upgrade);
            assert_eq!(request.headers()["connection"], "upgrade");
            assert_eq!(request.headers()["upgrade"], "websocket");
        }
        for protocol in ["h2c", "TLS/1.0", "websocket, h2c", "h2c, websocket", "", "foo"] {
            let (request, prepared) = prepared(&fields(protocol));
            assert!(!prepared.upgrade, "{protocol}");
            assert_eq!(names(request.headers()), ["host"], "{protocol}");
        }
        let twice = [("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")];
        assert!(!prepared(&twice).1.upgrade);
        assert!(!prepared(&[("host", "a"), ("upgrade", "websocket")]).1.upgrade);
        let mut post = request(&fields("websocket"));
        *post.method_mut() = Method::POST;
        assert!(!forward(&mut post, &client()).expect("a good request").upgrade);
    }

    #[test]
    fn the_target_overrides_the_host_header() {
        let mut request = request(&[("host", "b.test")]);
        *request.uri_mut() = Uri::from_static("http://user@a.test:8080/x?y");
        let prepared = forward(&mut request, &client()).expect("a good request");
        assert_eq!(request.headers()["host"], "a.test:8080");
        assert_eq!(prepared.target.host(), "a.test:8080");
        assert_eq!(request.uri(), "/x?y");
    }

    #[test]
    fn what_is_judged_is_what_is_passed_on() {
        let mut request = request(&[("host", "a")]);
        *request.uri_mut() = Uri::from_static("/public/%2e%2E/adm%69n%24?q=/../%2e");
        let prepared = forward(&mut request, &client()).expect("a good request");
        assert_eq!(request.uri(), "/admin%24?q=/../%2e");
        assert_eq!(
            (prepared.target.path(), prepared.target.passed.as_str()),
            ("/admin$", "/admin%24?q=/../%2e")
        );
    }

    #[test]
    fn malformed_requests_say_what_is_wrong() {
        let wrong = |mut request: Request<()>| forward(&mut request, &client()).expect_err("malformed").1;
        assert_eq!(wrong(request(&[])), "the request has no Host header");
        assert_eq!(wrong(request(&[("host", "a"), ("host", "b")])), "the request has several Host headers");
        for host in ["a/b", "user@a", "a b", "a?b", "a#b", "\"a\""] {
            assert_eq!(wrong(request(&[("host", host)])), "the Host header is malformed", "{host}");
        }
        let mut connect = request(&[("host", "a")]);
        *connect.method_mut() = Method::CONNECT;
        assert_eq!(wrong(connect), "CONNECT is not served here");
        let mut star = request(&[("host", "a")]);
        *star.uri_mut() = Uri::from_static("*");
        assert_eq!(wrong(star), "the target is neither a path nor an URL");
        let mut old = request(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert!(forward(&mut old, &client()).is_ok());
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let many = |count: usize| {
            let mut request = request(&[("host", "a")]);
            for index in 1..count {
                let name = HeaderName::try_from(format!("x-{index}")).expect("a name");
                request.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            forward(&mut request, &client()).map(|_| request.headers().len())
        };
        assert_eq!(many(MAX_FIELDS), Ok(MAX_FIELDS + 5));
        assert_eq!(
            many(MAX_FIELDS + 1).expect_err("too many").0,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        );
    }
}
