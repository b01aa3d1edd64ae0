//! A rollout that fails is taken back, where users want that: the template that was last seen to run comes back whole, by
//! the same rules as any other template.
//!
//! Which templates have run is noted on their sets when a rollout is complete. A rollback is noted on the deployment: what
//! failed, and what came back. As long as it has either of these templates nothing is taken back again: what came back may
//! fail, too, and who applies the failed one once more wants it so. Another template, or the failed one when all its pods
//! are available, ends that; the latter has no time of trial then.

use jiff::Timestamp;
use serde_json::Value;
use warren_objects::rollback::{AUTOMATIC_ROLLBACK, automatic_rollback};
use warren_state::{Key, at};

use super::{
    REVISION, TEMPLATE_HASH,
    draft::Draft,
    revision::{self, NOT_COPIED},
    status,
    trouble::{self, Cause},
};
use crate::{object, outcome::Outcome};
use warren_vocabulary::resources::NAMESPACES;

/// On a replica set: of which revision all pods were available, and since when: `3 2026-11-22T12:00:00Z`.
pub(super) const COMPLETE: &str = "warren.dev/complete";
/// On a deployment: the hash of the template that failed.
pub(super) const ROLLED_BACK: &str = "warren.dev/rolled-back";
/// On a deployment: the hash of the template that came back for it.
pub(super) const ROLLED_BACK_TO: &str = "warren.dev/rolled-back-to";
/// Why there was a change, in the users' words: it goes with the template.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// The condition of the deployment, and the reason of its event.
const CONDITION: &str = "RolledBack";
/// The namespace whose annotation holds for the whole cluster.
const SYSTEM: &str = "kube-system";
/// For so many seconds a template that has just become complete may still fail: without a probe a container that crashes
/// at once is ready for a moment, and what it answers is told later.
const TRIAL: i64 = 120;

/// Takes the rollout back if it has failed; then nothing else is to be done in this pass.
pub(super) fn happens(draft: &mut Draft<'_>, outcome: &mut Outcome<'_>) -> bool {
    let hash = hash(draft);
    forget(draft, &hash);
    if object::annotation(&draft.value, ROLLED_BACK).is_some() || !is_open(draft) {
        return false;
    }
    let Some(good) = last_good(draft) else { return false };
    let (cause, again) = trouble::find(draft, good);
    if (cause.is_none() && again.is_none()) || !is_wanted(draft) {
        return false;
    }
    again.into_iter().for_each(|at| outcome.wake(at));
    let Some(cause) = cause else { return false };
    roll_back(draft, good, &hash, &cause);
    true
}

/// Notes that all pods of the new set are available. A size of none proves nothing.
pub(super) fn note_complete(draft: &mut Draft<'_>) {
    let Some(new) = draft.new.filter(|_| draft.numbers.replicas > 0) else { return };
    let is_insisted_on = object::annotation(&draft.value, ROLLED_BACK) == Some(&*hash(draft));
    let value = &mut draft.sets[new].value;
    let revision = object::annotation(value, REVISION).unwrap_or_default().to_owned();
    if completion(value).is_none_or(|(of, _)| of != revision) {
        // What somebody insists on is not taken back once more.
        let since = object::later(draft.view.now, if is_insisted_on { -TRIAL } else { 0 });
        let text = format!("{revision} {}", object::time_text(since));
        object::annotate(value, COMPLETE, text);
        draft.why(format!("revision {revision} is complete"));
    }
    if is_insisted_on {
        clear(draft);
    }
}

/// Of which revision a set was complete, and since when.
fn completion(set: &Value) -> Option<(&str, Timestamp)> {
    let (revision, since) = object::annotation(set, COMPLETE)?.split_once(' ')?;
    Some((revision, since.parse().ok()?))
}

/// What tells the deployment's template from others.
fn hash(draft: &Draft<'_>) -> String {
    let label = draft.new.and_then(|new| object::label(&draft.sets[new].value, TEMPLATE_HASH));
    label.map_or_else(|| revision::hash(draft), str::to_owned)
}

/// A rollback is over when somebody gives the deployment another template.
fn forget(draft: &mut Draft<'_>, hash: &str) {
    let said = |name: &str| object::annotation(&draft.value, name);
    let concerns = |name: &str| said(name) == Some(hash);
    if said(ROLLED_BACK).is_none() || !(concerns(ROLLED_BACK) || concerns(ROLLED_BACK_TO)) {
        clear(draft);
    }
}

