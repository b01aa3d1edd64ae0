//! Places for questions that wait for a nameserver: each source has its share, and nobody takes them all.

use std::{net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::plan::shares::{Asked, Limits, Shares};

/// Each place may take as many sockets as there are attempts, and each who waits a question's bytes.
const LIMITS: Limits = Limits { places: 512, share: 32, line: 128, lines: 2_048 };

/// The places, and who stands in line for one.
#[derive(Clone)]
pub(super) struct Places(Arc<Mutex<Shares<oneshot::Sender<Place>>>>);

/// A place; it is given back when it is dropped.
pub(super) struct Place {
    places: Places,
    source: IpAddr,
    kept: bool,
}

/// Where somebody stands who asked for a place.
pub(super) enum Standing {
    /// It has one.
    Has(Place),
    /// It will be told.
    Waits(oneshot::Receiver<Place>),
}

impl Standing {
    /// The place, unless that takes longer than `patience`.
    pub(super) async fn place(self, patience: Duration) -> Option<Place> {
        match self {
            Self::Has(place) => Some(place),
            Self::Waits(told) => tokio::time::timeout(patience, told).await.ok()?.ok(),
        }
    }
}

impl Places {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Shares::new(LIMITS))))
    }

    /// Asks for a place; `None` when `source` has too many who wait.
    pub(super) fn ask(&self, source: IpAddr) -> Option<Standing> {
        let mut told = None;
        let ticket = || {
            let (tell, receiver) = oneshot::channel();
            told = Some(receiver);
            tell
        };
        let asked = self.0.lock().ask(source, ticket);
        match asked {
            Asked::Granted => Some(Standing::Has(Place { places: self.clone(), source, kept: true })),
            Asked::Waits => told.map(Standing::Waits),
            Asked::Refused => None,
        }
    }

    /// Hands a place on until somebody takes it: some of those in line have given up.
    fn give_back(&self, source: IpAddr) {
        let mut from = source;
        loop {
            let next = self.0.lock().give_back(from);
            let Some((next, tell)) = next else { return };
            match tell.send(Place { places: self.clone(), source: next, kept: true }) {
                Ok(()) => return,
                // It must not give itself back, one inside of the other: this loop does.
                Err(mut refused) => refused.kept = false,
            }
            from = next;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.kept {
            self.places.give_back(self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_goes_past_those_who_gave_up() {
        let places = Places::new();
        let source = IpAddr::from([10, 42, 1, 2]);
        let held: Vec<_> = (0..LIMITS.share).map(|_| places.ask(source).expect("a place")).collect();
        let gone = places.ask(source).expect("in line");
        assert!(gone.place(Duration::ZERO).await.is_none());
        let waits = places.ask(source).expect("in line");
        drop(held);
        assert!(waits.place(Duration::from_secs(10)).await.is_some());
        // Nothing is held any more: the whole share is there.
        let again: Vec<_> = (0..LIMITS.share).map(|_| places.ask(source)).collect();
        assert!(again.iter().all(|standing| matches!(standing, Some(Standing::Has(_)))));
    }
}
