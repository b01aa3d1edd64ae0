//! Pure: what must change so that the kernel and the zone say what the controller wants.
//!
//! Every function here is synchronous and depends on its arguments alone; maps and sets are ordered, so the
//! same world always gives the same plan.

pub mod attachments;
pub mod firewall;
pub mod links;
pub mod members;
pub mod peers;
pub mod ports;
pub mod reading;
pub mod routes;
pub mod services;
pub mod shares;
pub mod world;
pub mod zone;
