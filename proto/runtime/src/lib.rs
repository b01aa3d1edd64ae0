//! What every Warren process shares: owned tasks, the reconcile loop, the member's identity, and the
//! connection, feed and heartbeat towards the controller.
//!
//! ```text
//!  identity ──► connection ──► feed (snapshot, marker, deltas) ──► a daemon's reconcile loop
//!                    └───────► heartbeat (own thread, own stream)
//! ```

pub mod connection;
pub mod descriptors;
pub mod feed;
pub mod heartbeat;
pub mod hop_by_hop;
pub mod identity;
pub mod items;
mod journal;
mod kept;
pub mod peers;
pub mod private;
pub mod rate;
pub mod reconcile;
pub mod tasks;
pub mod tls;

pub use tokio_util::sync::CancellationToken;
