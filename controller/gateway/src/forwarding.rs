//! Who sent a request: what upstreams are told, and whom we believe. Pure.
//!
//! The fields that name a client are the gateway's: what a request brings of them is replaced, unless its peer is a
//! configured proxy. Spellings that backends take for the same name (CGI and WSGI make no difference between `-` and
//! `_`) are removed with them.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use warren_runtime::hop_by_hop::{is_end_to_end, is_forwarding};

use crate::addresses::within;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Who sends the requests of a connection, in the form in which upstreams are told.
#[derive(Debug)]
pub(crate) struct Client {
    ip: IpAddr,
    address: HeaderValue,
    scheme: HeaderValue,
    port: HeaderValue,
    https: bool,
    /// The proxies that are believed; none when this peer is not one of them.
    proxies: Option<Arc<[IpNet]>>,
}

/// Where a request comes from, as far as we believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client, behind the proxies that are believed.
    pub(crate) address: IpAddr,
    /// It came over TLS to us, or to such a proxy.
    pub(crate) https: bool,
}

impl Client {
    /// A peer that reached us on this port, and the proxies that are believed.
    pub(crate) fn new(peer: IpAddr, https: bool, port: u16, proxies: &Arc<[IpNet]>) -> Self {
        let ip = peer.to_canonical();
        let address = HeaderValue::try_from(ip.to_string());
        Self {
            ip,
            address: address.expect("an address is made of visible characters"),
            scheme: scheme(https),
            port: HeaderValue::from(port),
            https,
            proxies: within(proxies, ip).then(|| proxies.clone()),
        }
    }
}

fn scheme(https: bool) -> HeaderValue {
    HeaderValue::from_static(if https { "https" } else { "http" })
}

/// Whether a name means to some backends one that is ours, or that frames or protects the request.
fn is_alias(name: &str) -> bool {
    const HOP_BY_HOP: [&str; 7] = [
        "connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    if !name.contains('_') {
        return false;
    }
    let meant = name.replace('_', "-");
    is_end_to_end(&meant) || HOP_BY_HOP.contains(&&*meant)
}

/// Sets the fields that name the client.
pub(crate) fn apply(headers: &mut HeaderMap, client: &Client, host: &HeaderValue) -> Origin {
    let unwanted = |name: &&HeaderName| {
        let name = name.as_str();
        is_alias(name) || (client.proxies.is_none() && is_forwarding(name))
    };
    let unwanted: Vec<HeaderName> = headers.keys().filter(unwanted).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
    match &client.proxies {
        None => {
            headers.insert(FOR, client.address.clone());
            headers.insert(REAL_IP, client.address.clone());
            headers.insert(PROTO, client.scheme.clone());
            headers.insert(PORT, client.port.clone());
            // A request of HTTP/1.0 may have none.
            if !host.is_empty() {
                headers.insert(FORWARDED_HOST, host.clone());
            }
            Origin { address: client.ip, https: client.https }
        }
        Some(proxies) => continue_chain(headers, client, proxies, host),
    }
}

/// The peer is a proxy: what it says stays, and the peer is added.
fn continue_chain(headers: &mut HeaderMap, client: &Client, proxies: &[IpNet], host: &HeaderValue) -> Origin {
    let address = first_stranger(headers, client, proxies);
    let told = one(headers, &PROTO).and_then(|proto| match proto.to_ascii_lowercase().as_str() {
        "https" => Some(true),
        "http" => Some(false),
        _ => None,
    });
    let https = told.unwrap_or(client.https);
    headers.insert(PROTO, scheme(https));
    if one(headers, &PORT).is_none_or(|port| port.parse::<u16>().is_err()) {
        let port = told
            .map_or_else(|| client.port.clone(), |https| HeaderValue::from(if https { 443 } else { 80_u16 }));
        headers.insert(PORT, port);
    }
    if one(headers, &FORWARDED_HOST).is_none_or(str::is_empty) && !host.is_empty() {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    let chain = appended(headers, &FOR, client.address.as_bytes());
    headers.insert(FOR, chain.unwrap_or_else(|| client.address.clone()));
    if let Ok(address) = HeaderValue::try_from(address.to_string()) {
        headers.insert(REAL_IP, address);
    }
    if headers.contains_key(FORWARDED) {
        let mut hop = String::new();
        let _ = match client.ip {
            IpAddr::V4(ip) => write!(hop, "for={ip}"),
            IpAddr::V6(ip) => write!(hop, "for=\"[{ip}]\""),
        };
        match appended(headers, &FORWARDED, hop.as_bytes()) {
            Some(chain) => headers.insert(FORWARDED, chain),
            None => headers.remove(FORWARDED),
        };
    }
    Origin { address, https }
}

/// The value of a field that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(first)
}

