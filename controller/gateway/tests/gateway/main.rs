//! The gateway over loopback, with upstreams of the test's own. No controller: routes come by a feed that
//! the test drives.

mod errors;
mod handover;
mod killed;
mod overdue;
mod passing;
mod protocols;
mod support;
mod updates;
