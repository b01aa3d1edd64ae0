//! Who may wait for something scarce: a bounded number in all, a share for each source, and a fair line behind.
//!
//! A source that asks for more than its share waits for itself alone. A place that becomes free goes to the waiting
//! source that holds the fewest, so one that asks little never stands behind those that flood.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Places in all.
    pub places: usize,
    /// Places of one source.
    pub share: usize,
    /// How many of one source may stand in line.
    pub line: usize,
    /// How many may stand in line in all.
    pub lines: usize,
}

/// What became of a request for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It has a place, which must be given back.
    Granted,
    /// It stands in line with its ticket.
    Waits,
    /// There is no room in the line either.
    Refused,
}

/// Places and lines. `T` is a ticket: how one who waits is told.
#[derive(Debug)]
pub struct Shares<T> {
    limits: Limits,
    taken: usize,
    waiting: usize,
    /// Counts what was granted: who was served longest ago comes first among equals.
    turn: u64,
    sources: BTreeMap<IpAddr, Source<T>>,
}

#[derive(Debug)]
struct Source<T> {
    taken: usize,
    served: u64,
    line: VecDeque<T>,
}

impl<T> Shares<T> {
    /// Nothing is taken.
    pub fn new(limits: Limits) -> Self {
        Self { limits, taken: 0, waiting: 0, turn: 0, sources: BTreeMap::new() }
    }

    /// Asks for a place for `source`; `ticket` is kept only when it waits.
    pub fn ask(&mut self, from: IpAddr, ticket: impl FnOnce() -> T) -> Asked {
        let source =
            self.sources.entry(from).or_insert_with(|| Source { taken: 0, served: 0, line: VecDeque::new() });
        let asked = if self.taken < self.limits.places && source.taken < self.limits.share {
            self.turn += 1;
            self.taken += 1;
            source.taken += 1;
            source.served = self.turn;
            Asked::Granted
        } else if source.line.len() < self.limits.line && self.waiting < self.limits.lines {
            source.line.push_back(ticket());
            self.waiting += 1;
            Asked::Waits
        } else {
            Asked::Refused
        };
        self.tidy(from);
        asked
    }

    /// Gives a place of `source` back. Whose ticket is returned has a place now.
    pub fn give_back(&mut self, from: IpAddr) -> Option<(IpAddr, T)> {
        if let Some(source) = self.sources.get_mut(&from).filter(|source| source.taken > 0) {
            source.taken -= 1;
            self.taken -= 1;
        }
        self.tidy(from);
        let share = self.limits.share;
        let waiting = self.sources.iter_mut();
        let waiting = waiting.filter(|(_, source)| !source.line.is_empty() && source.taken < share);
        let (next, source) = waiting.min_by_key(|(_, source)| (source.taken, source.served))?;
        let (next, ticket) = (*next, source.line.pop_front()?);
        self.turn += 1;
        source.served = self.turn;
        source.taken += 1;
        self.taken += 1;
        self.waiting -= 1;
        Some((next, ticket))
    }

    /// A source that holds nothing and waits for nothing is not remembered.
    fn tidy(&mut self, from: IpAddr) {
        if self.sources.get(&from).is_some_and(|source| source.taken == 0 && source.line.is_empty()) {
            self.sources.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { places: 8, share: 3, line: 4, lines: 10 };

    fn source(n: u8) -> IpAddr {
        IpAddr::from([10, 42, 1, n])
    }

    proptest! {
        /// Every place is of somebody, nobody has more than a share, nothing is lost, and nobody waits without need.
        #[test]
        fn bounds_hold_and_no_place_is_lost(steps in proptest::collection::vec((0u8..6, any::<bool>()), 0..300)) {
            let mut shares = Shares::new(LIMITS);
            let mut held = BTreeMap::<IpAddr, usize>::new();
            let mut lines = BTreeMap::<IpAddr, VecDeque<usize>>::new();
            for (number, (n, gives)) in steps.into_iter().enumerate() {
                let from = source(n);
                if gives {
                    let Some(count) = held.get_mut(&from).filter(|count| **count > 0) else { continue };
                    *count -= 1;
                    if let Some((next, ticket)) = shares.give_back(from) {
                        *held.entry(next).or_default() += 1;
                        prop_assert_eq!(lines.get_mut(&next).and_then(VecDeque::pop_front), Some(ticket));
                    }
                } else {
                    match shares.ask(from, || number) {
                        Asked::Granted => *held.entry(from).or_default() += 1,
                        Asked::Waits => lines.entry(from).or_default().push_back(number),
                        Asked::Refused => {}
                    }
                }
                let taken: usize = held.values().sum();
                prop_assert!(taken <= LIMITS.places && held.values().all(|count| *count <= LIMITS.share));
                prop_assert!(lines.values().all(|line| line.len() <= LIMITS.line));
                prop_assert!(lines.values().map(VecDeque::len).sum::<usize>() <= LIMITS.lines);
                for (from, line) in lines.iter().filter(|(_, line)| !line.is_empty()) {
                    let full = held.get(from).copied().unwrap_or(0) == LIMITS.share;
                    prop_assert!(full || taken == LIMITS.places, "{} waits for nothing: {:?}", from, line);
                }
            }
            // When all is given back, nothing is remembered.
            while let Some((from, _)) = held.iter().find(|(_, count)| **count > 0).map(|(from, count)| (*from, *count)) {
                *held.entry(from).or_default() -= 1;
                if let Some((next, _)) = shares.give_back(from) {
                    *held.entry(next).or_default() += 1;
                }
            }
            prop_assert!(shares.sources.is_empty() && shares.taken == 0 && shares.waiting == 0);
        }
    }

    #[test]
    fn a_quiet_source_does_not_stand_behind_those_that_flood() {
        let mut shares = Shares::new(LIMITS);
        for n in 1..4 {
            for _ in 0..6 {
                shares.ask(source(n), || n);
            }
        }
        assert_eq!((shares.taken, shares.waiting), (8, 10));
        // All places are taken, and the lines are full: a place is kept for nobody, but a newcomer is next in line.
        let mut shares = Shares::new(Limits { lines: 100, ..LIMITS });
        for n in 1..4 {
            for _ in 0..6 {
                shares.ask(source(n), || n);
            }
        }
        assert_eq!(shares.ask(source(9), || 9), Asked::Waits);
        assert_eq!(shares.give_back(source(1)), Some((source(9), 9)));
    }
}
