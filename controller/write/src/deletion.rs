//! What deleting an object means: at once, gracefully, or held by finalizers. Pure.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use warren_objects::kinds::Kind;

use crate::{Refusal, kinds, metadata};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// What a pod gets when neither the request nor the pod says.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// 403 for what nobody may delete.
pub(crate) fn permit(kind: &Kind, name: &str) -> Result<(), Refusal> {
    (kinds::hooks(kind).undeletable)(name).map_or(Ok(()), |why| Err(Refusal::forbidden(kind, name, why)))
}

/// What a client is told who does not say what becomes of the pods of a job.
const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; set \
    propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// What a client should know of what it asks for.
pub fn warning(kind: &Kind, options: &DeleteOptions) -> Option<&'static str> {
    let orphans = kinds::hooks(kind).propagation == Some(Propagation::Orphan);
    (orphans && options.propagation.is_none()).then_some(PODS_STAY)
}

/// What becomes of what an object owns, if the request does not say and none before it has.
fn by_default(kind: &Kind, object: &Value) -> Option<Propagation> {
    let said = metadata::finalizers(object).contains(&FOREGROUND);
    kinds::hooks(kind).propagation.filter(|_| !said)
}

/// What happens to the objects that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They go later.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How long what runs may take to end, in seconds; negative for "as soon as possible".
    pub grace_seconds: Option<i64>,
    /// What becomes of what the object owns.
    pub propagation: Option<Propagation>,
    /// Only if it is this one.
    pub uid: Option<String>,
    /// Only if it is at this revision.
    pub resource_version: Option<String>,
    /// Nothing is written.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// 409 unless the object is the one that is meant.
    pub fn check(&self, kind: &Kind, object: &Value) -> Result<(), Refusal> {
        let name = metadata::text(object, "name");
        for (what, wanted, field, hint) in [
            ("UID", &self.uid, "uid", "The object might have been deleted and then recreated"),
            (
                "ResourceVersion",
                &self.resource_version,
                "resourceVersion",
                "The object might have been modified",
            ),
        ] {
            let found = metadata::text(object, field);
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). {hint}"
                );
                return Err(Refusal::conflict_because(kind, name, &why));
            }
        }
        Ok(())
    }
}

/// What a deletion does to the stored object.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// It goes now.
    Remove,
    /// It stays, marked.
    Mark(Value),
    /// It is already on its way.
    Pending,
}

/// Decides. Preconditions have been checked.
pub(crate) fn decide(kind: &Kind, object: &Value, options: &DeleteOptions, now: Timestamp) -> Decision {
    let marked = with_propagation(object, options.propagation.or_else(|| by_default(kind, object)));
    let first = !metadata::is_terminating(object);
    if let Some(decide) = kinds::hooks(kind).decide_deletion {
        return decide(object, marked, options, now);
    }
    match metadata::finalizers(&marked).is_empty() {
        true => Decision::Remove,
        false if first => mark(object, marked, 0, now),
        false => pending_unless_changed(object, marked),
    }
}

/// A pod that runs gets time to end.
pub(crate) fn decide_pod(object: &Value, marked: Value, options: &DeleteOptions, now: Timestamp) -> Decision {
    match pod_grace(object, options) {
        Some(grace) if grace > 0 => mark(object, marked, grace, now),
        None => pending_unless_changed(object, marked),
        Some(_) if metadata::finalizers(&marked).is_empty() => Decision::Remove,
        Some(_) => mark(object, marked, 0, now),
    }
}

fn pending_unless_changed(object: &Value, marked: Value) -> Decision {
    if *object == marked { Decision::Pending } else { Decision::Mark(marked) }
}

/// The finalizers of the garbage collector follow the latest request that names a policy.
fn with_propagation(object: &Value, propagation: Option<Propagation>) -> Value {
    let mut marked = object.clone();
    let Some(propagation) = propagation else { return marked };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let mut finalizers: Vec<&str> = metadata::finalizers(object);
    finalizers.retain(|finalizer| ![FOREGROUND, ORPHAN].contains(finalizer) || Some(*finalizer) == wanted);
    if let Some(wanted) = wanted.filter(|wanted| !finalizers.contains(wanted)) {
        finalizers.push(wanted);
    }
    let metadata = metadata::of(&mut marked);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
    marked
}

/// Sets the deletion's time; the first mark counts as a change of the desired state.
fn mark(object: &Value, mut marked: Value, grace: i64, now: Timestamp) -> Decision {
    let begun = begun(object).unwrap_or(now);
    let end = begun.checked_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
    let metadata = metadata::of(&mut marked);
    metadata.insert("deletionTimestamp".into(), json!(metadata::timestamp(end)));
    metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
    if !metadata::is_terminating(object) && !object["metadata"]["generation"].is_null() {
        metadata::bump_generation(&mut marked);
    }
    if *object == marked { Decision::Pending } else { Decision::Mark(marked) }
}

/// When an earlier deletion began: its end less its grace.
fn begun(object: &Value) -> Option<Timestamp> {
    let end: Timestamp = metadata::text(object, "deletionTimestamp").parse().ok()?;
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    end.checked_sub(SignedDuration::from_secs(grace)).ok()
}

/// The grace period that a pod gets; `None`: it is ending already and the request does not shorten it.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> Option<i64> {
    // A negative value means "as soon as possible, but tell the node".
    let wanted = options.grace_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    if metadata::is_terminating(pod) {
        let current = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        return wanted.filter(|wanted| *wanted < current);
    }
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or("").is_empty();
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || finished {
        return Some(0);
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    Some(wanted.or(own).unwrap_or(DEFAULT_GRACE_SECONDS).max(0))
}

/// The planner empties the namespace and removes it.
pub(crate) fn terminate_namespace(
    object: &Value,
    mut marked: Value,
    _: &DeleteOptions,
    now: Timestamp,
) -> Decision {
    if metadata::is_terminating(object) {
        return pending_unless_changed(object, marked);
    }
    metadata::of(&mut marked).insert("deletionTimestamp".into(), json!(metadata::timestamp(now)));
    marked["status"]["phase"] = json!("Terminating");
    Decision::Mark(marked)
}

/// Whether an update has removed the last thing that kept a dying object.
pub(crate) fn is_finished(kind: &Kind, object: &Value) -> bool {
    let graceful = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) != 0;
    let is_free = metadata::is_terminating(object) && metadata::finalizers(object).is_empty() && !graceful;
    is_free && !(kinds::hooks(kind).is_held)(object)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "deletion_tests.rs"]
mod tests;
