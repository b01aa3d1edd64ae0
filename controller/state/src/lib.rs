//! What the cluster's state is made of: objects at revisions, snapshots of all of them, and the transactions and changes
//! that lead from one to the next.
//!
//! Values and pure functions only: planners and the compiler know the state by this crate, and cannot name the store
//! that keeps it.

mod change;
mod document;
mod object;
mod snapshot;
mod transaction;

pub use change::{Change, Event};
pub use document::Document;
pub use object::{Key, KeyError, Object, at};
pub use snapshot::{Difference, Snapshot};
pub use transaction::{Precondition, Transaction, Write};
