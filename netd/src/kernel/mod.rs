//! The only folder that talks to the kernel's network: netlink, namespaces, sysctls, raw sockets.
//!
//! Sockets live in the network namespace of the thread that opens them. netd as a whole lives in one
//! namespace; only pods' namespaces are entered, on fresh threads that die afterwards.

pub mod conntrack;
mod entrance;
pub mod firewall;
pub mod links;
pub mod namespaces;
pub mod nftables;
pub mod ping;
pub mod pods;
pub mod routes;
pub(crate) mod skeleton;
pub mod sysctl;
pub mod underlay;
pub mod xtables;

use std::time::Duration;

/// No answer from the kernel takes this long; a call that does is given up.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// What went wrong with the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// rtnetlink refused.
    #[error("cannot {what}: {source}")]
    Route {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// nftables or connection tracking refused.
    #[error("cannot {what}: {source}")]
    Netfilter {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: nlink::Error,
    },
    /// A file or socket call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The kernel did not answer.
    #[error("cannot {what}: no answer within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// What was tried.
        what: String,
    },
    /// Something is not as it must be.
    #[error("{0}")]
    Refused(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Waits for an rtnetlink answer.
pub(crate) async fn route<T>(
    what: impl FnOnce() -> String,
    call: impl Future<Output = std::result::Result<T, rtnetlink::Error>>,
) -> Result<T> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Route { what: what(), source }),
        Err(_) => Err(Error::Timeout { what: what() }),
    }
}

/// Waits for a netfilter answer.
pub(crate) async fn netfilter<T>(
    what: impl FnOnce() -> String,
    call: impl Future<Output = nlink::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Netfilter { what: what(), source }),
        Err(_) => Err(Error::Timeout { what: what() }),
    }
}

/// Names what a failed call was for.
pub(crate) fn io<T>(what: impl FnOnce() -> String, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::Io { what: what(), source })
}

impl Error {
    /// The positive errno of an rtnetlink answer.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Route { source: rtnetlink::Error::NetlinkError(message), .. } => {
                Some(message.raw_code().abs())
            }
            _ => None,
        }
    }
}

/// Turns "it is not there" into success: what had to go is gone.
pub(crate) fn already_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ENODEV | libc::ESRCH | libc::ENOENT | libc::EADDRNOTAVAIL | libc::ENXIO)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
