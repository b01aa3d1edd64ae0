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

use http::{
    Request, Response, Uri, Version,
    header::{CONNECTION, HOST},
};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
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

/// A connection to an upstream.
pub(crate) enum Sender {
    /// For one request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// For many.
    Http2(http2::SendRequest<RequestBody>),
}

impl Sender {
    /// Hands a request over.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(as_http2(request)).await,
        }
    }
}

/// The same request in HTTP/2's form: the host is part of the target, the connection has no fields.
fn as_http2(mut request: Request<RequestBody>) -> Request<RequestBody> {
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(CONNECTION);
    let host = request.headers_mut().remove(HOST);
    if let (Some(host), None) = (host, request.uri().authority()) {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = host.as_bytes().try_into().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// Only its own thread uses it; the lock is never contended.
#[derive(Default)]
pub(crate) struct Pool {
    slots: Mutex<HashMap<SocketAddr, Slot>>,
}

struct Slot {
    endpoint: Arc<Endpoint>,
    /// The most recently used one last.
    idle: Vec<(http1::SendRequest<RequestBody>, Instant)>,
    /// In use and free for more.
    shared: Option<http2::SendRequest<RequestBody>>,
}

impl Slot {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: endpoint.clone(), idle: Vec::new(), shared: None }
    }
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
                return Some(Sender::Http1(sender));
            }
        }
        None
    }

    /// The connection for many requests at a time, if there is one that takes more.
    pub(crate) fn take_http2(&self, endpoint: &Arc<Endpoint>) -> Option<Sender> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(&endpoint.address())?;
        if !Arc::ptr_eq(&slot.endpoint, endpoint) {
            slots.remove(&endpoint.address());
            return None;
        }
        let shared = slot.shared.as_ref().filter(|sender| sender.is_ready() && !sender.is_closed());
        shared.cloned().map(Sender::Http2)
    }

    /// Takes note of a new connection, if it can serve many requests.
    pub(crate) fn share(&self, endpoint: &Arc<Endpoint>, sender: &Sender) {
        if let Sender::Http2(sender) = sender
            && !endpoint.is_retired()
        {
            self.with_slot(endpoint, |slot| slot.shared = Some(sender.clone()));
        }
    }

    fn put(&self, endpoint: &Arc<Endpoint>, sender: http1::SendRequest<RequestBody>) {
        if endpoint.is_retired() || sender.is_closed() {
            return;
        }
        self.with_slot(endpoint, |slot| {
            if slot.idle.len() < IDLE_PER_ENDPOINT {
                slot.idle.push((sender, Instant::now()));
            }
        });
    }

    fn with_slot(&self, endpoint: &Arc<Endpoint>, change: impl FnOnce(&mut Slot)) {
        let mut slots = self.slots.lock();
        let slot = slots.entry(endpoint.address()).or_insert_with(|| Slot::new(endpoint));
        if !Arc::ptr_eq(&slot.endpoint, endpoint) {
            *slot = Slot::new(endpoint);
        }
        change(slot);
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
            slot.shared.take_if(|sender| sender.is_closed());
            !slot.idle.is_empty() || slot.shared.is_some()
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
        let Self { pool, in_flight, sender } = self;
        let Sender::Http1(mut sender) = sender else { return };
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
