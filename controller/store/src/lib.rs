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
mod reserve;
mod seal;

pub use backup::{Backup, RESTORE_LEAP, RestoreError, Restorer};
pub use embedded::{EmbeddedStore, Rotated};
pub use engine::OpenError;
pub use history::{Expired, Watch};
// What the store's interface speaks of.
pub use warren_state::{
    Change, Difference, Event, Key, KeyError, Object, Precondition, Snapshot, Transaction, Write,
};

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

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
