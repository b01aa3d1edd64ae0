//! The gateway over loopback, with upstreams of the test's own. No controller: routes come by a feed that
//! the test drives.

mod attacks;
mod certificates;
mod errors;
mod external;
mod handover;
mod killed;
mod overdue;
mod passing;
mod policies;
mod protocols;
mod strict;
mod support;
mod trailers;
mod updates;
