//! What was said of each key when it was planned last, and what it waits for.
//!
//! A key is planned again when something is touched that it depends on. Until then all that was said of it stays true:
//! its problems, its failures, the time at which it wants to be woken. So a pass costs what was touched.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use warren_state::Key;

use crate::Problem;
use warren_vocabulary::guard::Failure;

/// One planner's work for one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    /// The planner's place among all.
    pub(crate) stage: usize,
    pub(crate) key: Key,
}

/// What is remembered of a unit.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) problems: Vec<Problem>,
    pub(crate) failures: Vec<Failure>,
    /// When it may plan something else though nothing was touched.
    pub(crate) wake_at: Option<Timestamp>,
    /// Which acknowledged revision it waits for.
    pub(crate) acknowledged_at: Option<u64>,
    /// It wanted a step: it is planned in each pass until it wants none.
    pub(crate) open: bool,
    /// Objects that it looked at by name, there or not.
    pub(crate) reads: BTreeSet<Key>,
}

impl Memory {
    fn is_empty(&self) -> bool {
        let Self { problems, failures, wake_at, acknowledged_at, open, reads } = self;
        problems.is_empty()
            && failures.is_empty()
            && wake_at.is_none()
            && acknowledged_at.is_none()
            && !open
            && reads.is_empty()
    }
}

/// The memories of all units that have any, and who waits for what.
#[derive(Default)]
pub(crate) struct Memories {
    units: BTreeMap<Unit, Memory>,
    /// Those with problems or failures.
    loud: BTreeSet<Unit>,
    open: BTreeSet<Unit>,
    wakes: BTreeSet<(Timestamp, Unit)>,
    acknowledgements: BTreeSet<(u64, Unit)>,
    readers: BTreeSet<(Key, Unit)>,
}

impl Memories {
    /// Replaces what is remembered of a unit.
    pub(crate) fn remember(&mut self, unit: Unit, memory: Memory) {
        self.forget(&unit);
        if memory.is_empty() {
            return;
        }
        if !memory.problems.is_empty() || !memory.failures.is_empty() {
            self.loud.insert(unit.clone());
        }
        if memory.open {
            self.open.insert(unit.clone());
        }
        self.wakes.extend(memory.wake_at.map(|at| (at, unit.clone())));
        self.acknowledgements.extend(memory.acknowledged_at.map(|revision| (revision, unit.clone())));
        self.readers.extend(memory.reads.iter().map(|key| (key.clone(), unit.clone())));
        self.units.insert(unit, memory);
    }

    fn forget(&mut self, unit: &Unit) {
        let Some(memory) = self.units.remove(unit) else { return };
        self.loud.remove(unit);
        self.open.remove(unit);
        if let Some(at) = memory.wake_at {
            self.wakes.remove(&(at, unit.clone()));
        }
        if let Some(revision) = memory.acknowledged_at {
            self.acknowledgements.remove(&(revision, unit.clone()));
        }
        for key in memory.reads {
            self.readers.remove(&(key, unit.clone()));
        }
    }

    /// Plans a unit again in the next pass.
    pub(crate) fn reopen(&mut self, unit: Unit) {
        self.units.entry(unit.clone()).or_default().open = true;
        self.open.insert(unit);
    }

    /// Who looked at this object by name.
    pub(crate) fn readers<'m>(&'m self, key: &'m Key) -> impl Iterator<Item = &'m Unit> + 'm {
        let first = (key.clone(), Unit { stage: 0, key: lowest() });
        self.readers.range(first..).take_while(move |(read, _)| read == key).map(|(_, unit)| unit)
    }

    /// Who has wanted a step.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Unit> {
        self.open.iter()
    }

    /// Whose time has come.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = &Unit> {
        self.wakes.iter().take_while(move |(at, _)| *at <= now).map(|(_, unit)| unit)
    }

    /// Who waited for no more than this revision.
    pub(crate) fn acknowledged(&self, revision: u64) -> impl Iterator<Item = &Unit> {
        self.acknowledgements.iter().take_while(move |(at, _)| *at <= revision).map(|(_, unit)| unit)
    }

    /// When the next unit wants to be woken.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// All that is said, in the order of the units.
    pub(crate) fn said(&self) -> impl Iterator<Item = (&Unit, &Memory)> {
        self.loud.iter().filter_map(|unit| self.units.get_key_value(unit))
    }
}

/// The first of all keys.
pub(crate) fn lowest() -> Key {
    static LOWEST: std::sync::LazyLock<Key> = std::sync::LazyLock::new(|| Key::new("", "", ""));
    LOWEST.clone()
}
