//! Revisioned objects: get, list, compare-and-swap, watch.
//!
//! ```text
//!  commit(preconditions, writes) ──► committer thread ──► engine (durable) ──► memory ──► watches ──► reply
//! ```
//!
//! One global revision counts commits. A commit is checked against pending state, durable before memory and
//! watches show it, and shown before it is acknowledged. The whole state is held in memory, shared immutably.
//! The store knows keys and JSON; it does not know Kubernetes, except that it stamps
//! `metadata.resourceVersion` on what it hands out, and that secrets are encrypted before they reach the disk.

mod backup;
mod embedded;
mod engine;
mod file;
mod head;
mod history;
mod keys;
mod object;
mod reserve;
mod seal;

pub use backup::{Backup, RESTORE_LEAP, RestoreError, Restorer};
pub use embedded::{EmbeddedStore, Rotated};
pub use engine::OpenError;
pub use history::{Change, Event, Expired, Watch};
pub use object::{Key, KeyError, Object, Snapshot};

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

use serde_json::Value;

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// No object has this key.
    Absent(Key),
    /// The object exists and was last written at this revision.
    Revision(Key, u64),
    /// The object exists.
    Exists(Key),
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Creates or replaces. `metadata.resourceVersion` in the value is overwritten.
    Put(Key, Value),
    /// Removes; an absent key is no error (use [`Precondition::Exists`]).
    Delete(Key),
}

/// Several keys, one revision, delivered to watches together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    /// All must hold, judged at the moment of the commit.
    pub preconditions: Vec<Precondition>,
    /// Applied in order.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }
    /// Creates an object that must not exist.
    pub fn create(mut self, key: Key, value: Value) -> Self {
        self.preconditions.push(Precondition::Absent(key.clone()));
        self.writes.push(Write::Put(key, value));
        self
    }
    /// Replaces an object that must still be at `revision`.
    pub fn replace(mut self, key: Key, revision: u64, value: Value) -> Self {
        self.preconditions.push(Precondition::Revision(key.clone(), revision));
        self.writes.push(Write::Put(key, value));
        self
    }
    /// Removes an object that must still be at `revision`.
    pub fn delete(mut self, key: Key, revision: u64) -> Self {
        self.preconditions.push(Precondition::Revision(key.clone(), revision));
        self.writes.push(Write::Delete(key));
        self
    }
}

/// Why a commit did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A precondition did not hold; nothing was written.
    #[error("precondition failed: {0:?}")]
    Conflict(Precondition),
    /// The engine could not make it durable; nothing was written.
    #[error("the store could not write: {0}")]
    Storage(String),
    /// The disk is full; nothing was written.
    #[error(
        "the controller's disk is full ({problem}): free space on the file system of {directory}; until then only \
         deletions are accepted"
    )]
    Full {
        /// The store's directory.
        directory: PathBuf,
        /// What the file system said.
        problem: String,
    },
    /// The store has shut down.
    #[error("the store is closed")]
    Closed,
}

/// A boxed future, so that [`Store`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What every engine honestly provides.
pub trait Store: Send + Sync + 'static {
    /// Commits; the answer is the new revision. A transaction without writes answers the current revision.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<u64, CommitError>>;
    /// The state now. Cheap; the snapshot stays valid and unchanged for ever.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Every change after `revision`, or [`Expired`] when history no longer reaches back so far.
    fn watch(&self, after: u64) -> Result<Watch, Expired>;
}
