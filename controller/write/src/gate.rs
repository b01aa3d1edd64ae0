//! The gate itself: from an intent to a transaction.

use std::sync::Arc;

use serde_json::Value;
use warren_access::{Access, Authorities};
use warren_objects::{Registries, Registry, kinds::Kind};
use warren_state::{Key, Object, Snapshot, Transaction, Write};
use warren_vocabulary::{ClusterConfig, resources::EVENTS};

use crate::{
    Actor, Author, Claim, Intent, Operation, Refusal, Review, Verb,
    chain::{self, Step},
    deletion::{self, Decision},
    eviction, kinds, metadata, scope,
};

/// What internal resources end with.
const INTERNAL: &str = ".warren.internal";

/// What every write passes.
pub struct Gate {
    chain: Vec<Box<dyn Step>>,
    registries: Arc<Registries>,
    authorities: Authorities,
}

/// What a client's write comes to. The transaction must be committed, or dropped with this.
#[derive(Debug)]
pub struct Admitted {
    /// To be committed; empty when nothing changes.
    pub transaction: Transaction,
    /// What becomes of the object.
    pub effect: Effect,
    /// Held until the commit is done.
    _claim: Option<Claim>,
}

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// It is stored like this.
    Stored(Value),
    /// It is removed; this was its last state.
    Removed(Value),
    /// It stays as it is.
    Unchanged,
}

/// What the writes of a planner or a report come to.
#[derive(Debug, Default)]
pub struct Passed {
    /// To be committed.
    pub transaction: Transaction,
    /// Events that were refused. They only tell of what the other writes do, so these happen without them.
    pub left_out: Vec<(Key, Refusal)>,
}

impl Gate {
    /// The gate of a cluster.
    pub fn new(cluster: &ClusterConfig) -> Self {
        Self::with_chain(chain::standard(cluster))
    }

    /// A gate with another chain than [`chain::standard`].
    pub fn with_chain(chain: Vec<Box<dyn Step>>) -> Self {
        Self { chain, registries: Arc::default(), authorities: Authorities::default() }
    }

    /// The same gate, for other kinds than the built-in ones and those that users define.
    #[must_use]
    pub fn for_kinds(self, registries: Arc<Registries>) -> Self {
        Self { registries, ..self }
    }

    /// Which kinds there are, for whoever must agree with the gate about it.
    pub fn registries(&self) -> Arc<Registries> {
        Arc::clone(&self.registries)
    }

    /// The kinds that are served in a state.
    pub fn registry(&self, snapshot: &Snapshot) -> Arc<Registry> {
        self.registries.of(snapshot)
    }

    /// Who may do what in a state.
    pub fn access(&self, snapshot: &Snapshot) -> Arc<Access> {
        self.authorities.of(snapshot)
    }

    /// Judges what a client wants.
    pub fn admit(&self, snapshot: &Snapshot, intent: Intent<'_>) -> Result<Admitted, Refusal> {
        let Intent { author, kind, key, operation } = intent;
        if is_internal(key) {
            return Err(Refusal::forbidden(kind, &key.name, "it is written by the controller alone"));
        }
        let review = |verb, old, new| Review {
            author,
            kind,
            key,
            verb,
            old,
            new,
            before: &[],
            also: Transaction::new(),
            authorities: &self.authorities,
            claim: None,
        };
        match operation {
            Operation::Create { mut object } => {
                scope::first_status(kind, &mut object);
                let review = review(Verb::Create, snapshot.get(key), Some(object));
                self.put(snapshot, review)
            }
            Operation::Update { old, mut object, scope } => {
                metadata::on_update(kind, &old.value, &mut object)?;
                let object = scope::restrict(kind, scope, &old.value, object);
                self.put(snapshot, review(scope.verb(), Some(old), Some(object)))
            }
            Operation::Delete { old, options, now } => {
                deletion::permit(kind, &key.name)?;
                let old = old.ok_or_else(|| Refusal::not_found(kind, &key.name))?;
                options.check(kind, &old.value)?;
                match deletion::decide(kind, &old.value, options, now) {
                    Decision::Pending => Ok(Admitted::nothing()),
                    Decision::Remove => self.put(snapshot, review(Verb::Delete, Some(old), None)),
                    Decision::Mark(object) => {
                        self.put(snapshot, review(Verb::Delete, Some(old), Some(object)))
                    }
                }
            }
            Operation::Evict { old, options, now } => {
                let old = old.ok_or_else(|| Refusal::not_found(kind, &key.name))?;
                options.check(kind, &old.value)?;
                let budget = eviction::spend(snapshot, old, now)?;
                let new = eviction::decide(kind, &old.value, options, now);
                let Admitted { transaction, effect, _claim } =
                    self.put(snapshot, review(Verb::Delete, Some(old), new))?;
                // The budget is spent of with the pod's end, or neither happens.
                Ok(Admitted { transaction: with(transaction, budget), effect, _claim })
            }
        }
    }

