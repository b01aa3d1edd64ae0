//! Bounded history and the watches that follow it.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Change, Event};

/// History no longer reaches back to the wanted revision (HTTP 410), or the revision is in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {wanted} is not in history, which holds {oldest} to {newest}")]
pub struct Expired {
    /// What was asked for.
    pub wanted: u64,
    /// The first revision whose change is still known.
    pub oldest: u64,
    /// The newest revision.
    pub newest: u64,
}

/// How many changes are remembered.
const CAPACITY: usize = 16_384;
/// How many bytes they may keep: the text of what was replaced or deleted. What is still there costs history nothing.
const BYTES: usize = 64 << 20;
/// So many changes are held as values: those who follow closely look at them. What older ones replaced is held as text,
/// which takes about a tenth of the memory, and is read again by those who come late.
const FRESH: usize = 256;
/// What an event costs that keeps nothing.
const EVENT: usize = 256;

/// A change, and what it costs to remember it.
struct Remembered {
    change: Change,
    bytes: usize,
}

impl Remembered {
    fn new(change: Change) -> Self {
        let kept = |event: &Event| event.previous.as_ref().map_or(0, |previous| previous.json().len());
        let bytes = change.events.iter().map(|event| kept(event).saturating_add(EVENT));
        Self { bytes: bytes.fold(0, usize::saturating_add), change }
    }
}

struct Inner {
    changes: VecDeque<Remembered>,
    /// How many of them, from the oldest on, are folded.
    folded: usize,
    /// What all of them cost.
    bytes: usize,
    /// The revision before the first remembered change.
    floor: u64,
    newest: u64,
    closed: bool,
}

impl Inner {
    /// Folds what a change replaced, where the change that made it shows it, too. Answers with what is not needed any more.
    fn fold(&mut self, place: usize) -> Vec<Arc<[Event]>> {
        let folded: Arc<[Event]> = self.changes[place].change.events.iter().map(Event::folded).collect();
        let mut unfolded = Vec::new();
        for previous in folded.iter().filter_map(|event| event.previous.as_ref()) {
            let made = self.changes.partition_point(|other| other.change.revision < previous.revision);
            let maker = self.changes.get_mut(made).filter(|maker| maker.change.revision == previous.revision);
            let Some(maker) = maker else { continue };
            let shown = |event: &Event| match &event.current {
                Some(current) if current.key == previous.key => {
                    Event::new(event.key.clone(), event.previous.clone(), Some(Arc::clone(previous)))
                }
                _ => event.clone(),
            };
            let events = maker.change.events.iter().map(shown).collect();
            unfolded.push(std::mem::replace(&mut maker.change.events, events));
        }
        unfolded.push(std::mem::replace(&mut self.changes[place].change.events, folded));
        unfolded
    }
}

/// The last [`CAPACITY`] changes, or fewer when they are large: at most [`BYTES`], and the newest in any case.
pub(crate) struct History {
    inner: Mutex<Inner>,
    grown: Notify,
}

impl History {
    pub(crate) fn new(revision: u64) -> Arc<Self> {
        let inner = Inner {
            changes: VecDeque::new(),
            folded: 0,
            bytes: 0,
            floor: revision,
            newest: revision,
            closed: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), grown: Notify::new() })
    }

    pub(crate) fn extend(&self, changes: impl IntoIterator<Item = Change>) {
        // Weighed before the lock is taken, which every watcher waits for.
        let changes: Vec<_> = changes.into_iter().map(Remembered::new).collect();
        let mut unfolded = Vec::new();
        {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            for remembered in changes {
                inner.newest = remembered.change.revision;
                inner.bytes = inner.bytes.saturating_add(remembered.bytes);
                inner.changes.push_back(remembered);
            }
            while inner.changes.len() > CAPACITY || (inner.bytes > BYTES && inner.changes.len() > 1) {
                let Some(dropped) = inner.changes.pop_front() else { break };
                inner.bytes = inner.bytes.saturating_sub(dropped.bytes);
                inner.floor = dropped.change.revision;
                inner.folded = inner.folded.saturating_sub(1);
            }
            while inner.changes.len() - inner.folded > FRESH {
                let next = inner.folded;
                unfolded.extend(inner.fold(next));
                inner.folded += 1;
            }
        }
        // Taking values apart takes long, and happens without the lock.
        drop(unfolded);
        self.grown.notify_waiters();
    }

    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.grown.notify_waiters();
    }

    pub(crate) fn watch(self: &Arc<Self>, after: u64) -> Result<Watch, Expired> {
        let inner = self.inner.lock();
        if after < inner.floor || after > inner.newest {
            return Err(Expired { wanted: after, oldest: inner.floor + 1, newest: inner.newest });
        }
        Ok(Watch { history: Arc::clone(self), position: after })
    }
}

