//! What an Ingress's annotations ask for, in the words of ingress-nginx, which most manifests use.
//!
//! A value that cannot be understood is named, and where it stands for a protection, nobody passes.

use std::collections::BTreeMap;

use ipnet::IpNet;
use warren_proto::control::HttpPolicy;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";
/// The longest time-out, in seconds: a day.
const LONGEST: u32 = 86_400;

/// The meaning of an Ingress's annotations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    /// For each of its routes, except for what depends on the route's host.
    pub policy: HttpPolicy,
    /// Paths that are not exact are regular expressions.
    pub regex: bool,
    /// Hosts that have a certificate answer plain HTTP by a redirect.
    pub redirect_where_tls: bool,
    /// The Secret of the users, in the Ingress's namespace, and whether each of its keys is a user.
    pub users: Option<(String, bool)>,
    /// What cannot be understood: a sentence each.
    pub problems: Vec<String>,
}

/// Reads the annotations of an Ingress in this namespace.
pub fn read(namespace: &str, annotations: Option<&BTreeMap<String, String>>) -> Annotations {
    let mut read = Annotations::default();
    let Some(annotations) = annotations else { return read };
    if annotations.keys().any(|name| name.starts_with(PREFIX)) {
        let mut reader = Reader { annotations, read: &mut read };
        reader.time_outs();
        reader.redirects();
        reader.paths();
        reader.backend();
        reader.sources();
        reader.users(namespace);
    }
    read
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    read: &'a mut Annotations,
}

