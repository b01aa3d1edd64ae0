//! The replica set with the deployment's template: found among the old ones (then a rollback), or made.

use serde_json::{Value, json};
use warren_state::Key;

use super::{
    REVISION, REVISION_HISTORY, TEMPLATE_HASH,
    draft::{Draft, Set, note_size},
    number, rolling,
    status::progress,
};
use crate::{indexes::By, object};
use warren_vocabulary::resources::REPLICASETS;

/// Annotations that belong to the deployment or the set alone.
pub(super) const NOT_COPIED: [&str; 9] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    super::DESIRED,
    super::MAXIMUM,
    "deprecated.deployment.rollback.to",
    super::rollback::COMPLETE,
    super::rollback::ROLLED_BACK,
    super::rollback::ROLLED_BACK_TO,
];
/// The longest list of revisions that a set has had.
const HISTORY_LENGTH: usize = 2_000;
/// How many letters of hash a set's name has.
const HASH_LENGTH: usize = 10;

/// Why a deployment does not progress whose set is refused.
pub(super) const CREATE_ERROR: &str = "ReplicaSetCreateError";

/// Finds the set whose template is the deployment's, and gives it the newest revision.
pub(super) fn find(draft: &mut Draft<'_>) {
    let template = template_text(&draft.value);
    draft.new = draft.sets.iter().position(|set| template_text(&set.value) == template);
    if draft.new.is_none() {
        // A deployment of an older version lacks what is filled in today; its set was completed where it was let in.
        let complete = |value: &Value| {
            let template = warren_state::at(value, "/spec/template").cloned().unwrap_or_default();
            let mut set = json!({ "spec": { "template": template } });
            if let Some(kind) = warren_objects::kinds::of(REPLICASETS) {
                warren_objects::defaults::apply(kind, &mut set);
            }
            template_text(&set)
        };
        let template = complete(&draft.value);
        draft.new = draft.sets.iter().position(|set| complete(&set.value) == template);
    }
    let Some(new) = draft.new else { return };
    let newest_other = draft.old().map(|index| draft.sets[index].revision()).max().unwrap_or(0);
    mark(draft, new, newest_other.saturating_add(1));
    let wait = draft.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let spec = object::object_at(&mut draft.sets[new].value, &["spec"]);
    if spec.get("minReadySeconds").and_then(Value::as_i64).unwrap_or(0) != i64::from(wait) {
        spec.insert("minReadySeconds".into(), wait.into());
    }
    note_revision(draft, new);
    if object::condition(&draft.value, "Progressing").is_none() {
        let message = format!("Found new replica set \"{}\"", draft.sets[new].key.name);
        progress(draft, "True", "FoundNewReplicaSet", &message);
    }
}

/// Makes the set with the deployment's template, unless it is there.
pub(super) fn make(draft: &mut Draft<'_>) {
    if draft.new.is_some() {
        return;
    }
    if is_refused(draft) {
        return;
    }
    let hash = hash(draft);
    let name = format!("{}-{hash}", draft.deployment.name());
    let key = Key::new(REPLICASETS, draft.deployment.namespace(), &name);
    if let Some(existing) = draft.view.read(&key) {
        // One that is going away, or whose owner is gone, makes room soon; another one never does.
        let owner = object::controller_uid(existing).unwrap_or_default();
        let owned = owner == draft.deployment.uid() || owner_lives(draft, owner);
        if owned && !object::is_deleting(existing) {
            let count = collisions(draft).saturating_add(1);
            object::object_at(&mut draft.value, &["status"]).insert("collisionCount".into(), count.into());
            draft.why(format!("{name} is taken"));
        }
        return;
    }
    let value = new_set(draft, &key, &hash);
    let set = Set {
        object: None,
        key,
        value,
        created_at: draft.view.now,
        replicas: 0,
        live: 0,
        ready: 0,
        available: 0,
        reliable: 0,
        running: 0,
        removed: false,
    };
    let revision = draft.sets.iter().map(Set::revision).max().unwrap_or(0).saturating_add(1);
    draft.sets.push(set);
    let new = draft.sets.len() - 1;
    draft.new = Some(new);
    mark(draft, new, revision);
    note_size(&mut draft.sets[new].value, draft.numbers.replicas, draft.numbers.maximum());
    draft.why(format!("create replica set {name}"));
    let size = rolling::new_size(draft);
    draft.resize(new, size);
    progress(draft, "True", "NewReplicaSetCreated", &format!("Created new replica set \"{name}\""));
    note_revision(draft, new);
}

/// The hash of the set that is made for the deployment's template.
pub(super) fn hash(draft: &Draft<'_>) -> String {
    object::letters(&[&template_text(&draft.value), &collisions(draft).to_string()], HASH_LENGTH)
}

/// How many names of sets were taken.
fn collisions(draft: &Draft<'_>) -> i64 {
    warren_state::at(&draft.value, "/status/collisionCount").and_then(Value::as_i64).unwrap_or(0)
}

/// Whether the set must not be made now because it was refused; that is said.
fn is_refused(draft: &mut Draft<'_>) -> bool {
    let view = draft.view;
    let refused = view.world.refused(&draft.deployment.object.key, REPLICASETS);
    let Some(refused) = refused.filter(|refused| refused.until > view.now) else { return false };
    let message = format!("Failed to create new replica set: {}", refused.message);
    let reason = object::condition(&draft.value, "Progressing").map(|said| said["reason"].clone());
    if reason.is_none_or(|reason| reason != "ProgressDeadlineExceeded") {
        progress(draft, "False", CREATE_ERROR, &message);
    }
    true
}