    /// Judges the writes of the controller or of a node one by one; the first that is refused refuses all. `snapshot`
    /// is the state that they were planned from.
    pub fn admit_all(
        &self,
        snapshot: &Snapshot,
        author: Author<'_>,
        transaction: Transaction,
    ) -> Result<Passed, Refused> {
        let Transaction { preconditions, writes } = transaction;
        let several = writes.len() > 1;
        let registry = self.registries.of(snapshot);
        let mut passed = Passed::default();
        passed.transaction.preconditions = preconditions;
        for write in writes {
            let key = match &write {
                Write::Put(key, _) | Write::Delete(key) => key.clone(),
            };
            match self.write(&registry, snapshot, author, write, &mut passed) {
                Err(refusal) if several && &*key.resource == EVENTS => passed.left_out.push((key, refusal)),
                Err(refusal) => {
                    let creates = snapshot.get(&key).is_none();
                    return Err(Refused { key, creates, refusal });
                }
                Ok(()) => {}
            }
        }
        Ok(passed)
    }

    /// One write of the controller or of a node. It may reach every part of the object; what it does is read from what
    /// it changes.
    fn write(
        &self,
        registry: &Registry,
        snapshot: &Snapshot,
        author: Author<'_>,
        write: Write,
        passed: &mut Passed,
    ) -> Result<(), Refusal> {
        let (key, new) = match write {
            Write::Put(key, value) => (key, Some(value)),
            Write::Delete(key) => (key, None),
        };
        let old = snapshot.get(&key);
        // What has gone meanwhile needs no judgement.
        let nothing = old.is_none() && new.is_none();
        let kind = registry.stored(&key.resource).filter(|_| !is_internal(&key) && !nothing);
        let Some(kind) = kind else {
            return match is_internal(&key) && !matches!(author.actor, Actor::Client(_)) || nothing {
                true => {
                    passed.transaction.writes.push(written(key, new));
                    Ok(())
                }
                false => Err(Refusal::forbidden_resource(&key.resource, &key.name, "there is no such kind")),
            };
        };
        let verb = verb(kind, old, new.as_ref());
        let also = Transaction::new();
        let (before, authorities) = (&passed.transaction.writes, &self.authorities);
        let mut review =
            Review { author, kind, key: &key, verb, old, new, before, also, authorities, claim: None };
        self.pass(snapshot, &mut review)?;
        let Review { new, also, .. } = review;
        passed.transaction.writes.push(written(key, new));
        passed.transaction.writes.extend(also.writes);
        passed.transaction.preconditions.extend(also.preconditions);
        Ok(())
    }

    fn pass(&self, snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
        self.chain.iter().try_for_each(|step| step.review(snapshot, review))
    }

    /// Leads a client's write through the chain, and makes the transaction.
    fn put(&self, snapshot: &Snapshot, mut review: Review<'_>) -> Result<Admitted, Refusal> {
        self.pass(snapshot, &mut review)?;
        let Review { kind, key, verb, old, new, also, claim, .. } = review;
        let ends = match &new {
            Some(new) => verb != Verb::Delete && deletion::is_finished(kind, new),
            None => true,
        };
        match (old, new) {
            (Some(old), new) if ends => Ok(removal(kind, old, new.unwrap_or_else(|| old.value.clone()))),
            (Some(old), Some(new)) if new == old.value => Ok(Admitted::nothing()),
            (old, Some(new)) => {
                let transaction = match old {
                    Some(old) => Transaction::new().replace(key.clone(), old.revision, new.clone()),
                    None => Transaction::new().create(key.clone(), new.clone()),
                };
                let transaction = with(transaction, also);
                Ok(Admitted { transaction, effect: Effect::Stored(new), _claim: claim })
            }
            (_, None) => Ok(Admitted::nothing()),
        }
    }
}

/// A write of the controller or of a node that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct Refused {
    /// What was to be written.
    pub key: Key,
    /// Whether it was to be made.
    pub creates: bool,
    /// Why it was not.
    pub refusal: Refusal,
}

impl Admitted {
    fn nothing() -> Self {
        Self { transaction: Transaction::new(), effect: Effect::Unchanged, _claim: None }
    }
}

/// The removal of an object and of what was allocated for it.
fn removal(kind: &Kind, old: &Arc<Object>, last: Value) -> Admitted {
    let transaction = Transaction::new().delete(old.key.clone(), old.revision);
    let transaction = (kinds::hooks(kind).release)(&old.value, transaction);
    Admitted { transaction, effect: Effect::Removed(last), _claim: None }
}

fn with(mut transaction: Transaction, also: Transaction) -> Transaction {
    transaction.preconditions.extend(also.preconditions);
    transaction.writes.extend(also.writes);
    transaction
}

fn written(key: Key, new: Option<Value>) -> Write {
    match new {
        Some(value) => Write::Put(key, value),
        None => Write::Delete(key),
    }
}

fn is_internal(key: &Key) -> bool {
    key.resource.ends_with(INTERNAL)
}

/// What a write that may reach everything does.
fn verb(kind: &Kind, old: Option<&Arc<Object>>, new: Option<&Value>) -> Verb {
    let (Some(old), Some(new)) = (old.map(|old| &old.value), new) else {
        return if old.is_some() { Verb::Delete } else { Verb::Create };
    };
    if metadata::is_terminating(new) && !metadata::is_terminating(old) {
        Verb::Delete
    } else if binds(kind, old, new) {
        Verb::Bind
    } else if old["metadata"] == new["metadata"] && !scope::differ_in_desired_state(old, new) {
        Verb::UpdateStatus
    } else {
        Verb::Update
    }
}

/// Whether a pod gets its node.
fn binds(kind: &Kind, old: &Value, new: &Value) -> bool {
    let has_node = |pod: &Value| pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    kind.subresource("binding").is_some() && has_node(new) && !has_node(old)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "gate_tests.rs"]
mod tests;