impl<'a> Reader<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let value = self.annotations.get(&format!("{PREFIX}{name}"))?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// An annotation's meaning; what it cannot mean is a problem.
    fn parse<T>(&mut self, name: &str, wanted: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            let value: String = value.chars().take(100).collect();
            self.read.problems.push(format!("annotation {PREFIX}{name}: {value:?} is not {wanted}"));
        }
        parsed
    }

    fn flag(&mut self, name: &str) -> bool {
        let parse = |value: &str| value.to_ascii_lowercase().parse::<bool>().ok();
        self.parse(name, "\"true\" or \"false\"", parse).unwrap_or(false)
    }

    fn seconds(&mut self, name: &str) -> u32 {
        let parse = |value: &str| {
            let digits = value.strip_suffix('s').unwrap_or(value);
            digits.parse::<u32>().ok().filter(|seconds| (1..=LONGEST).contains(seconds))
        };
        self.parse(name, "a number of seconds from 1 to 86400", parse).unwrap_or(0)
    }

    fn time_outs(&mut self) {
        self.read.policy.connect_timeout_seconds = self.seconds("proxy-connect-timeout");
        self.read.policy.read_timeout_seconds = self.seconds("proxy-read-timeout");
        self.read.policy.send_timeout_seconds = self.seconds("proxy-send-timeout");
    }

    fn redirects(&mut self) {
        self.read.redirect_where_tls = self.flag("ssl-redirect");
        self.read.policy.redirect_to_https = self.flag("force-ssl-redirect");
        let is_url = |value: &str| {
            let fit = ["http://", "https://", "/"].iter().any(|start| value.starts_with(start));
            (fit && is_visible(value)).then(|| value.to_owned())
        };
        for (name, default) in [("temporal-redirect", 302), ("permanent-redirect", 301)] {
            let Some(url) = self.parse(name, "an absolute URL or path", is_url) else { continue };
            let is_code = |value: &str| value.parse::<u32>().ok().filter(|code| (300..=308).contains(code));
            let code = self.parse(&format!("{name}-code"), "a number from 300 to 308", is_code);
            if self.read.policy.redirect_url.is_empty() {
                self.read.policy.redirect_url = url;
                self.read.policy.redirect_status = code.unwrap_or(default);
            }
        }
        self.read.policy.app_root = self.parse("app-root", "an absolute path", is_path).unwrap_or_default();
    }

    fn paths(&mut self) {
        let target = self.parse("rewrite-target", "an absolute path, or a group", |value| {
            let fit = value.starts_with('/') || value.starts_with('$');
            (fit && is_visible(value)).then(|| value.to_owned())
        });
        let target = target.unwrap_or_default();
        // A group stands for nothing where there is no expression.
        self.read.regex = self.flag("use-regex") || target.contains('$');
        self.read.policy.rewrite_target = target;
        let bytes = self.parse("proxy-body-size", "a size such as \"8m\"", size);
        self.read.policy.max_body_bytes = bytes.unwrap_or(0);
    }

    fn backend(&mut self) {
        let http2 = self.parse("backend-protocol", "HTTP or GRPC", |value| {
            match value.to_ascii_uppercase().as_str() {
                "HTTP" | "AUTO_HTTP" => Some(false),
                "GRPC" => Some(true),
                _ => None,
            }
        });
        // Another protocol would be spoken to a backend that does not understand it.
        if http2.is_none() && self.get("backend-protocol").is_some() {
            self.refuse("its backend-protocol is neither HTTP nor GRPC");
        }
        self.read.policy.http2 = http2.unwrap_or(false);
        let is_host = |value: &str| {
            let fit = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
            fit.then(|| value.to_owned())
        };
        self.read.policy.upstream_host = self.parse("upstream-vhost", "a host", is_host).unwrap_or_default();
    }

    fn sources(&mut self) {
        for name in ["whitelist-source-range", "allowlist-source-range"] {
            let networks = self.parse(name, "a list of CIDRs", |value| {
                let networks: Option<Vec<String>> = value
                    .split(',')
                    .map(str::trim)
                    .filter(|network| !network.is_empty())
                    .map(|network| {
                        let address = || network.parse::<std::net::IpAddr>().ok().map(IpNet::from);
                        network.parse::<IpNet>().ok().or_else(address).map(|network| network.to_string())
                    })
                    .collect();
                networks.filter(|networks| !networks.is_empty())
            });
            match networks {
                Some(networks) => self.read.policy.allowed_sources.extend(networks),
                None if self.get(name).is_some() => self.refuse("its list of sources cannot be understood"),
                None => {}
            }
        }
    }

    fn users(&mut self, namespace: &str) {
        let Some(kind) = self.get("auth-type") else { return };
        if !kind.eq_ignore_ascii_case("basic") {
            self.parse("auth-type", "\"basic\", the one kind that is served", |_| None::<()>);
            return self.refuse("its auth-type is not \"basic\"");
        }
        let secret = self.parse("auth-secret", "a Secret of the Ingress's own namespace", |value| {
            let name = value.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/')).unwrap_or(value);
            (!name.contains('/')).then(|| name.to_owned())
        });
        let Some(secret) = secret else { return self.refuse("its auth-secret is missing or malformed") };
        let by_key = self.parse("auth-secret-type", "auth-file or auth-map", |value| match value {
            "auth-file" => Some(false),
            "auth-map" => Some(true),
            _ => None,
        });
        let by_key = by_key.unwrap_or(false);
        self.read.policy.basic_authentication = users_key(namespace, &secret, by_key);
        self.read.policy.realm = self.get("auth-realm").unwrap_or_default().to_owned();
        self.read.users = Some((secret, by_key));
    }

    fn refuse(&mut self, reason: &str) {
        if self.read.policy.refusal.is_empty() {
            reason.clone_into(&mut self.read.policy.refusal);
        }
    }
}

/// Under which key the gateways get a Secret's users.
pub fn users_key(namespace: &str, secret: &str, by_key: bool) -> String {
    format!("basic/{namespace}/{secret}{}", if by_key { ":map" } else { "" })
}

