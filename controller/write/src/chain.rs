//! The chain: what every write passes, step by step, in this order.
//!
//! A step sees one write and the state that it is judged against. What it changes, the steps after it see; what it
//! refuses is not stored. Steps that change objects belong before [`RULES`], which judges the result; steps that only
//! judge (quota, pod security, owners) after it.

use warren_state::{Key, Precondition, Snapshot};
use warren_vocabulary::{ClusterConfig, resources::NAMESPACES};

use crate::{
    Refusal, Review, Verb, addresses::Allocation, births::Births, grants, kinds, metadata, quotas, rules,
};

/// One step of the chain.
pub trait Step: Send + Sync {
    /// What it is called: a word.
    fn name(&self) -> &'static str;

    /// Changes a write, or refuses it.
    fn review(&self, snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal>;
}

/// The name of the step that judges by the rules of the kind.
pub const RULES: &str = "rules";

type Reviewer = fn(&Snapshot, &mut Review<'_>) -> Result<(), Refusal>;

/// A step that needs nothing but what it sees.
struct Plain(&'static str, Reviewer);

impl Step for Plain {
    fn name(&self) -> &'static str {
        self.0
    }

    fn review(&self, snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
        (self.1)(snapshot, review)
    }
}

/// The steps of every cluster.
pub fn standard(cluster: &ClusterConfig) -> Vec<Box<dyn Step>> {
    let (new, changed) = Allocation::pair(cluster);
    vec![
        Box::new(Plain("namespaces", living_namespace)),
        Box::new(Plain("names", free_name)),
        Box::new(Plain("defaults", defaults)),
        Box::new(Plain("classes", complete)),
        Box::new(new),
        Box::new(Plain("generations", generation)),
        Box::new(Plain(RULES, rules::judge)),
        Box::new(Plain("grants", grants::judge)),
        Box::new(Plain("peers", agree)),
        Box::new(changed),
        Box::new(Births::new(cluster)),
        Box::new(Plain("quotas", quotas::charge)),
    ]
}

/// The namespace must be there and not be on its way out, still at the moment of the commit.
fn living_namespace(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    if review.verb != Verb::Create || !review.kind.namespaced {
        return Ok(());
    }
    let namespace = &*review.key.namespace;
    let key = Key::new(NAMESPACES, "", namespace);
    let Some(found) = snapshot.get(&key) else {
        let kind = warren_objects::kinds::of(NAMESPACES);
        let refuse = |kind| Refusal::not_found(kind, namespace);
        return Err(kind.map_or_else(|| Refusal::bad_request("there are no namespaces"), refuse));
    };
    if metadata::is_terminating(&found.value) || found.value["status"]["phase"] == "Terminating" {
        return Err(Refusal::namespace_terminating(review.kind, review.name(), namespace));
    }
    review.also.preconditions.push(Precondition::Revision(key, found.revision));
    Ok(())
}

/// A new object's name must be free.
fn free_name(_: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    match review.old {
        Some(other) if review.verb == Verb::Create => Err(if metadata::is_terminating(&other.value) {
            Refusal::still_being_deleted(review.kind, review.name())
        } else {
            Refusal::already_exists(review.kind, review.name())
        }),
        _ => Ok(()),
    }
}

/// Whichever author makes an object, what was left out is filled in. Changes are completed for clients alone: they may have built
/// on anything, the controller builds on what is stored.
fn defaults(_: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let is_change = review.is_by_client() && !matches!(review.verb, Verb::Bind | Verb::Delete);
    if let (true, Some(new)) = (review.verb == Verb::Create || is_change, &mut review.new) {
        rules::complete(review.kind, new);
    }
    Ok(())
}

/// What a new object gets from others that are there.
fn complete(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    if review.verb == Verb::Create { (kinds::hooks(review.kind).complete)(snapshot, review) } else { Ok(()) }
}

/// What a new or changed object must agree with.
fn agree(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let is_write = matches!(review.verb, Verb::Create | Verb::Update);
    if is_write { (kinds::hooks(review.kind).agree)(snapshot, review) } else { Ok(()) }
}

/// Counts what a client changes. The controller counts its own changes.
fn generation(_: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let is_change = review.is_by_client() && matches!(review.verb, Verb::Update | Verb::Finalize);
    if let (true, Some(old), Some(new)) = (is_change, review.old, &mut review.new) {
        metadata::count_generation(review.kind, &old.value, new);
    }
    Ok(())
}
