//! Bounded history and the watches that follow it.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Change;

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

struct Inner {
    changes: VecDeque<Change>,
    /// The revision before the first remembered change.
    floor: u64,
    newest: u64,
    closed: bool,
}

/// The last [`CAPACITY`] changes.
pub(crate) struct History {
    inner: Mutex<Inner>,
    grown: Notify,
}

impl History {
    pub(crate) fn new(revision: u64) -> Arc<Self> {
        let inner = Inner { changes: VecDeque::new(), floor: revision, newest: revision, closed: false };
        Arc::new(Self { inner: Mutex::new(inner), grown: Notify::new() })
    }

    pub(crate) fn extend(&self, changes: impl IntoIterator<Item = Change>) {
        {
            let mut inner = self.inner.lock();
            for change in changes {
                inner.newest = change.revision;
                inner.changes.push_back(change);
            }
            while inner.changes.len() > CAPACITY {
                if let Some(dropped) = inner.changes.pop_front() {
                    inner.floor = dropped.revision;
                }
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
        let start = inner.changes.partition_point(|change| change.revision <= self.position);
        let changes: Vec<_> = inner.changes.range(start..).take(1_024).cloned().collect();
        if let Some(last) = changes.last() {
            self.position = last.revision;
        }
        Ok(Some(changes))
    }
}
