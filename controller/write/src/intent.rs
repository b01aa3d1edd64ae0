//! What an author wants to write, and what the steps of the chain see of it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use warren_access::Authorities;
use warren_objects::kinds::Kind;
use warren_state::{Key, Object, Transaction, Write};

use crate::{Author, Claim, Scope, deletion::DeleteOptions, scope};

/// What a client wants to do with one object.
#[derive(Debug)]
pub struct Intent<'a> {
    /// Who wants it.
    pub author: Author<'a>,
    /// The kind that the client speaks of: a version that is stored, or another version of it.
    pub kind: &'a Kind,
    /// Which object.
    pub key: &'a Key,
    /// What shall become of it.
    pub operation: Operation<'a>,
}

/// What shall become of an object.
#[derive(Debug)]
pub enum Operation<'a> {
    /// It is made. Its name and what the server sets are there: [`crate::metadata::on_create`].
    Create {
        /// The new object.
        object: Value,
    },
    /// It is changed.
    Update {
        /// As it is stored.
        old: &'a Arc<Object>,
        /// As it shall be.
        object: Value,
        /// Which part of it the change may reach.
        scope: Scope,
    },
    /// It is a pod, and goes if its disruption budget allows it.
    Evict {
        /// As it is stored, if it is.
        old: Option<&'a Arc<Object>>,
        /// How it is deleted.
        options: &'a DeleteOptions,
        /// When.
        now: Timestamp,
    },
    /// It is deleted.
    Delete {
        /// As it is stored, if it is.
        old: Option<&'a Arc<Object>>,
        /// How.
        options: &'a DeleteOptions,
        /// When.
        now: Timestamp,
    },
}

/// What happens to an object, as the steps of the chain tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// Its status is changed, and nothing else but metadata.
    UpdateStatus,
    /// A namespace is let go.
    Finalize,
    /// A pod gets its node.
    Bind,
    /// It is removed, or marked as being deleted.
    Delete,
}

/// One write on its way through the chain.
#[derive(Debug)]
pub struct Review<'a> {
    /// Who writes.
    pub author: Author<'a>,
    /// The object's kind, in the version that the author speaks.
    pub kind: &'a Kind,
    /// Which object.
    pub key: &'a Key,
    /// What happens to it.
    pub verb: Verb,
    /// What is stored under the key.
    pub old: Option<&'a Arc<Object>>,
    /// What is to be stored; `None` when the object is removed. Steps before the rules may change it.
    pub new: Option<Value>,
    /// What the same commit writes before it: what is counted, is counted with it.
    pub before: &'a [Write],
    /// What must hold, and what is written, beside the object itself.
    pub also: Transaction,
    /// Who may do what.
    pub(crate) authorities: &'a Authorities,
    /// The service address that was chosen for the object.
    pub(crate) claim: Option<Claim>,
}

impl Review<'_> {
    /// The object's name.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// Whether more than metadata and status changes; a new object is such a change, and so is a removal.
    pub fn changes_desired_state(&self) -> bool {
        match (self.old, &self.new) {
            (Some(old), Some(new)) => scope::differ_in_desired_state(&old.value, new),
            _ => true,
        }
    }

    /// Whether a client writes.
    pub fn is_by_client(&self) -> bool {
        self.author.actor.is_client()
    }
}
