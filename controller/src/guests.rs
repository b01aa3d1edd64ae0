//! Connections whose client has not shown a certificate: how many there may be, and how much they may ask.
//!
//! A client that dials in is a guest until the TLS handshake has proven more. When there are too many, the source with
//! the most of them loses its oldest: a flood displaces itself, and who shows a certificate within moments (members,
//! administrators) is never among the oldest. Guests are few by nature: joining machines and health checks. Who shows
//! the certificate of a member that was removed is one of them.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;
use warren_runtime::{
    CancellationToken,
    rate::{Bucket, Rate},
};

/// How many sources are remembered; beyond that the quiet ones are forgotten.
const MOST_SOURCES: usize = 4_096;

/// What all guests together, and one source, may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Requests in a row from one source.
    pub(crate) burst: f64,
    /// Requests per second from one source, in the long run.
    pub(crate) rate: f64,
    /// Requests at a time from one source.
    pub(crate) open_of_one: usize,
    /// Requests at a time from all.
    pub(crate) open: usize,
}

impl Allowance {
    fn rate(&self) -> Rate {
        Rate { burst: self.burst, per_second: self.rate }
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self { connections: 512, burst: 200.0, rate: 100.0, open_of_one: 16, open: 256 }
    }
}

/// The guests of one port.
#[derive(Debug)]
pub(crate) struct Guests {
    allowance: Allowance,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    arrivals: u64,
    present: usize,
    /// By source, by order of arrival.
    sources: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    buckets: HashMap<IpAddr, Bucket>,
    /// Requests that are not answered yet, by source.
    asking: HashMap<IpAddr, usize>,
    open: usize,
}

/// A guest's request; its place is given back when dropped.
#[derive(Debug)]
pub(crate) struct Asking {
    guests: Arc<Guests>,
    source: IpAddr,
}

/// One guest's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Guests>,
    source: IpAddr,
    arrival: u64,
    leave: CancellationToken,
}

impl Guests {
    pub(crate) fn new(allowance: Allowance) -> Arc<Self> {
        Arc::new(Self { allowance, inner: Mutex::default() })
    }

    /// Takes in a newcomer; when that makes too many, one guest is told to leave.
    pub(crate) fn arrive(self: &Arc<Self>, address: IpAddr) -> Guest {
        let source = source(address);
        let leave = CancellationToken::new();
        let mut inner = self.inner.lock();
        inner.arrivals += 1;
        let arrival = inner.arrivals;
        inner.sources.entry(source).or_default().insert(arrival, leave.clone());
        inner.present += 1;
        if inner.present > self.allowance.connections {
            inner.displace();
        }
        Guest { guests: Arc::clone(self), source, arrival, leave }
    }

    /// Lets a source ask once more now, if it may.
    pub(crate) fn ask(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Asking> {
        let rate = self.allowance.rate();
        let source = source(address);
        let mut inner = self.inner.lock();
        if inner.buckets.len() >= MOST_SOURCES {
            inner.buckets.retain(|_, bucket| !bucket.is_full(rate, now));
            // More sources than that at once is a flood from everywhere: all begin anew.
            if inner.buckets.len() >= MOST_SOURCES {
                inner.buckets.clear();
            }
        }
        let bucket = inner.buckets.entry(source).or_insert_with(|| Bucket::new(rate, now));
        if !bucket.take(1.0, rate, now) || inner.open >= self.allowance.open {
            return None;
        }
        let of_one = inner.asking.entry(source).or_default();
        if *of_one >= self.allowance.open_of_one {
            return None;
        }
        *of_one += 1;
        inner.open += 1;
        Some(Asking { guests: Arc::clone(self), source })
    }

    #[cfg(test)]
    fn present(&self) -> usize {
        self.inner.lock().present
    }
}

impl Inner {
    /// The oldest guest of the source that has most is told to leave.
    fn displace(&mut self) {
        let most = self.sources.values_mut().max_by_key(|guests| guests.len());
        if let Some((_, leave)) = most.and_then(BTreeMap::pop_first) {
            self.present -= 1;
            metrics::counter!("warren_guests_displaced_total").increment(1);
            leave.cancel();
        }
    }
}

impl Guest {
    /// Resolves when the guest must go.
    pub(crate) async fn told_to_leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inner = self.guests.inner.lock();
        let Some(guests) = inner.sources.get_mut(&self.source) else { return };
        let was_here = guests.remove(&self.arrival).is_some();
        if guests.is_empty() {
            inner.sources.remove(&self.source);
        }
        // A guest that was displaced is not counted any more.
        inner.present -= usize::from(was_here);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut inner = self.guests.inner.lock();
        inner.open = inner.open.saturating_sub(1);
        if let Entry::Occupied(mut asking) = inner.asking.entry(self.source) {
            *asking.get_mut() -= 1;
            if *asking.get() == 0 {
                asking.remove();
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the network of an IPv6 host, which has addresses without number.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn guests(connections: usize) -> Arc<Guests> {
        Guests::new(Allowance { connections, burst: 3.0, rate: 2.0, open_of_one: 8, open: 10 })
    }

    #[test]
    fn a_flood_displaces_itself() {
        let guests = guests(10);
        let quiet = guests.arrive(address(1));
        let flood: Vec<Guest> = (0..30).map(|_| guests.arrive(address(2))).collect();
        assert!(!quiet.leave.is_cancelled());
        let gone = flood.iter().filter(|guest| guest.leave.is_cancelled()).count();
        assert_eq!(gone, 21, "nine of the flood and the quiet one are left");
        assert!(flood[..21].iter().all(|guest| guest.leave.is_cancelled()), "the oldest went");
        assert_eq!(guests.present(), 10);
        drop(flood);
        assert_eq!(guests.present(), 1);
        drop(quiet);
        assert_eq!(guests.present(), 0);
        assert!(guests.inner.lock().sources.is_empty());
    }

    #[test]
    fn requests_are_counted_per_source() {
        let guests = guests(10);
        let start = Instant::now();
        for expected in [true, true, true, false] {
            assert_eq!(guests.ask(address(1), start).is_some(), expected);
        }
        assert!(guests.ask(address(2), start).is_some());
        assert!(guests.ask(address(1), start + Duration::from_millis(600)).is_some());
        assert!(guests.ask(address(1), start + Duration::from_millis(700)).is_none());
        let network = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        assert!((0..3).all(|last| guests.ask(network(last), start).is_some()));
        assert!(guests.ask(network(9), start).is_none(), "one network, one source");
    }

    #[test]
    fn open_requests_are_counted_per_source_and_in_all() {
        let allowance = Allowance { connections: 10, burst: 1_000.0, rate: 1.0, open_of_one: 3, open: 5 };
        let (guests, start) = (Guests::new(allowance), Instant::now());
        let open: Vec<_> = (0..4).filter_map(|_| guests.ask(address(1), start)).collect();
        assert_eq!(open.len(), 3);
        let others: Vec<_> = (0..4).filter_map(|_| guests.ask(address(2), start)).collect();
        assert_eq!(others.len(), 2, "five in all");
        drop(open);
        assert!(guests.ask(address(2), start).is_some());
        drop(others);
        assert!(guests.inner.lock().asking.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let guests = guests(10);
        let start = Instant::now();
        for number in 0..20_000_u32 {
            guests.ask(IpAddr::from(number.to_be_bytes()), start);
        }
        assert!(guests.inner.lock().buckets.len() <= MOST_SOURCES);
    }
}
