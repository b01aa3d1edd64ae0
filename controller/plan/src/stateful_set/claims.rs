//! The claims of a stateful set's pods: one per template and ordinal, made before the pod and never changed, but for who
//! owns it. That says what becomes of it: it goes with its owner.

use std::collections::BTreeSet;

use serde_json::Value;
use warren_state::{Key, Object, Transaction, at};

use super::draft::{Draft, Member};
use crate::{history, object, outcome::Outcome};
use warren_vocabulary::resources::PERSISTENTVOLUMECLAIMS;

/// Who claims belong to, by `spec.persistentVolumeClaimRetentionPolicy`.
struct Retention {
    /// They go with the set.
    deleted: bool,
    /// They go with a pod that is too many.
    scaled: bool,
}

fn retention(set: &Object) -> Retention {
    let deletes = |field: &str| {
        let policy = at(&set.value, "/spec/persistentVolumeClaimRetentionPolicy");
        policy.and_then(|policy| policy.get(field)).and_then(Value::as_str) == Some("Delete")
    };
    Retention { deleted: deletes("whenDeleted"), scaled: deletes("whenScaled") }
}

fn templates<'t>(draft: &'t Draft<'_, '_>) -> impl Iterator<Item = (&'t str, &'t Value)> {
    let templates = at(&draft.owner.object.value, "/spec/volumeClaimTemplates").and_then(Value::as_array);
    templates.into_iter().flatten().filter_map(|template| {
        Some((at(template, "/metadata/name")?.as_str().filter(|name| !name.is_empty())?, template))
    })
}

/// The volumes of a pod that are claims, and what these are called.
pub(super) fn names<'t>(draft: &'t Draft<'_, '_>, ordinal: i64) -> Vec<(&'t str, String)> {
    let pod = draft.name_of(ordinal);
    templates(draft).map(|(template, _)| (template, format!("{template}-{pod}"))).collect()
}

fn key(draft: &Draft<'_, '_>, name: &str) -> Key {
    Key::new(PERSISTENTVOLUMECLAIMS, &draft.owner.object.key.namespace, name)
}

/// The claims that have to be made for a pod. Nothing while one is on its way out: with it would go what is written to it.
pub(super) fn missing(draft: &Draft<'_, '_>, ordinal: i64) -> Option<Vec<(Key, Value)>> {
    let mut missing = Vec::new();
    for ((_, name), (_, template)) in names(draft, ordinal).iter().zip(templates(draft)) {
        let key = key(draft, name);
        match draft.view.read(&key) {
            Some(claim) if object::is_deleting(claim) || follows_the_dead(draft, claim, ordinal) => {
                return None;
            }
            Some(_) => {}
            // One that is set aside is there.
            None if draft.view.exists(&key) => {}
            None => {
                let claim = new_claim(draft, &key, template);
                missing.push((key, claim));
            }
        }
    }
    Some(missing)
}

/// Whether a claim belongs to an earlier pod of the name, and will follow it.
fn follows_the_dead(draft: &Draft<'_, '_>, claim: &Object, ordinal: i64) -> bool {
    let pod = draft.name_of(ordinal);
    let is_its = |owner: &&Value| owner["kind"] == "Pod" && owner["name"] == *pod;
    object::owners(claim).any(|owner| is_its(&owner))
}

fn new_claim(draft: &Draft<'_, '_>, key: &Key, template: &Value) -> Value {
    let (view, set) = (draft.view, draft.owner.object);
    let mut claim = template.clone();
    object::object_at(&mut claim, &[]).remove("status");
    let fields = object::object_at(&mut claim, &[]);
    fields.insert("apiVersion".into(), "v1".into());
    fields.insert("kind".into(), "PersistentVolumeClaim".into());
    let revision = view.world.snapshot.revision.to_string();
    let uid = object::uuid(&["persistentvolumeclaim", object::uid(set), &key.name, &revision]);
    let kept = ["labels", "annotations", "finalizers"];
    let metadata = object::object_at(&mut claim, &["metadata"]);
    metadata.retain(|field, value| kept.contains(&field.as_str()) && !value.is_null());
    metadata.insert("name".into(), (*key.name).into());
    metadata.insert("namespace".into(), (*key.namespace).into());
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), object::time_text(view.now).into());
    let selected = at(&set.value, "/spec/selector/matchLabels").and_then(Value::as_object);
    let labels = object::object_at(&mut claim, &["metadata", "labels"]);
    labels.extend(selected.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    if retention(set).deleted {
        object::adopt(&mut claim, set);
    }
    claim
}

/// Makes claims that pods wait for and somebody has removed, and gives each claim to the owner that it shall go with.
/// The answer are the ordinals of which no claim waits for that.
pub(super) fn follow(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) -> BTreeSet<i64> {
    let mut followed = BTreeSet::new();
    for (ordinal, member) in &draft.members {
        if follow_pod(draft, *ordinal, member, outcome) {
            followed.insert(*ordinal);
        }
    }
    followed
}

fn follow_pod(draft: &Draft<'_, '_>, ordinal: i64, member: &Member<'_>, outcome: &mut Outcome<'_>) -> bool {
    let mut done = true;
    for ((_, name), (_, template)) in names(draft, ordinal).iter().zip(templates(draft)) {
        let key = key(draft, name);
        let transaction = match draft.view.read(&key) {
            Some(claim) => give(draft, ordinal, member, claim),
            None if is_waiting(draft, ordinal, member) && !draft.view.exists(&key) => {
                Some(Transaction::new().create(key.clone(), new_claim(draft, &key, template)))
            }
            None => None,
        };
        if let Some(mut transaction) = transaction {
            transaction.preconditions.push(history::unchanged(draft.owner));
            outcome.step(format!("{key} follows {}", member.pod.name()), transaction);
            done = false;
        }
    }
    done
}

fn is_waiting(draft: &Draft<'_, '_>, ordinal: i64, member: &Member<'_>) -> bool {
    draft.numbers.wants(ordinal) && member.pod.active() && member.pod.node().is_none()
}

/// Gives a claim the owners that it should have. One that somebody else controls is left alone.
fn give(draft: &Draft<'_, '_>, ordinal: i64, member: &Member<'_>, claim: &Object) -> Option<Transaction> {
    let (set, pod) = (draft.owner.object, member.pod.object);
    let (of_set, of_pod) = (object::uid(set), object::uid(pod));
    let known = [of_set, of_pod];
    if object::is_deleting(claim) || object::controller_uid(claim).is_some_and(|uid| !known.contains(&uid)) {
        return None;
    }
    let retention = retention(set);
    let with_pod = retention.scaled && !draft.numbers.wants(ordinal);
    let with_set = retention.deleted && !with_pod;
    let owns = |uid: &str| object::owners(claim).any(|owner| object::owner_uid(owner) == uid);
    let value = object::edited(claim, |value| {
        for (uid, wanted) in [(of_set, with_set), (of_pod, with_pod)] {
            if !wanted && owns(uid) {
                object::disown(value, uid);
            }
        }
        for (owner, wanted) in [(set, with_set), (pod, with_pod)] {
            if wanted {
                object::own(value, owner);
            }
        }
    })?;
    Some(Transaction::new().replace(claim.key.clone(), claim.revision, value))
}
