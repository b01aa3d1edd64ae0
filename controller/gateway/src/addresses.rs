//! Where the gateway must not lead, whichever object names the address. Pure.
//!
//! An endpoint's address comes from users (EndpointSlices, ExternalNames), and the gateway has a place in networks that
//! they have not: its own loopback with its metrics, the link with a cloud's metadata service, its own listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// What is refused.
#[derive(Debug, Clone, Default)]
pub struct Refused {
    loopback_is_fine: bool,
    /// The gateway's own addresses.
    own: Vec<IpAddr>,
    /// The control plane.
    others: Vec<SocketAddr>,
}

impl Refused {
    /// Loopback, link-local, multicast, broadcast and unspecified addresses, and these: the gateway's own, and what
    /// listens for members alone.
    pub fn new(own: Vec<IpAddr>, others: Vec<SocketAddr>) -> Self {
        let canonical = |address: IpAddr| address.to_canonical();
        Self {
            loopback_is_fine: false,
            own: own.into_iter().map(canonical).collect(),
            others: others.into_iter().map(|at| SocketAddr::new(canonical(at.ip()), at.port())).collect(),
        }
    }

    /// The same, except for loopback: where backends are processes of the same machine.
    pub fn except_loopback() -> Self {
        Self { loopback_is_fine: true, ..Self::default() }
    }

    /// Why nothing may be sent to this address, if so.
    pub fn reason(&self, address: SocketAddr) -> Option<&'static str> {
        let ip = destination(address.ip());
        if ip.is_loopback() {
            return (!self.loopback_is_fine).then_some("is a loopback address");
        }
        let own = || self.own.contains(&ip).then_some("is the gateway's own address");
        let others = || {
            let refused = self.others.contains(&SocketAddr::new(ip, address.port()));
            refused.then_some("is the cluster's controller")
        };
        special(ip).or_else(own).or_else(others)
    }
}

/// Why nobody's backend has this address, if so.
fn special(ip: IpAddr) -> Option<&'static str> {
    if ip.is_unspecified() {
        return Some("is the unspecified address");
    }
    if ip.is_multicast() {
        return Some("is a multicast address");
    }
    match ip {
        IpAddr::V4(ip) if ip.is_link_local() => Some("is a link-local address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("is the broadcast address"),
        // RFC 6890: "this network", and what was never given to anybody.
        IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.octets()[0] >= 240 => Some("is a reserved address"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("is a link-local address"),
        _ => None,
    }
}

/// Where packets to this address arrive in the end: at the IPv4 address inside of it, if there is one.
fn destination(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = ip else { return ip };
    let inner = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match six.segments() {
        // Mapped, and the deprecated compatible form; `::` and `::1` are no IPv4 addresses.
        [0, 0, 0, 0, 0, 0xffff, high, low] => inner(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if six > Ipv6Addr::LOCALHOST => inner(high, low),
        // NAT64 (RFC 6052) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low),
        _ => ip,
    }
}

/// Whether one of the networks contains the address.
pub(crate) fn within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(refused: &Refused, address: &str) -> Option<&'static str> {
        refused.reason(SocketAddr::new(address.parse().expect("an address"), 80))
    }

    #[test]
    fn nothing_leads_to_the_gateway_itself_or_to_nobody() {
        let refused = Refused::new(
            vec!["192.0.2.7".parse().expect("an address")],
            vec!["192.0.2.1:80".parse().expect("an address")],
        );
        for address in [
            "127.0.0.1",
            "127.255.3.4",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "224.0.0.1",
            "239.1.2.3",
            "ff02::1",
            "255.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "240.0.0.1",
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "192.0.2.1",
        ] {
            assert!(reason(&refused, address).is_some(), "{address}");
        }
        for address in
            ["10.42.1.2", "192.168.1.1", "172.16.0.9", "100.64.0.1", "8.8.8.8", "fd00::1", "2001:db8::1"]
        {
            assert_eq!(reason(&refused, address), None, "{address}");
        }
        assert_eq!(refused.reason("192.0.2.1:81".parse().expect("an address")), None, "another port");
    }

    #[test]
    fn only_loopback_may_be_allowed() {
        let refused = Refused::except_loopback();
        assert_eq!(reason(&refused, "127.0.0.1"), None);
        assert_eq!(reason(&refused, "::1"), None);
        assert!(reason(&refused, "169.254.169.254").is_some());
    }
}
