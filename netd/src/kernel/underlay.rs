//! The network below the overlay: how the controller is reached from here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use super::{Result, io};

/// What WireGuard adds to a packet over IPv6, the larger of its two overheads.
const OVERHEAD: u32 = 80;
/// What an Ethernet without further knowledge carries.
const ETHERNET: u32 = 1500;

/// The way to the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Underlay {
    /// Our address on that way.
    pub source: IpAddr,
    /// The largest packet that way carries.
    pub mtu: u32,
}

impl Underlay {
    /// The way to `destination`, as the routing table says; nothing is sent.
    pub fn towards(destination: SocketAddr) -> Result<Self> {
        let what = || format!("find the way to {destination}");
        let any: SocketAddr = match destination {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = io(what, UdpSocket::bind(any))?;
        io(what, socket.connect(destination))?;
        let source = io(what, socket.local_addr())?.ip();
        let mtu = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::IpMtu).ok();
        Ok(Self { source, mtu: mtu.and_then(|mtu| u32::try_from(mtu).ok()).unwrap_or(ETHERNET) })
    }

    /// The largest packet that fits into the tunnel.
    pub fn tunnel_mtu(mtu: u32) -> u32 {
        // Loopback and virtual links carry 64 KiB; what lies behind them does not.
        let carried = if mtu > 9_000 { ETHERNET } else { mtu };
        carried.saturating_sub(OVERHEAD).max(1_280)
    }

    /// What the tunnel's MTU is when the way is unknown.
    pub fn default_tunnel_mtu() -> u32 {
        Self::tunnel_mtu(ETHERNET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_is_loopback() {
        let way = Underlay::towards(([127, 0, 0, 1], 6443).into()).expect("loopback is there");
        assert_eq!(way.source, IpAddr::from([127, 0, 0, 1]));
        assert!(way.mtu >= 1280);
    }

    #[test]
    fn the_tunnel_leaves_room_for_its_headers() {
        assert_eq!(Underlay::tunnel_mtu(1500), 1420);
        assert_eq!(Underlay::tunnel_mtu(9000), 8920);
        assert_eq!(Underlay::tunnel_mtu(65_536), 1420);
        assert_eq!(Underlay::tunnel_mtu(1300), 1280);
    }
}
