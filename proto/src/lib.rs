//! The contract between Warren's processes.
//!
//! Two gRPC packages ([`control`]: controller ← members; [`attach`]: agent → netd on one node), their codec
//! ([`bounded`]: a request is measured before it is decoded), and the [`vocabulary`]: names and numbers that cannot
//! hold a bad value. Wire messages are checked once, at the edge, and turned into vocabulary; inside a process nothing
//! is validated twice.
//!
//! This crate does no I/O and knows no other Warren crate.

pub mod bounded;
pub mod vocabulary;

/// Controller ← agent, netd and gateway.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod control {
    tonic::include_proto!("warren.control.v1");
}

/// Agent → netd, on the node's local socket.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod attach {
    tonic::include_proto!("warren.attach.v1");
}

/// Where netd's attach socket lies inside a node's state directory.
pub const ATTACH_SOCKET: &str = "run/netd.sock";

/// The UDP port of the overlay.
pub const WIREGUARD_PORT: u16 = 51820;

/// The annotations of an Ingress that the gateway acts upon, below `nginx.ingress.kubernetes.io/`.
pub const INGRESS_ANNOTATIONS: &[&str] = &[
    "allowlist-source-range",
    "app-root",
    "auth-realm",
    "auth-secret",
    "auth-secret-type",
    "auth-type",
    "backend-protocol",
    "force-ssl-redirect",
    "permanent-redirect",
    "permanent-redirect-code",
    "proxy-body-size",
    "proxy-connect-timeout",
    "proxy-read-timeout",
    "proxy-send-timeout",
    "rewrite-target",
    "ssl-redirect",
    "temporal-redirect",
    "temporal-redirect-code",
    "upstream-vhost",
    "use-regex",
    "whitelist-source-range",
];
