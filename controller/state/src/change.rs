//! What a commit did, as watches show it.

use std::sync::{Arc, OnceLock};

use crate::{Key, Object};

/// One object's part in a commit.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which object.
    pub key: Key,
    /// What it was before; `None` when it was created.
    pub previous: Option<Arc<Object>>,
    /// What it is now; `None` when it was deleted.
    pub current: Option<Arc<Object>>,
    departed: OnceLock<Arc<Object>>,
}

impl Event {
    /// Of an object that was `previous` and is `current`.
    pub fn new(key: Key, previous: Option<Arc<Object>>, current: Option<Arc<Object>>) -> Self {
        Self { key, previous, current, departed: OnceLock::new() }
    }

    /// The same, with what it was before as text.
    #[must_use]
    pub fn folded(&self) -> Self {
        let previous = self.previous.as_ref().map(|previous| Arc::new(previous.folded()));
        Self::new(self.key.clone(), previous, self.current.clone())
    }

    /// What it was before, at the revision at which it ceased to be that: the last that a watch shows of it. Made
    /// once, for all watches.
    pub fn departed(&self, revision: u64) -> Option<&Arc<Object>> {
        let previous = self.previous.as_ref()?;
        Some(
            self.departed.get_or_init(|| {
                Arc::new(Object::new(previous.key.clone(), revision, previous.value.clone()))
            }),
        )
    }
}

/// All events of one commit.
#[derive(Debug, Clone)]
pub struct Change {
    /// The commit's revision.
    pub revision: u64,
    /// In the order of the transaction's writes.
    pub events: Arc<[Event]>,
}
