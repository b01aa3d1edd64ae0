//! The encrypted link between members: WireGuard in the kernel, or embedded where the kernel has none.

mod kernel;
pub mod key;
mod transport;
mod userspace;

use std::{collections::BTreeMap, fmt, time::Duration};

use futures_util::future::BoxFuture;
use warren_proto::vocabulary::WireGuardKey;
use warren_runtime::descriptors::Descriptors;

use self::key::PrivateKey;
use crate::plan::peers::{DevicePeer, PeerChange};

/// Seconds between keep-alives: holds the mapping of a NAT open, and starts a session without traffic.
pub(crate) const KEEPALIVE: u16 = 25;

/// Who encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's WireGuard.
    Kernel,
    /// Ours, embedded in this process: the link stays when it ends, the encryption does not.
    Userspace,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}

/// A peer, and what happened with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerState {
    /// How it is configured.
    pub peer: DevicePeer,
    /// How long ago keys were last agreed on; `None` before the first time.
    pub handshake_age: Option<Duration>,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub sent: u64,
}

/// What a tunnel could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the device failed.
    #[error("cannot {what}: {source}")]
    Device {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The embedded device failed.
    #[error("cannot {what}: {reason}")]
    Embedded {
        /// What was tried.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The embedded device's thread ended.
    #[error("the embedded WireGuard stopped: {0}")]
    Stopped(String),
}

/// A WireGuard device.
pub trait Tunnel: Send + Sync {
    /// Who encrypts.
    fn backend(&self) -> Backend;
    /// The device's peers.
    fn peers(&self) -> BoxFuture<'_, Result<BTreeMap<WireGuardKey, PeerState>, Error>>;
    /// Does one planned step.
    fn change<'a>(&'a self, change: &'a PeerChange) -> BoxFuture<'a, Result<(), Error>>;
    /// Returns when the device cannot work any more.
    fn failed(&self) -> BoxFuture<'_, Error>;
}

/// How a device is to be.
#[derive(Clone)]
pub struct Options {
    /// The link's name.
    pub interface: String,
    /// The UDP port.
    pub port: u16,
    /// The link's MTU.
    pub mtu: u32,
    /// Our key.
    pub key: PrivateKey,
    /// Where the embedded device's socket is taken from, and left.
    pub descriptors: Descriptors,
}

/// Opens the device: the kernel's where there is one, else the embedded one.
pub async fn open(options: &Options) -> Result<Box<dyn Tunnel>, Error> {
    match kernel::KernelTunnel::open(options).await {
        Ok(tunnel) => return Ok(Box::new(tunnel)),
        Err(error) if kernel::is_absent(&error) => {
            tracing::info!("this kernel has no WireGuard; using the embedded one");
        }
        Err(error) => return Err(error),
    }
    Ok(Box::new(userspace::UserspaceTunnel::open(options).await?))
}
