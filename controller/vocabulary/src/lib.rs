//! The words that the controller's rooms share: members, the cluster's configuration, what resources are called, and
//! which address is next. Pure, and small, so that no crate waits for the planners to be compiled.

mod config;
pub mod guard;
pub mod health;
pub mod ipam;
pub mod member;
pub mod resources;

pub use config::{ClusterConfig, Networks, NetworksError, dns_address, overlap};
pub use health::Health;

/// On a pod that is being deleted: no consumer sends to it any more, the agent may stop it. The value is the time.
pub const STOP_ANNOTATION: &str = "warren.dev/stop-since";
