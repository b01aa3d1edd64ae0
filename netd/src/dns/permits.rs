//! Places for questions that wait for a nameserver: each source has its share, and no source takes them all.

use std::{net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::plan::shares::{Asked, Limits, Shares};

/// Each place may take as many sockets as there are attempts, and each who waits a question's bytes.
const LIMITS: Limits = Limits { places: 512, share: 32, line: 128, lines: 2_048 };

/// The places, and who stands in line for one.
#[derive(Clone)]
pub(super) struct QueryPermits(Arc<Mutex<Shares<oneshot::Sender<QueryPermit>>>>);

/// A place; it is given back when it is dropped.
pub(super) struct QueryPermit {
    permits: QueryPermits,
    source: IpAddr,
    kept: bool,
}

/// Where a question stands that asked for a place.
pub(super) enum PendingPermit {
    /// It has one.
    Has(QueryPermit),
    /// It will be told.
    Waits(oneshot::Receiver<QueryPermit>),
}

impl PendingPermit {
    /// The place, unless that takes longer than `patience`.
    pub(super) async fn permit(self, patience: Duration) -> Option<QueryPermit> {
        match self {
            Self::Has(permit) => Some(permit),
            Self::Waits(told) => tokio::time::timeout(patience, told).await.ok()?.ok(),
        }
    }
}

impl QueryPermits {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Shares::new(LIMITS))))
    }

    /// Asks for a place; `None` when `source` has too many who wait.
    pub(super) fn ask(&self, source: IpAddr) -> Option<PendingPermit> {
        let mut told = None;
        let ticket = || {
            let (tell, receiver) = oneshot::channel();
            told = Some(receiver);
            tell
        };
        let asked = self.0.lock().ask(source, ticket);
        match asked {
            Asked::Granted => {
                Some(PendingPermit::Has(QueryPermit { permits: self.clone(), source, kept: true }))
            }
            Asked::Waits => told.map(PendingPermit::Waits),
            Asked::Refused => None,
        }
    }

    /// Hands a place on until a question takes it: some of those in line have given up.
    fn give_back(&self, source: IpAddr) {
        let mut from = source;
        loop {
            let next = self.0.lock().give_back(from);
            let Some((next, tell)) = next else { return };
            match tell.send(QueryPermit { permits: self.clone(), source: next, kept: true }) {
                Ok(()) => return,
                // It must not give itself back, one inside of the other: this loop does.
                Err(mut refused) => refused.kept = false,
            }
            from = next;
        }
    }
}

impl Drop for QueryPermit {
    fn drop(&mut self) {
        if self.kept {
            self.permits.give_back(self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_goes_past_those_who_gave_up() {
        let permits = QueryPermits::new();
        let source = IpAddr::from([10, 42, 1, 2]);
        let held: Vec<_> = (0..LIMITS.share).map(|_| permits.ask(source).expect("a place")).collect();
        let gone = permits.ask(source).expect("in line");
        assert!(gone.permit(Duration::ZERO).await.is_none());
        let waits = permits.ask(source).expect("in line");
        drop(held);
        assert!(waits.permit(Duration::from_secs(10)).await.is_some());
        // Nothing is held any more: the whole share is there.
        let again: Vec<_> = (0..LIMITS.share).map(|_| permits.ask(source)).collect();
        assert!(again.iter().all(|pending| matches!(pending, Some(PendingPermit::Has(_)))));
    }
}
