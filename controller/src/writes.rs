//! What the controller writes by itself passes the gate for writes like everything else.

use std::sync::Arc;

use anyhow::Context as _;
use warren_store::{CommitError, Snapshot, Store, Transaction};
use warren_write::{Author, Gate};

/// A part of the controller that writes.
pub(crate) struct Writer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gate: Arc<Gate>,
    /// What the part is called.
    pub(crate) name: &'static str,
}

impl Writer {
    /// Commits what was planned from a state. That another author was faster is no error: the answer is whether it was written.
    pub(crate) async fn commit(&self, snapshot: &Snapshot, transaction: Transaction) -> anyhow::Result<bool> {
        let passed = self.gate.admit_all(snapshot, Author::controller(self.name), transaction);
        let passed = passed.with_context(|| format!("what {} writes is refused", self.name))?;
        match self.store.commit(passed.transaction).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
