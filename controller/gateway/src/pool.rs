//! The idle connections of one worker thread to its upstreams.
//!
//! A connection comes back only when the response's body has ended and hyper says that it is ready for
//! another request; it leaves when it was idle for too long, when its upstream closed it, or when its
//! endpoint left the route table.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use crate::{
    body::RequestBody,
    endpoint::{Endpoint, InFlight},
};

/// How long a connection may lie idle.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_PER_ENDPOINT: usize = 256;
/// How long an upstream may go on reading a request that it has answered already.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) type Sender = SendRequest<RequestBody>;

/// Only its own thread uses it; the lock is never contended.
#[derive(Default)]
pub(crate) struct Pool {
    slots: Mutex<HashMap<SocketAddr, Slot>>,
}

struct Slot {
    endpoint: Arc<Endpoint>,
    /// The most recently used one last.
    idle: Vec<(Sender, Instant)>,
}

impl Pool {
    /// A connection that is ready and was used no longer ago than `within`.
    pub(crate) fn take(&self, endpoint: &Arc<Endpoint>, within: Duration) -> Option<Sender> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(&endpoint.address())?;
        if !Arc::ptr_eq(&slot.endpoint, endpoint) {
            // Another pod had this address before.
            slots.remove(&endpoint.address());
            return None;
        }
        while let Some((sender, since)) = slot.idle.pop() {
            if since.elapsed() > within {
                slot.idle.push((sender, since));
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, endpoint: &Arc<Endpoint>, sender: Sender) {
        if endpoint.is_retired() || sender.is_closed() {
            return;
        }
        let mut slots = self.slots.lock();
        let new = || Slot { endpoint: endpoint.clone(), idle: Vec::new() };
        let slot = slots.entry(endpoint.address()).or_insert_with(new);
        if !Arc::ptr_eq(&slot.endpoint, endpoint) {
            *slot = new();
        }
        if slot.idle.len() < IDLE_PER_ENDPOINT {
            slot.idle.push((sender, Instant::now()));
        }
    }

    /// Closes the idle connections of endpoints that left the table.
    pub(crate) fn close_retired(&self) {
        self.slots.lock().retain(|_, slot| !slot.endpoint.is_retired());
    }

    /// Closes the idle connections of an endpoint that failed.
    pub(crate) fn close(&self, endpoint: &Endpoint) {
        self.slots.lock().remove(&endpoint.address());
    }

    /// Closes what was idle for too long or closed from the other side.
    pub(crate) fn sweep(&self) {
        self.slots.lock().retain(|_, slot| {
            slot.idle.retain(|(sender, since)| since.elapsed() < IDLE_TIMEOUT && !sender.is_closed());
            !slot.idle.is_empty()
        });
    }
}

/// A connection that carries a response, and the request's place among those in flight. Dropped early (the
/// client left, the upstream broke off), it closes the connection.
pub(crate) struct Lease {
    pub(crate) pool: Arc<Pool>,
    pub(crate) in_flight: InFlight,
    pub(crate) sender: Sender,
}

impl Lease {
    /// The response has ended: the connection may serve another request.
    pub(crate) fn end(self) {
        let Self { pool, in_flight, mut sender } = self;
        if sender.is_ready() {
            pool.put(in_flight.endpoint(), sender);
        } else if !sender.is_closed() {
            // The end of the body reached us before the connection's task settled, or the upstream
            // answered before it had read the whole request.
            let endpoint = in_flight.endpoint().clone();
            tokio::spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE_TIMEOUT, sender.ready()).await {
                    pool.put(&endpoint, sender);
                }
            });
        }
    }
}
