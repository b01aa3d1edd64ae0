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
    /// What all of them cost.
    bytes: usize,
    /// The revision before the first remembered change.
    floor: u64,
    newest: u64,
    closed: bool,
}

/// The last [`CAPACITY`] changes, or fewer when they are large: at most [`BYTES`], and the newest in any case.
pub(crate) struct History {
    inner: Mutex<Inner>,
    grown: Notify,
}

impl History {
    pub(crate) fn new(revision: u64) -> Arc<Self> {
        let inner =
            Inner { changes: VecDeque::new(), bytes: 0, floor: revision, newest: revision, closed: false };
        Arc::new(Self { inner: Mutex::new(inner), grown: Notify::new() })
    }

    pub(crate) fn extend(&self, changes: impl IntoIterator<Item = Change>) {
        // Weighed before the lock is taken, which every watcher waits for.
        let changes: Vec<_> = changes.into_iter().map(Remembered::new).collect();
        {
            let mut inner = self.inner.lock();
            for remembered in changes {
                inner.newest = remembered.change.revision;
                inner.bytes = inner.bytes.saturating_add(remembered.bytes);
                inner.changes.push_back(remembered);
            }
            while inner.changes.len() > CAPACITY || (inner.bytes > BYTES && inner.changes.len() > 1) {
                let Some(dropped) = inner.changes.pop_front() else { break };
                inner.bytes = inner.bytes.saturating_sub(dropped.bytes);
                inner.floor = dropped.change.revision;
            }
        }
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

    #[test]
    fn what_is_still_there_costs_history_nothing() {
        let history = History::new(0);
        history.extend((1..=20_000).map(|revision| change(revision, None)));
        assert_eq!(history.watch(0).expect_err("forgotten").oldest, 20_000 - CAPACITY as u64 + 1);
    }
}
