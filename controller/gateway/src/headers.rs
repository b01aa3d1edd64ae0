//! What a proxy must change in messages that pass through it. Pure.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who sends the requests of a connection, in the form in which upstreams are told.
#[derive(Debug)]
pub(crate) struct Client {
    address: HeaderValue,
    scheme: HeaderValue,
}

impl Client {
    pub(crate) fn new(address: IpAddr, https: bool) -> Self {
        let address = HeaderValue::try_from(address.to_canonical().to_string());
        let scheme = HeaderValue::from_static(if https { "https" } else { "http" });
        Self { address: address.expect("an address is made of visible characters"), scheme }
    }
}

/// Turns a client's request into one for an upstream, except for the body: origin form, one `Host`, no
/// hop-by-hop fields, the client named in `X-Forwarded-*`. Returns the protocol of a wanted upgrade, or
/// what is wrong with the request.
pub(crate) fn forward<B>(
    request: &mut Request<B>,
    client: &Client,
) -> Result<Option<HeaderValue>, &'static str> {
    settle_host(request)?;
    let upgrade = wanted_upgrade(request);
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    // We read the body ourselves, and that answers the expectation.
    headers.remove(EXPECT);
    if let Some(protocol) = &upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    let chain = forwarded_for(headers, &client.address);
    headers.insert(FORWARDED_FOR, chain);
    headers.insert(FORWARDED_PROTO, client.scheme.clone());
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    *request.version_mut() = Version::HTTP_11;
    Ok(upgrade)
}

/// One `Host`, which the request's target overrides (RFC 9112, 3.2.2), and a target in origin form.
fn settle_host<B>(request: &mut Request<B>) -> Result<(), &'static str> {
    if request.method() == Method::CONNECT {
        return Err("CONNECT is not served here");
    }
    if let Some(authority) = request.uri().authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::try_from(host).map_err(|_| "the host is malformed")?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.to_str().is_ok() => Ok(()),
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (None, _) => Err("the request has no Host header"),
        (Some(_), None) => Err("the Host header is malformed"),
        (Some(_), Some(_)) => Err("the request has several Host headers"),
    }
}

fn wanted_upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let headers = request.headers();
    let protocol = headers.get(UPGRADE)?;
    let named = tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    (named && request.version() == Version::HTTP_11).then(|| protocol.clone())
}

/// The options of the `Connection` header.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Removes the fields that concern one connection only (RFC 9110, 7.6.1), those named by `Connection` too.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9112, 6.3: the encoding overrides the length; passing the length on would smuggle messages.
        headers.remove(CONTENT_LENGTH);
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers).filter_map(|token| token.parse().ok()).collect();
        // A client must not be able to remove what frames and routes its request.
        for name in named.iter().filter(|name| **name != HOST && **name != CONTENT_LENGTH) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// The client's address at the end of the chain that the request brought.
fn forwarded_for(headers: &HeaderMap, address: &HeaderValue) -> HeaderValue {
    if !headers.contains_key(FORWARDED_FOR) {
        return address.clone();
    }
    let earlier = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let chain: Vec<&[u8]> = earlier.filter(|hop| !hop.is_empty()).chain([address.as_bytes()]).collect();
    HeaderValue::from_bytes(&chain.join(&b", "[..])).unwrap_or_else(|_| address.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new([192, 0, 2, 7].into(), true)
    }

    fn request(fields: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().uri("/a?b");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    fn forwarded(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut request = request(fields);
        forward(&mut request, &client()).expect("a good request");
        request.headers().clone()
    }

    #[test]
    fn the_client_is_named_and_the_chain_kept() {
        let headers = forwarded(&[("host", "a.test:8080"), ("x-forwarded-proto", "gopher")]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "a.test:8080");
        assert_eq!(headers["host"], "a.test:8080");
        let headers = forwarded(&[
            ("host", "a"),
            ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
            ("x-forwarded-for", "10.0.0.3"),
        ]);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        let mapped = Client::new("::ffff:192.0.2.7".parse().expect("an address"), false);
        assert_eq!(mapped.address, "192.0.2.7");
    }

    #[test]
    fn hop_by_hop_fields_stay_here() {
        let headers = forwarded(&[
            ("host", "a"),
            ("connection", "close, X-Private, Host, Content-Length"),
            ("x-private", "1"),
            ("content-length", "5"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected =
            ["accept", "content-length", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_length_beside_an_encoding_is_not_forwarded() {
        let headers = forwarded(&[("host", "a"), ("content-length", "5"), ("transfer-encoding", "chunked")]);
        assert!(!headers.contains_key("content-length") && !headers.contains_key("transfer-encoding"));
    }

    #[test]
    fn an_upgrade_passes_only_when_the_connection_names_it() {
        let mut wanted =
            request(&[("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(forward(&mut wanted, &client()), Ok(Some(HeaderValue::from_static("websocket"))));
        assert_eq!(wanted.headers()["connection"], "upgrade");
        assert_eq!(wanted.headers()["upgrade"], "websocket");
        let mut unnamed = request(&[("host", "a"), ("upgrade", "websocket")]);
        assert_eq!(forward(&mut unnamed, &client()), Ok(None));
        assert!(!unnamed.headers().contains_key("upgrade"));
    }

    #[test]
    fn the_target_overrides_the_host_header() {
        let mut request = request(&[("host", "b.test")]);
        *request.uri_mut() = Uri::from_static("http://user@a.test:8080/x?y");
        forward(&mut request, &client()).expect("a good request");
        assert_eq!(request.headers()["host"], "a.test:8080");
        assert_eq!(request.uri(), "/x?y");
    }

    #[test]
    fn malformed_requests_say_what_is_wrong() {
        let wrong = |mut request: Request<()>| forward(&mut request, &client()).expect_err("malformed");
        assert_eq!(wrong(request(&[])), "the request has no Host header");
        assert_eq!(wrong(request(&[("host", "a"), ("host", "b")])), "the request has several Host headers");
        let mut connect = request(&[("host", "a")]);
        *connect.method_mut() = Method::CONNECT;
        assert_eq!(wrong(connect), "CONNECT is not served here");
        let mut old = request(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(forward(&mut old, &client()), Ok(None));
    }
}