fn owner_lives(draft: &Draft<'_>, uid: &str) -> bool {
    draft.view.indexes.any(By::Deployment, uid)
}

/// The template as text that is equal for equal templates, whatever their hash label.
fn template_text(value: &Value) -> String {
    let mut template = warren_state::at(value, "/spec/template").cloned().unwrap_or_default();
    let metadata = object::object_at(&mut template, &["metadata"]);
    metadata.remove("creationTimestamp");
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    object::canonical(&template)
}

fn new_set(draft: &Draft<'_>, key: &Key, hash: &str) -> Value {
    let deployment = draft.deployment;
    let mut spec = draft.value.get("spec").cloned().unwrap_or_default();
    let mut template = spec["template"].take();
    object::object_at(&mut template, &["metadata", "labels"]).insert(TEMPLATE_HASH.into(), hash.into());
    let mut selector = spec["selector"].take();
    object::object_at(&mut selector, &["matchLabels"]).insert(TEMPLATE_HASH.into(), hash.into());
    let labels = warren_state::at(&template, "/metadata/labels").cloned().unwrap_or_default();
    let revision = draft.view.world.snapshot.revision.to_string();
    let mut value = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": &*key.name,
            "namespace": &*key.namespace,
            "uid": object::uuid(&["replicaset", deployment.uid(), &key.name, &revision]),
            "creationTimestamp": object::time_text(draft.view.now),
            "generation": 1,
            "labels": labels,
            "ownerReferences": [object::controller_reference(deployment.object)],
        },
        "spec": { "replicas": 0, "selector": selector, "template": template },
        "status": { "replicas": 0 },
    });
    if let Some(wait) =
        deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).filter(|wait| *wait > 0)
    {
        object::object_at(&mut value, &["spec"]).insert("minReadySeconds".into(), wait.into());
    }
    value
}

/// Copies the deployment's annotations (change-cause among them) and raises the revision.
fn mark(draft: &mut Draft<'_>, index: usize, revision: i64) {
    let copied: Vec<(String, String)> = draft
        .deployment
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(name, _)| !NOT_COPIED.contains(&name.as_str()))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    let exists = draft.sets[index].object.is_some();
    let value = &mut draft.sets[index].value;
    for (name, text) in copied {
        if object::annotation(value, &name) != Some(text.as_str()) {
            object::annotate(value, &name, text);
        }
    }
    let current = number(value, REVISION);
    if current.unwrap_or(0) < revision {
        if let (true, Some(current)) = (exists, current) {
            let history = object::annotation(value, REVISION_HISTORY).filter(|text| !text.is_empty());
            let history = history.map_or(current.to_string(), |history| {
                format!("{},{current}", newest_of(history, HISTORY_LENGTH))
            });
            object::annotate(value, REVISION_HISTORY, history);
        }
        object::annotate(value, REVISION, revision.to_string());
    }
}

/// The end of a list of numbers that is not longer than this: the oldest are forgotten.
fn newest_of(history: &str, length: usize) -> &str {
    let Some(surplus) = history.len().checked_sub(length).filter(|surplus| *surplus > 0) else {
        return history;
    };
    let comma = history.bytes().skip(surplus).position(|byte| byte == b',');
    comma.and_then(|comma| history.get(surplus.saturating_add(comma).saturating_add(1)..)).unwrap_or_default()
}

/// The deployment carries the revision of its new set.
fn note_revision(draft: &mut Draft<'_>, new: usize) {
    let revision = draft.sets[new].revision();
    if number(&draft.value, REVISION) != Some(revision) {
        object::annotate(&mut draft.value, REVISION, revision.to_string());
    }
}

/// Removes old, empty sets beyond the history that is kept, the oldest revisions first.
pub(super) fn clean(draft: &mut Draft<'_>) {
    let spec = draft.deployment.spec.as_ref();
    let limit = spec.and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(0);
    let alive = |set: &Set<'_>| set.object.is_some_and(|object| !object::is_deleting(object));
    let mut old: Vec<_> = draft.old().filter(|index| alive(&draft.sets[*index])).collect();
    let surplus = old.len().saturating_sub(limit);
    old.sort_by_key(|index| (draft.sets[*index].revision(), draft.sets[*index].created_at));
    for index in old.into_iter().take(surplus) {
        let set = &mut draft.sets[index];
        // A set with pods is still needed; one with finalizers goes the way of the API.
        let empty = set.replicas == 0 && set.running == 0;
        if empty && set.object.is_some_and(|object| object::finalizers(object).next().is_none()) {
            set.removed = true;
            let name = set.key.name.to_string();
            draft.why(format!("forget replica set {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_history_forgets_the_oldest() {
        for (history, length, kept) in [
            ("1,3,5", 10, "1,3,5"),
            ("1,3,5", 5, "1,3,5"),
            ("10,30,50", 4, "50"),
            ("1,2,3", 3, "3"),
            ("12345", 3, ""),
        ] {
            assert_eq!(newest_of(history, length), kept, "{history}");
        }
        assert_eq!(newest_of("ü,ü,1", 4), "1", "whatever somebody wrote there");
    }
}