fn is_visible(value: &str) -> bool {
    value.len() <= 2048 && value.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_path(value: &str) -> Option<String> {
    (value.starts_with('/') && is_visible(value)).then(|| value.to_owned())
}

/// A size as nginx writes it. 0, which there means any size, is nothing here.
fn size(value: &str) -> Option<u64> {
    let (digits, unit) = match value.as_bytes().last()? {
        b'k' | b'K' => (&value[..value.len() - 1], 1 << 10),
        b'm' | b'M' => (&value[..value.len() - 1], 1 << 20),
        b'g' | b'G' => (&value[..value.len() - 1], 1 << 30),
        _ => (value, 1_u64),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        let map =
            pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect();
        read("shop", Some(&map))
    }

    #[test]
    fn each_annotation_has_its_meaning() {
        let read = annotations(&[
            ("proxy-connect-timeout", "5"),
            ("proxy-read-timeout", "120s"),
            ("proxy-send-timeout", "7"),
            ("ssl-redirect", "true"),
            ("force-ssl-redirect", "True"),
            ("temporal-redirect", "https://a.test/"),
            ("permanent-redirect", "https://b.test/"),
            ("app-root", "/app"),
            ("rewrite-target", "/$2"),
            ("proxy-body-size", "8m"),
            ("backend-protocol", "grpc"),
            ("upstream-vhost", "c.test:80"),
            ("whitelist-source-range", "10.0.0.0/8, 192.0.2.1"),
            ("auth-type", "basic"),
            ("auth-secret", "shop/users"),
            ("auth-realm", "the shop"),
        ]);
        assert_eq!(read.problems, Vec::<String>::new());
        let expected = HttpPolicy {
            connect_timeout_seconds: 5,
            read_timeout_seconds: 120,
            send_timeout_seconds: 7,
            rewrite_target: "/$2".into(),
            redirect_to_https: true,
            redirect_url: "https://a.test/".into(),
            redirect_status: 302,
            app_root: "/app".into(),
            basic_authentication: "basic/shop/users".into(),
            realm: "the shop".into(),
            allowed_sources: vec!["10.0.0.0/8".into(), "192.0.2.1/32".into()],
            max_body_bytes: 8 << 20,
            http2: true,
            upstream_host: "c.test:80".into(),
            refusal: String::new(),
        };
        assert_eq!(read.policy, expected);
        assert!(read.regex && read.redirect_where_tls);
        assert_eq!(read.users, Some(("users".into(), false)));
    }

    #[test]
    fn what_cannot_be_understood_is_named_and_protections_hold() {
        let harmless = annotations(&[
            ("proxy-read-timeout", "soon"),
            ("proxy-send-timeout", "0"),
            ("proxy-connect-timeout", "99999999999"),
            ("proxy-body-size", "18446744073709551615g"),
            ("ssl-redirect", "yes"),
            ("app-root", "app"),
            ("permanent-redirect", "javascript:x"),
            ("rewrite-target", "a\nb"),
        ]);
        assert_eq!(harmless.problems.len(), 8, "{:#?}", harmless.problems);
        assert_eq!(harmless.policy, HttpPolicy::default());
        assert!(
            harmless.problems[0]
                .starts_with("annotation nginx.ingress.kubernetes.io/proxy-connect-timeout: ")
        );
        for protection in [
            &[("whitelist-source-range", "10.0.0.0/8, somewhere")][..],
            &[("allowlist-source-range", ",")],
            &[("auth-type", "digest"), ("auth-secret", "users")],
            &[("auth-type", "basic")],
            &[("auth-type", "basic"), ("auth-secret", "other/users")],
            &[("backend-protocol", "HTTPS")],
        ] {
            assert!(!annotations(protection).policy.refusal.is_empty(), "{protection:?}");
        }
    }

    #[test]
    fn the_list_is_what_is_read() {
        let source = include_str!("annotations.rs");
        for name in warren_proto::INGRESS_ANNOTATIONS {
            let base = name.strip_suffix("-code").unwrap_or(name);
            assert!(source.contains(&format!("\"{base}\"")), "{name} is in the list and nobody reads it");
        }
        assert!(warren_proto::INGRESS_ANNOTATIONS.is_sorted());
    }

    #[test]
    fn others_are_none_of_ours() {
        let map = BTreeMap::from([("kubernetes.io/x".to_owned(), "y".to_owned())]);
        assert_eq!(read("shop", Some(&map)), Annotations::default());
        assert_eq!(read("shop", None), Annotations::default());
        assert_eq!(annotations(&[("enable-cors", "true")]), Annotations::default());
    }
}
