//! One address that serves a backend: how busy it is, whether it is to be avoided, whether it is gone.
//!
//! The state is shared by all worker threads and survives a new route table that still holds the address.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const FIRST_EJECTION: Duration = Duration::from_secs(1);
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// Milliseconds since the process first asked: a clock that fits an atomic, never zero.
pub(crate) fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64 + 1
}

/// An address and port that serves a backend.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    in_flight: AtomicUsize,
    failures: AtomicU32,
    ejected_until: AtomicU64,
    retired: AtomicBool,
}

impl Endpoint {
    /// A healthy, idle endpoint.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that it is answering for this process.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it is to be avoided at `now` (milliseconds) because connections to it failed.
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// A connection to it failed: avoid it for 1 s, doubled by each further failure, up to 30 s.
    pub fn failed(&self, now: u64) {
        // Requests that fail together are one failure, not many.
        if self.is_ejected(now) {
            return;
        }
        let earlier = self.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let ejection = (FIRST_EJECTION * (1 << earlier)).min(LONGEST_EJECTION);
        self.ejected_until.store(now + ejection.as_millis() as u64, Ordering::Relaxed);
    }

    /// It answered: it is healthy.
    pub fn answered(&self) {
        // Reads first: the line stays shared between the cores in the usual case.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the current table has no place for it any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

/// Counts one request against an endpoint for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Endpoint>);

impl InFlight {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_grow_to_a_bound_and_end_with_an_answer() {
        let endpoint = Endpoint::new(([127, 0, 0, 1], 80).into());
        let mut now = 1;
        let mut lengths = Vec::new();
        for _ in 0..8 {
            endpoint.failed(now);
            endpoint.failed(now);
            let length =
                (0..).step_by(500).find(|passed| !endpoint.is_ejected(now + passed)).expect("it ends");
            lengths.push(length);
            now += length;
        }
        assert_eq!(lengths, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        endpoint.failed(now);
        endpoint.answered();
        assert!(!endpoint.is_ejected(now));
        endpoint.failed(now);
        assert!(!endpoint.is_ejected(now + 1_000), "an answer ends the growth too");
    }

    #[test]
    fn requests_in_flight_are_counted_while_they_live() {
        let endpoint = Endpoint::new(([127, 0, 0, 1], 80).into());
        let first = InFlight::new(endpoint.clone());
        let second = InFlight::new(endpoint.clone());
        assert_eq!(endpoint.in_flight(), 2);
        drop((first, second));
        assert_eq!(endpoint.in_flight(), 0);
    }
}
