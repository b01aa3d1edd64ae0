//! Clients' connections that outlive this process.
//!
//! The state of an HTTP/1.1 connection without TLS is in the kernel, as long as nobody takes it out: a request that
//! may be repeated is only looked at (`MSG_PEEK`) and stays in the receive buffer until its response is begun. The
//! supervisor holds a duplicate of each such socket. When this process is killed, the next one gets the sockets,
//! and finds idle connections idle and unanswered requests unread.
//!
//! ```text
//!  accept ──► Holder: a slot, a duplicate to the supervisor (until then: the witness)
//!                │
//!  client ──► Stream: peek, look for the head's end (framing) ──► hyper ──► proxy
//!        ◄──       record the response in the slot (table), write it, consume the request ◄──
//! ```
//! A request that must not be repeated, an upgraded connection, HTTP/2 and a response that was partly written are
//! not resumed: the next process closes those. TLS is never held, for its keys are in the process's memory.

mod framing;
mod holder;
mod kernel;
mod stream;
mod table;
pub(crate) mod witness;

pub(crate) use self::{
    holder::{HeldSlot, Holder, Resumed, forget_released},
    kernel::{peek, peer_has_ended},
    stream::{Progress, Stream},
};
