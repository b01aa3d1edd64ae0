//! What the gateway counts. The binary installs the exporter before it starts the gateway.

use std::sync::OnceLock;

use http::StatusCode;
use metrics::{Counter, counter, gauge};

const REQUESTS: &str = "warren_gateway_requests_total";
/// Codes whose counters are kept: looking one up costs as much as routing the request.
const COMMON: [u16; 12] = [200, 201, 202, 204, 206, 301, 302, 304, 404, 500, 502, 503];

/// The request counters of one ingress.
pub(crate) struct RequestCounters {
    ingress: Box<str>,
    common: [OnceLock<Counter>; COMMON.len()],
}

impl RequestCounters {
    pub(crate) fn new(ingress: &str) -> Self {
        Self { ingress: ingress.into(), common: std::array::from_fn(|_| OnceLock::new()) }
    }

    pub(crate) fn count(&self, status: StatusCode) {
        let counter = || counter!(REQUESTS, "ingress" => self.ingress.to_string(), "code" => status.as_str().to_owned());
        match COMMON.iter().position(|code| *code == status.as_u16()) {
            Some(index) => self.common[index].get_or_init(counter).increment(1),
            None => counter().increment(1),
        }
    }
}

impl std::fmt::Debug for RequestCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RequestCounters").field(&self.ingress).finish()
    }
}

/// A request that no rule matched, or that was malformed.
pub(crate) fn unrouted(status: StatusCode) {
    counter!(REQUESTS, "ingress" => "", "code" => status.as_str().to_owned()).increment(1);
}

/// An attempt was repeated, and why.
pub(crate) fn retried(reason: &'static str) {
    counter!("warren_gateway_retries_total", "reason" => reason).increment(1);
}

/// An upstream did not do its part.
pub(crate) fn upstream_error(kind: &'static str) {
    counter!("warren_gateway_upstream_errors_total", "kind" => kind).increment(1);
}

/// A request waits for an endpoint.
pub(crate) fn held() {
    counter!("warren_gateway_held_requests_total").increment(1);
}

/// A connection was closed at once: there are too many, of its client or in all.
pub(crate) fn refused_connection() {
    counter!("warren_gateway_refused_connections_total").increment(1);
}

/// A client sent its body too slowly.
pub(crate) fn slow_client() {
    counter!("warren_gateway_slow_clients_total").increment(1);
}

/// The revision that all workers have in force.
pub(crate) fn in_force(revision: u64) {
    gauge!("warren_gateway_revision").set(revision as f64);
}

/// A client's connection, counted while it lives.
pub(crate) struct ActiveConnection;

impl ActiveConnection {
    pub(crate) fn new() -> Self {
        gauge!("warren_gateway_active_connections").increment(1.0);
        Self
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        gauge!("warren_gateway_active_connections").decrement(1.0);
    }
}