/// A reader of history. It holds no buffer: one that falls behind finds its place expired.
pub struct Watch {
    history: Arc<History>,
    position: u64,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Watch {
    /// The revision up to which this watch has delivered.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next changes, at least one; waits for them. `Ok(empty)` means that the store has closed.
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Result<Vec<Change>, Expired> {
        loop {
            let history = Arc::clone(&self.history);
            let grown = history.grown.notified();
            tokio::pin!(grown);
            // Registered before looking, so that a change in between wakes us.
            grown.as_mut().enable();
            if let Some(changes) = self.take()? {
                return Ok(changes);
            }
            grown.await;
        }
    }

    /// What is there already, without waiting.
    pub fn ready(&mut self) -> Result<Vec<Change>, Expired> {
        Ok(self.take()?.unwrap_or_default())
    }

    fn take(&mut self) -> Result<Option<Vec<Change>>, Expired> {
        let inner = self.history.inner.lock();
        if self.position < inner.floor {
            return Err(Expired { wanted: self.position, oldest: inner.floor + 1, newest: inner.newest });
        }
        if self.position == inner.newest {
            return Ok(inner.closed.then(Vec::new));
        }
        let start = inner.changes.partition_point(|remembered| remembered.change.revision <= self.position);
        let changes = inner.changes.range(start..).take(1_024);
        let changes: Vec<_> = changes.map(|remembered| remembered.change.clone()).collect();
        if let Some(last) = changes.last() {
            self.position = last.revision;
        }
        Ok(Some(changes))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Key, Object};

    fn change(revision: u64, previous_bytes: Option<usize>) -> Change {
        let key = Key::new("configmaps", "d", "c");
        let object = |text: String| Arc::new(Object::new(key.clone(), revision, json!({ "data": text })));
        let previous = previous_bytes.map(|bytes| object("x".repeat(bytes)));
        let event = Event::new(key.clone(), previous, Some(object(String::new())));
        Change { revision, events: Arc::new([event]) }
    }

    #[test]
    fn large_changes_are_forgotten_before_many_are_there() {
        let history = History::new(0);
        let large = BYTES / 4;
        (1..=8).for_each(|revision| history.extend([change(revision, Some(large))]));
        let oldest = history.watch(0).expect_err("forgotten").oldest;
        assert!((6..=7).contains(&oldest), "{oldest}");
        let mut watch = history.watch(oldest - 1).expect("in history");
        let seen: Vec<u64> =
            watch.ready().expect("in history").iter().map(|change| change.revision).collect();
        assert_eq!(seen, (oldest..=8).collect::<Vec<_>>());
        assert!(history.inner.lock().bytes <= BYTES);
    }

    #[test]
    fn the_newest_change_is_remembered_whatever_it_weighs() {
        let history = History::new(0);
        history.extend([change(1, None), change(2, Some(BYTES + 1))]);
        assert!(history.watch(0).is_err());
        assert_eq!(history.watch(1).expect("in history").ready().expect("in history").len(), 1);
        history.extend([change(3, None)]);
        assert_eq!(history.watch(0).expect_err("forgotten").oldest, 3);
    }

    /// Who comes late sees what those saw who were there, and what was replaced is held as text, at both its ends.
    #[test]
    fn what_is_folded_is_the_same() {
        let history = History::new(0);
        let key = Key::new("configmaps", "d", "c");
        let object =
            |revision: u64| Arc::new(Object::new(key.clone(), revision, json!({"data": {"n": revision}})));
        let (mut previous, mut early) = (None, Vec::new());
        let last = 3 * FRESH as u64;
        let mut replaced = Vec::new();
        for revision in 1..=last {
            let current = object(revision);
            replaced.extend(previous.as_ref().map(Arc::downgrade));
            let event = Event::new(key.clone(), previous.replace(Arc::clone(&current)), Some(current));
            let change = Change { revision, events: [event].into() };
            early.push((revision, change.events[0].previous.as_ref().map(|object| object.revision)));
            history.extend([change]);
        }
        let held = replaced.iter().filter(|object| object.strong_count() > 0).count();
        assert_eq!(held, FRESH, "of older ones nobody holds the value");
        let late = history.watch(0).expect("in history").ready().expect("in history");
        assert_eq!(late.len() as u64, last);
        for (change, (revision, before)) in late.iter().zip(early) {
            let event = &change.events[0];
            assert_eq!(
                (change.revision, event.previous.as_ref().map(|object| object.revision)),
                (revision, before)
            );
            assert_eq!(event.current.as_ref().expect("it is there").value["data"]["n"], revision);
            assert!(
                event.previous.as_ref().is_none_or(|object| object.value["data"]["n"] == object.revision)
            );
        }
    }

    #[test]
    fn what_is_still_there_costs_history_nothing() {
        let history = History::new(0);
        history.extend((1..=20_000).map(|revision| change(revision, None)));
        assert_eq!(history.watch(0).expect_err("forgotten").oldest, 20_000 - CAPACITY as u64 + 1);
    }
}
