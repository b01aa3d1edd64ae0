//! What is to be written, and what must hold for it.

use serde_json::Value;

use crate::Key;

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
