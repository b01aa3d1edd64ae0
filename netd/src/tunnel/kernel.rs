//! WireGuard in the kernel, by wireguard-control. Its calls block and use a socket of the calling thread's
//! namespace, so they run on blocking threads of our own runtime.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use ipnet::Ipv4Net;
use warren_proto::vocabulary::WireGuardKey;
use wireguard_control::{
    Backend as ControlBackend, Device, DeviceUpdate, InterfaceName, Key, KeyPair, PeerConfigBuilder, PeerInfo,
};

use super::{Backend, Error, KEEPALIVE, Options, PeerState, Tunnel};
use crate::plan::peers::{DevicePeer, PeerChange};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A kernel device. It outlives this process.
pub(super) struct KernelTunnel {
    interface: InterfaceName,
}

/// Whether the kernel has no WireGuard at all: it cannot make such a link, or, where an embedded one left its
/// link behind, does not know WireGuard's messages or that link as one of its own.
pub(super) fn is_absent(error: &Error) -> bool {
    let Error::Device { source, .. } = error else { return false };
    source.kind() == io::ErrorKind::Unsupported
        || matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOENT))
}

impl KernelTunnel {
    /// Adopts the device, or makes it. Its peers are left as they are.
    pub(super) async fn open(options: &Options) -> Result<Self, Error> {
        let what = format!("open the WireGuard link {}", options.interface);
        let name = options.interface.parse::<InterfaceName>();
        let interface = name.map_err(|error| Error::Device {
            what: what.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
        })?;
        let keys = KeyPair::from_private(Key(options.key.bytes()));
        let update = DeviceUpdate::new().set_keypair(keys).set_listen_port(options.port);
        blocking(what, move || update.apply(&interface, ControlBackend::Kernel)).await?;
        Ok(Self { interface })
    }

    async fn apply(&self, what: String, update: DeviceUpdate) -> Result<(), Error> {
        let interface = self.interface;
        blocking(what, move || update.apply(&interface, ControlBackend::Kernel)).await
    }
}

impl Tunnel for KernelTunnel {
    fn backend(&self) -> Backend {
        Backend::Kernel
    }

    fn peers(&self) -> BoxFuture<'_, Result<BTreeMap<WireGuardKey, PeerState>, Error>> {
        let interface = self.interface;
        Box::pin(async move {
            let get = move || Device::get(&interface, ControlBackend::Kernel);
            let device = blocking("list the peers".into(), get).await?;
            Ok(device.peers.into_iter().map(read).collect())
        })
    }

    fn change<'a>(&'a self, change: &'a PeerChange) -> BoxFuture<'a, Result<(), Error>> {
        let update = match change {
            PeerChange::Remove { key } => DeviceUpdate::new().remove_peer_by_key(&Key(key.0)),
            PeerChange::Add { key, endpoint, allowed, .. } => {
                DeviceUpdate::new().add_peer_with(&Key(key.0), |peer| {
                    let peer = allow(peer, allowed).set_persistent_keepalive_interval(KEEPALIVE);
                    endpoint.iter().fold(peer, |peer, endpoint| peer.set_endpoint(*endpoint))
                })
            }
            PeerChange::SetEndpoint { key, endpoint, .. } => {
                DeviceUpdate::new().add_peer_with(&Key(key.0), |peer| peer.set_endpoint(*endpoint))
            }
            PeerChange::SetAllowed { key, allowed, .. } => {
                DeviceUpdate::new().add_peer_with(&Key(key.0), |peer| allow(peer, allowed))
            }
        };
        Box::pin(self.apply(change.to_string(), update))
    }

    fn failed(&self) -> BoxFuture<'_, Error> {
        // The kernel's device works without us.
        Box::pin(std::future::pending())
    }
}

fn allow<'a>(peer: PeerConfigBuilder, allowed: impl IntoIterator<Item = &'a Ipv4Net>) -> PeerConfigBuilder {
    let peer = peer.replace_allowed_ips();
    allowed.into_iter().fold(peer, |peer, net| peer.add_allowed_ip(net.addr().into(), net.prefix_len()))
}

fn read(info: PeerInfo) -> (WireGuardKey, PeerState) {
    let allowed = info.config.allowed_ips.iter().filter_map(|allowed| match allowed.address {
        IpAddr::V4(address) => Ipv4Net::new(address, allowed.cidr).ok(),
        IpAddr::V6(_) => None,
    });
    let endpoint: Option<SocketAddr> = info.config.endpoint;
    let state = PeerState {
        peer: DevicePeer { endpoint, allowed: allowed.collect() },
        handshake_age: info
            .stats
            .last_handshake_time
            .map(|then| SystemTime::now().duration_since(then).unwrap_or_default()),
        received: info.stats.rx_bytes,
        sent: info.stats.tx_bytes,
    };
    (WireGuardKey(info.config.public_key.0), state)
}

async fn blocking<T: Send + 'static>(
    what: String,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let outcome = match tokio::time::timeout(TIMEOUT, tokio::task::spawn_blocking(call)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panicked)) => Err(io::Error::other(panicked)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    outcome.map_err(|source| Error::Device { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_wireguard_is_told_from_one_that_refuses() {
        let error =
            |errno| Error::Device { what: String::new(), source: io::Error::from_raw_os_error(errno) };
        assert!(is_absent(&error(libc::EOPNOTSUPP)));
        assert!(is_absent(&error(libc::ENOENT)));
        assert!(!is_absent(&error(libc::EPERM)));
        assert!(!is_absent(&error(libc::EADDRINUSE)));
    }
}