/// The list in all fields of that name, and one more member.
fn appended(headers: &HeaderMap, name: &HeaderName, member: &[u8]) -> Option<HeaderValue> {
    let earlier = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let chain: Vec<&[u8]> = earlier.filter(|hop| !hop.is_empty()).chain([member]).collect();
    HeaderValue::from_bytes(&chain.join(&b", "[..])).ok()
}

/// The client: of the chain that ends with the peer, the last one that is no believed proxy. Where the chain says
/// nothing that we understand, the one who said so.
fn first_stranger(headers: &HeaderMap, client: &Client, proxies: &[IpNet]) -> IpAddr {
    let values: Vec<&str> = headers
        .get_all(FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut last = client.ip;
    for hop in values.into_iter().rev() {
        let Some(address) = address_of(hop.trim()) else { break };
        last = address;
        if !within(proxies, address) {
            break;
        }
    }
    last
}

/// An address, with or without a port.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    let address = hop.parse().ok().or_else(|| bare?.parse().ok());
    let address = address.or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|at| at.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &[&str]) -> Client {
        let proxies: Vec<IpNet> = proxies.iter().map(|network| network.parse().expect("a network")).collect();
        Client::new([192, 0, 2, 7].into(), false, 8080, &proxies.into())
    }

    fn forwarded(fields: &[(&'static str, &'static str)], client: &Client) -> (HeaderMap, Origin) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let origin = apply(&mut headers, client, &HeaderValue::from_static("a.test"));
        (headers, origin)
    }

    const FORGED: &[(&str, &str)] = &[
        ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
        ("x-forwarded-for", "10.0.0.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bank.test"),
        ("x-forwarded-port", "444"),
        ("x-forwarded-prefix", "/x"),
        ("x-real-ip", "10.0.0.9"),
        ("forwarded", "for=10.0.0.9"),
        ("x-original-url", "/admin"),
        ("x_forwarded_for", "10.0.0.9"),
        ("x_real_ip", "10.0.0.9"),
        ("content_length", "9"),
        ("x_custom", "stays"),
        ("x-custom", "stays"),
    ];

    #[test]
    fn what_a_stranger_says_about_itself_is_replaced() {
        let (headers, origin) = forwarded(FORGED, &client(&["10.0.0.0/8"]));
        let mut fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        fields.sort_unstable();
        let expected = [
            "x-custom: stays",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-host: a.test",
            "x-forwarded-port: 8080",
            "x-forwarded-proto: http",
            "x-real-ip: 192.0.2.7",
            "x_custom: stays",
        ];
        assert_eq!(fields, expected);
        assert_eq!(origin, Origin { address: [192, 0, 2, 7].into(), https: false });
    }

    #[test]
    fn what_a_believed_proxy_says_is_continued() {
        let (headers, origin) = forwarded(FORGED, &client(&["192.0.2.0/24", "10.0.0.3/32"]));
        for (name, value) in [
            ("x-forwarded-for", "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.test"),
            ("x-forwarded-port", "444"),
            ("x-forwarded-prefix", "/x"),
            ("x-real-ip", "10.0.0.2"),
            ("forwarded", "for=10.0.0.9, for=192.0.2.7"),
        ] {
            assert_eq!(headers[name], value, "{name}");
            assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
        }
        assert!(!headers.contains_key("x_forwarded_for"), "nobody is believed under another name");
        assert_eq!(origin, Origin { address: [10, 0, 0, 2].into(), https: true });
    }

    #[test]
    fn a_believed_proxy_that_says_nothing_is_the_client() {
        let (headers, origin) = forwarded(&[], &client(&["192.0.2.7/32"]));
        assert_eq!(headers["x-real-ip"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-port"], "8080");
        assert_eq!(origin, Origin { address: [192, 0, 2, 7].into(), https: false });
        let odd = forwarded(
            &[("x-forwarded-for", "unknown"), ("x-forwarded-proto", "gopher")],
            &client(&["192.0.2.7/32"]),
        );
        assert_eq!(odd.1, origin);
        assert_eq!(odd.0["x-forwarded-proto"], "http");
    }

    #[test]
    fn addresses_of_proxies_are_read_in_all_their_forms() {
        for (hop, expected) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("10.0.0.1:4711", Some("10.0.0.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(address_of(hop).map(|address| address.to_string()).as_deref(), expected, "{hop}");
        }
        let mapped = Client::new("::ffff:192.0.2.7".parse().expect("an address"), true, 443, &Arc::from([]));
        assert_eq!(
            (mapped.address, mapped.scheme),
            (HeaderValue::from_static("192.0.2.7"), HeaderValue::from_static("https"))
        );
    }
}