fn clear(draft: &mut Draft<'_>) {
    for name in [ROLLED_BACK, ROLLED_BACK_TO] {
        remove_annotation(&mut draft.value, name);
    }
    if object::condition(&draft.value, CONDITION).is_some() {
        object::remove_condition(&mut draft.value, CONDITION);
    }
}

fn remove_annotation(value: &mut Value, name: &str) {
    if object::annotation(value, name).is_some() {
        object::object_at(value, &["metadata", "annotations"]).remove(name);
    }
}

/// Whether the new template has still to prove itself.
fn is_open(draft: &Draft<'_>) -> bool {
    let Some(new) = draft.new else { return true };
    let set = &draft.sets[new].value;
    match completion(set) {
        Some((revision, since)) if object::annotation(set, REVISION) == Some(revision) => {
            object::later(since, TRIAL) > draft.view.now
        }
        _ => true,
    }
}

/// The set of the newest revision but the present one that was once complete.
fn last_good(draft: &Draft<'_>) -> Option<usize> {
    let good = |index: &usize| {
        let set = &draft.sets[*index];
        object::annotation(&set.value, COMPLETE).is_some()
            && set.object.is_some_and(|object| !object::is_deleting(object))
    };
    draft.old().filter(good).max_by_key(|index| draft.sets[*index].revision())
}

/// What the deployment says, or else its namespace, or else the cluster.
fn is_wanted(draft: &Draft<'_>) -> bool {
    let of_namespace =
        |name: &str| automatic_rollback(&draft.view.read(&Key::new(NAMESPACES, "", name))?.value);
    let own = automatic_rollback(&draft.value);
    own.or_else(|| of_namespace(draft.deployment.namespace())).or_else(|| of_namespace(SYSTEM)) == Some(true)
}

/// Gives the deployment the template of a set, and says why.
fn roll_back(draft: &mut Draft<'_>, good: usize, failed_hash: &str, cause: &Cause) {
    let set = &draft.sets[good];
    let (name, revision) = (set.key.name.to_string(), set.revision());
    let label = object::label(&set.value, TEMPLATE_HASH).map(str::to_owned);
    let mut template = at(&set.value, "/spec/template").cloned().unwrap_or_default();
    object::object_at(&mut template, &["metadata", "labels"]).remove(TEMPLATE_HASH);
    object::object_at(&mut draft.value, &["spec"]).insert("template".into(), template);
    object::bump_generation(&mut draft.value);
    restore_annotations(draft, good);
    object::annotate(&mut draft.value, ROLLED_BACK, failed_hash);
    let restored = label.unwrap_or_else(|| revision::hash(draft));
    object::annotate(&mut draft.value, ROLLED_BACK_TO, restored);
    let from = match draft.new {
        Some(new) => {
            // It may have been complete for a moment, or in other times.
            remove_annotation(&mut draft.sets[new].value, COMPLETE);
            format!(" from revision {}", draft.sets[new].revision())
        }
        None => String::new(),
    };
    let message =
        format!("Rolled back{from} to revision {revision} (ReplicaSet \"{name}\"): {}", cause.message);
    object::remove_condition(&mut draft.value, CONDITION);
    status::set(&mut draft.value, CONDITION, ["True", cause.reason, &message], draft.view.now);
    draft.why(message.clone());
    draft.tell(CONDITION, message, true);
}

/// The set's annotations come back with its template, as those of a rollback by hand do. The switch stays as it is, and
/// so does what the set has never had.
fn restore_annotations(draft: &mut Draft<'_>, good: usize) {
    let Draft { sets, value, .. } = draft;
    let annotations = at(&sets[good].value, "/metadata/annotations").and_then(Value::as_object);
    let stays = |name: &str| NOT_COPIED.contains(&name) || name == AUTOMATIC_ROLLBACK;
    remove_annotation(value, CHANGE_CAUSE);
    for (name, text) in annotations.into_iter().flatten().filter(|(name, _)| !stays(name)) {
        if let Some(text) = text.as_str() {
            object::annotate(value, name, text);
        }
    }
}
