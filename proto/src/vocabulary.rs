//! Validated names and numbers.

use std::{fmt, net::Ipv4Addr, ops::RangeInclusive, str::FromStr};

use base64::Engine as _;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Why a value is not what its type promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is invalid: {rule}")]
pub struct Invalid {
    /// What the value was meant to be.
    pub kind: &'static str,
    /// The value as given.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

fn invalid<T>(kind: &'static str, value: &str, rule: &'static str) -> Result<T, Invalid> {
    Err(Invalid { kind, value: value.to_owned(), rule })
}

/// RFC 1123 label rule, as Kubernetes states it.
pub const DNS_LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
/// RFC 1123 subdomain rule, as Kubernetes states it.
pub const DNS_SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Whether `text` is an RFC 1123 label (at most 63 characters).
pub fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && alphanumeric(bytes[0])
        && alphanumeric(bytes[bytes.len() - 1])
        && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
}

/// Whether `text` is an RFC 1123 subdomain (labels joined by dots, at most 253 characters).
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

macro_rules! text_type {
    ($(#[$meta:meta])* $name:ident, $kind:literal, $check:expr, $rule:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The value as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { invalid($kind, text, $rule) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> { text.parse() }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String { value.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Debug::fmt(&self.0, f) }
        }
    };
}

text_type!(
    /// The name of a member (node or gateway): an RFC 1123 subdomain.
    NodeName, "node name", is_dns_subdomain, DNS_SUBDOMAIN_RULE
);
text_type!(
    /// A pod's UID, as the API server assigned it (RFC 4122 text form).
    PodUid, "pod uid",
    |text| text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'),
    "must be a UUID"
);

/// A Curve25519 public key of WireGuard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireGuardKey(pub [u8; 32]);

impl FromStr for WireGuardKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        match <[u8; 32]>::try_from(decoded) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => invalid("WireGuard key", text, "must be 32 bytes in base64"),
        }
    }
}
impl fmt::Display for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}
impl fmt::Debug for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A member's slice of the cluster network: a /20 to a /28, of one size for all members of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Ipv4Net", into = "Ipv4Net")]
pub struct PodCidr(Ipv4Net);

const POD_CIDR_RULE: &str = "must be a network address with a prefix from /20 to /28";

impl PodCidr {
    /// The prefix lengths that a slice may have: from 4,093 pods to 13.
    pub const PREFIXES: RangeInclusive<u8> = 20..=28;

    /// The network.
    pub fn network(&self) -> Ipv4Net {
        self.0
    }
    /// The member's own overlay address: the first host of its slice.
    pub fn member_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0.network()) + 1)
    }
    /// Addresses that pods may have, ascending: all but the network's, the member's own and the broadcast address.
    pub fn pod_addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (u32::from(self.0.network()) + 2..u32::from(self.0.broadcast())).map(Ipv4Addr::from)
    }
}
impl TryFrom<Ipv4Net> for PodCidr {
    type Error = Invalid;
    fn try_from(net: Ipv4Net) -> Result<Self, Invalid> {
        if Self::PREFIXES.contains(&net.prefix_len()) && net.trunc() == net {
            Ok(Self(net))
        } else {
            invalid("pod CIDR", &net.to_string(), POD_CIDR_RULE)
        }
    }
}
impl From<PodCidr> for Ipv4Net {
    fn from(cidr: PodCidr) -> Ipv4Net {
        cidr.0
    }
}
impl FromStr for PodCidr {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse::<Ipv4Net>() {
            Ok(net) => net.try_into(),
            Err(_) => invalid("pod CIDR", text, POD_CIDR_RULE),
        }
    }
}
impl fmt::Display for PodCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A store's history: a revision counts commits; an epoch counts restores.
/// Order is by epoch first, so that a restored store is newer than what it was restored from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// Bumped by a restore.
    pub epoch: u64,
    /// Bumped by every commit.
    pub revision: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_rfc_1123() {
        for good in ["a", "node-1", "warren-node-1", "1a", "a.b.c"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", ".a", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_invalid_value_says_which_and_why() {
        let error = "Node_1".parse::<NodeName>().expect_err("underscore").to_string();
        assert!(error.starts_with("node name \"Node_1\" is invalid: a lowercase RFC 1123"), "{error}");
    }

    #[test]
    fn a_pod_cidr_is_a_network_of_an_allowed_size() {
        for good in ["10.42.1.0/24", "10.42.16.0/20", "10.42.1.240/28"] {
            assert!(good.parse::<PodCidr>().is_ok(), "{good}");
        }
        for bad in ["10.42.0.0/19", "10.42.1.0/29", "10.42.1.7/24", "10.42.1.8/28", "10.42.1.0", "fd00::/24"]
        {
            assert!(bad.parse::<PodCidr>().is_err(), "{bad}");
        }
        let cidr: PodCidr = "10.42.7.0/24".parse().expect("valid");
        assert_eq!(cidr.member_address().to_string(), "10.42.7.1");
        assert_eq!(cidr.pod_addresses().count(), 253);
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text_form(bytes: [u8; 32]) {
            let key = WireGuardKey(bytes);
            prop_assert_eq!(key.to_string().parse::<WireGuardKey>(), Ok(key));
        }

        #[test]
        fn network_member_and_broadcast_address_are_no_pods(prefix in PodCidr::PREFIXES, base: u32) {
            let net = Ipv4Net::new_assert(base.into(), prefix).trunc();
            let cidr = PodCidr::try_from(net).expect("valid");
            let pods: Vec<_> = cidr.pod_addresses().collect();
            prop_assert_eq!(pods.len(), (1 << (32 - prefix)) - 3);
            prop_assert!(pods.is_sorted() && pods.iter().all(|address| net.contains(address)));
            for other in [net.network(), cidr.member_address(), net.broadcast()] {
                prop_assert!(net.contains(&other) && !pods.contains(&other));
            }
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<NodeName>();
            let _ = text.parse::<WireGuardKey>();
            let _ = text.parse::<PodCidr>();
        }
    }
}
