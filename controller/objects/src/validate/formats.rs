//! The forms of names, labels, ports and paths. Each rule returns one message per fault, in Kubernetes' words.

use std::net::IpAddr;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
    consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
    '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

const QUALIFIED_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
    or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
    regex used for validation is '[0-9]+%')";

const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const SYSCTL_NAME: &str = "must be words of lower case alphanumeric characters, '-' or '_', which start and end with an \
    alphanumeric character, joined by '.' or '/' (e.g. 'net.ipv4.tcp_syncookies')";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex \
    used for validation is '[-A-Za-z0-9]+')";

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

fn too_long(text: &str, most: usize, messages: &mut Vec<String>) {
    if text.len() > most {
        messages.push(format!("must be no more than {most} bytes"));
    }
}

fn judge(text: &str, most: usize, good: bool, message: &str) -> Vec<String> {
    let mut messages = Vec::new();
    too_long(text, most, &mut messages);
    if !good {
        messages.push(message.to_owned());
    }
    messages
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| inner(b) || b == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`
fn is_name_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric();
    text.bytes().all(|b| inner(b) || b"-_.".contains(&b))
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

/// An RFC 1123 label.
pub(crate) fn label(text: &str) -> Vec<String> {
    judge(text, 63, is_label(text), LABEL)
}

/// An RFC 1123 subdomain.
pub(crate) fn subdomain(text: &str) -> Vec<String> {
    judge(text, 253, is_subdomain(text), SUBDOMAIN)
}

/// What can be a part of a path, as Kubernetes says it.
pub(crate) fn path_segment(text: &str) -> Vec<String> {
    if matches!(text, "." | "..") {
        return vec![format!("may not be '{text}'")];
    }
    let bad = ["/", "%"].into_iter().filter(|bad| text.contains(bad));
    bad.map(|bad| format!("may not contain '{bad}'")).collect()
}

/// A subdomain whose first label is `*`.
pub(crate) fn wildcard(text: &str) -> Vec<String> {
    judge(text, 253, text.strip_prefix("*.").is_some_and(is_subdomain), WILDCARD)
}

/// An RFC 1035 label: begins with a letter.
pub(crate) fn dns_1035(text: &str) -> Vec<String> {
    let good = is_label(text) && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    judge(text, 63, good, DNS_1035)
}

/// The key of a label or an annotation: an optional subdomain and '/', then a name.
pub(crate) fn qualified_name(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let (prefix, name) = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => (None, *name),
        [prefix, name] => (Some(*prefix), *name),
        _ => {
            return vec![format!(
                "a qualified name {QUALIFIED_NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    match prefix {
        Some("") => messages.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => messages.extend(subdomain(prefix).into_iter().map(|m| format!("prefix part {m}"))),
        None => {}
    }
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        messages.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name_part(name) {
        messages.push(format!("name part {QUALIFIED_NAME}"));
    }
    messages
}

/// The path of a URL.
pub(crate) fn http_path(text: &str) -> Vec<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !text.is_empty() && text.bytes().all(good) {
        return Vec::new();
    }
    let form = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    vec![format!("Invalid path (regex used for validation is '{form}')")]
}

/// The value of a label.
pub(crate) fn label_value(text: &str) -> Vec<String> {
    judge(text, 63, text.is_empty() || is_name_part(text), LABEL_VALUE)
}

/// The name of a port: at most 15 of letters, digits and single hyphens.
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    too_long(text, 15, &mut messages);
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

/// The name of an environment variable.
pub(crate) fn env_name(text: &str) -> Vec<String> {
    let good = !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    if good { Vec::new() } else { vec![ENV_NAME.to_owned()] }
}

/// The name of a kernel parameter: words between dots or slashes.
pub(super) fn sysctl_name(text: &str) -> Vec<String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let word = |word: &str| {
        word.bytes().all(|b| inner(b) || b == b'-' || b == b'_')
            && word.bytes().next().is_some_and(inner)
            && word.bytes().last().is_some_and(inner)
    };
    judge(text, 253, text.split(['.', '/']).all(word), SYSCTL_NAME)
}

/// A key of a ConfigMap or a Secret, which is a file's name when mounted.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let mut messages = judge(text, 253, good, CONFIG_KEY);
    match text {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

/// A whole percentage: "25%".
pub(crate) fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or("");
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if good { Vec::new() } else { vec![PERCENT.to_owned()] }
}

/// The name of an HTTP header.
pub(crate) fn header_name(text: &str) -> Vec<String> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if good { Vec::new() } else { vec![HEADER.to_owned()] }
}

/// An IP address as it is written most shortly.
pub(crate) fn canonical_ip(text: &str) -> Vec<String> {
    let is_canonical = text.parse::<IpAddr>().is_ok_and(|address| address.to_string() == text);
    if is_canonical { Vec::new() } else { vec!["must be a valid IP address in canonical form".to_owned()] }
}

/// An IP address.
pub(crate) fn ip(text: &str) -> Vec<String> {
    if text.parse::<IpAddr>().is_ok() { Vec::new() } else { vec![IP.to_owned()] }
}

/// An IP address to which clients may be sent: none of the machine that sends, of its link or of many.
///
/// Source: the rules of Kubernetes for endpoints, and beyond them all of multicast and the broadcast address, which lead
/// to no one endpoint either.
pub(crate) fn endpoint_ip(text: &str) -> Vec<String> {
    let Ok(address) = text.parse::<IpAddr>() else { return vec![IP.to_owned()] };
    not_an_endpoint(address).into_iter().collect()
}

/// Why an address is nobody's to be reached at by others. One of IPv4 in the form of IPv6 is what it stands for.
fn not_an_endpoint(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let (link_local, link_multicast, broadcast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), matches!(v4.octets(), [224, 0, 0, _]), v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02, false),
    };
    if address.is_unspecified() {
        return Some(format!("may not be unspecified ({address})"));
    }
    let range = if address.is_loopback() {
        "in the loopback range (127.0.0.0/8, ::1/128)"
    } else if link_local {
        "in the link-local range (169.254.0.0/16, fe80::/10)"
    } else if link_multicast {
        "in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    } else if address.is_multicast() {
        "in the multicast range (224.0.0.0/4, ff00::/8)"
    } else if broadcast {
        "the broadcast address (255.255.255.255)"
    } else {
        return None;
    };
    Some(format!("may not be {range}"))
}

/// A path below a volume: relative, and never out of it.
pub(crate) fn path_below(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.starts_with('/') {
        messages.push("must be a relative path".to_owned());
    }
    messages.extend(no_backsteps(text));
    messages
}

/// A path of a file below a volume, as it is written on a node: each part of it is a name.
pub(crate) fn file_below(text: &str) -> Vec<String> {
    let mut messages = path_below(text);
    if messages.is_empty() && text.split('/').any(|part| matches!(part, "" | ".")) {
        messages.push("must not have empty parts or '.' as a part".to_owned());
    }
    messages
}

/// A path of a directory or file in a volume, of which a container sees that alone.
pub(crate) fn sub_path(text: &str) -> Vec<String> {
    let mut messages = path_below(text);
    if text.split('/').next() == Some(".") {
        messages.push("must not begin with '.' as a part: leave it out".to_owned());
    }
    messages
}

/// A path of the machine.
pub(crate) fn absolute_path(text: &str) -> Vec<String> {
    let mut messages = no_backsteps(text);
    if !text.starts_with('/') {
        messages.push("must be an absolute path".to_owned());
    }
    messages
}

/// A path without `..`.
pub(crate) fn no_backsteps(text: &str) -> Vec<String> {
    if text.split('/').any(|part| part == "..") {
        vec!["must not contain '..'".to_owned()]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "my-name", "123-abc", &"a".repeat(63)] {
            assert!(label(good).is_empty(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ü", &"a".repeat(64)] {
            assert!(!label(bad).is_empty(), "{bad}");
        }
        assert!(
            subdomain("a.b-c.d").is_empty() && !subdomain("a..b").is_empty() && !subdomain(".").is_empty()
        );
        assert!(wildcard("*.a.b").is_empty() && !wildcard("a.*.b").is_empty() && !wildcard("*.").is_empty());
        assert!(dns_1035("web-1").is_empty() && !dns_1035("1web").is_empty());
    }

    #[test]
    fn keys_and_values() {
        for good in ["app", "app.kubernetes.io/name", "A_b.c-1"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "A.B/c", "_a", "a b"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(
            label_value("").is_empty() && label_value("v1.2_3").is_empty() && !label_value("a/b").is_empty()
        );
        assert!(config_key(".dockerconfigjson").is_empty() && !config_key("..data").is_empty());
        assert!(!config_key("a/b").is_empty() && !config_key("").is_empty());
    }

    #[test]
    fn endpoints_are_others() {
        for good in ["10.42.0.7", "8.8.8.8", "192.168.0.1", "2001:db8::1", "fd00::1"] {
            assert_eq!(endpoint_ip(good), Vec::<String>::new(), "{good}");
        }
        for (bad, why) in [
            ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
            ("::", "may not be unspecified (::)"),
            ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("127.255.0.9", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("::1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("::ffff:127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("169.254.169.254", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ("fe80::1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ("224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ("ff02::1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ("239.1.2.3", "may not be in the multicast range (224.0.0.0/4, ff00::/8)"),
            ("ff0e::1", "may not be in the multicast range (224.0.0.0/4, ff00::/8)"),
            ("255.255.255.255", "may not be the broadcast address (255.255.255.255)"),
            ("web", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ] {
            assert_eq!(endpoint_ip(bad), [why], "{bad}");
        }
    }

    #[test]
    fn the_rest() {
        assert!(port_name("http-2").is_empty());
        for bad in ["80", "a--b", "-a", "HTTP", "a-name-that-is-long"] {
            assert!(!port_name(bad).is_empty(), "{bad}");
        }
        assert!(percent("25%").is_empty() && !percent("25").is_empty() && !percent("%").is_empty());
        assert!(env_name("my.var-1").is_empty() && !env_name("A=B").is_empty() && !env_name("").is_empty());
        assert!(
            path_below("a/b..c").is_empty()
                && !path_below("a/../b").is_empty()
                && !path_below("/a").is_empty()
        );
    }
}
