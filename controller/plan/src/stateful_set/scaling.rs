//! Pods that are missing are made, pods that have ended are made anew, and pods that are too many go: in the order of
//! their ordinals, or all at once.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use warren_state::Transaction;

use super::{
    claims,
    draft::{Draft, Member},
    identity,
};
use crate::{history::REVISION_LABEL, object, outcome::Outcome, sets};
use warren_vocabulary::resources::PODS;

/// Whether all is in order, so that an update may go on. `followed` are the ordinals whose claims wait for nothing.
pub(super) fn scale(draft: &Draft<'_, '_>, followed: &BTreeSet<i64>, outcome: &mut Outcome<'_>) -> bool {
    fill(draft, outcome) && shrink(draft, followed, outcome)
}

/// Makes the pods that are missing, from the first one on.
fn fill(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) -> bool {
    let ordered = draft.numbers.ordered;
    let waiting = draft.members.values().filter(|member| member.pod.node().is_none()).count();
    let mut room = draft.owner.most_waiting().saturating_sub(waiting);
    if draft.view.world.refused(&draft.owner.object.key, PODS).is_some() {
        room = room.min(1);
    }
    for ordinal in draft.numbers.start..draft.numbers.end() {
        match draft.members.get(&ordinal) {
            Some(member) if member.available => continue,
            Some(member) => mend(draft, member, outcome),
            None if room == 0 => {
                hold_back(draft, waiting, outcome);
                return !ordered;
            }
            None => {
                create(draft, ordinal, outcome);
                room = room.saturating_sub(1);
            }
        }
        if ordered {
            return false;
        }
    }
    true
}

fn hold_back(draft: &Draft<'_, '_>, waiting: usize, outcome: &mut Outcome<'_>) {
    // What this pass makes is not counted: it is what is waited for next.
    if waiting >= draft.owner.most_waiting() {
        let wanted = usize::try_from(draft.numbers.replicas).unwrap_or(usize::MAX);
        let missing = wanted.saturating_sub(draft.wanted().count());
        draft.owner.hold_back(draft.view, waiting, missing, outcome);
    }
}

/// A pod that has ended is deleted, and comes back when it is gone.
fn mend(draft: &Draft<'_, '_>, member: &Member<'_>, outcome: &mut Outcome<'_>) {
    if !member.pod.terminal() || member.pod.deleting() {
        return;
    }
    let Some(mut transaction) = draft.deletion(member) else { return };
    let (set, name) = (&draft.owner.object.key, member.pod.name());
    let failed = member.pod.phase() == "Failed";
    let (reason, what) =
        if failed { ("RecreatingFailedPod", "failed") } else { ("RecreatingTerminatedPod", "terminated") };
    let message = format!("StatefulSet {}/{} is recreating {what} Pod {name}", set.namespace, set.name);
    draft.owner.tell(draft.view, &mut transaction, reason, message, failed);
    outcome.step(format!("delete {}: it has ended", member.pod.object.key), transaction);
}

fn create(draft: &Draft<'_, '_>, ordinal: i64, outcome: &mut Outcome<'_>) {
    let (view, set, key) = (draft.view, draft.owner.object, draft.key_of(ordinal));
    if view.exists(&key) {
        // Somebody else's pod, or one that is set aside; one that goes away makes room.
        if view.read(&key).is_none_or(|other| !sets::makes_room(view, other)) {
            let message = format!(
                "create Pod {} in StatefulSet {} failed error: pods \"{}\" already exists",
                key.name, set.key.name, key.name
            );
            draft.owner.tell_failure(view, outcome, message);
        }
        return;
    }
    let Some(claims) = claims::missing(draft, ordinal) else { return };
    let mut transaction = Transaction::new();
    for (claim, value) in claims {
        let message =
            format!("create Claim {} Pod {} in StatefulSet {} success", claim.name, key.name, set.key.name);
        transaction = transaction.create(claim, value);
        draft.owner.tell(view, &mut transaction, "SuccessfulCreate", message, false);
    }
    let transaction = transaction.create(key.clone(), pod(draft, ordinal));
    let message = format!("create Pod {} in StatefulSet {} successful", key.name, set.key.name);
    let transaction = draft.decide(transaction, "SuccessfulCreate", message);
    outcome.step(format!("create {key}"), transaction);
}

/// The pod of an ordinal: of the present template, unless the update leaves it out.
fn pod(draft: &Draft<'_, '_>, ordinal: i64) -> Value {
    let stays = draft.numbers.rolling.as_ref().is_some_and(|rolling| ordinal < rolling.from);
    let revision = if stays { draft.current } else { draft.update };
    let name = draft.name_of(ordinal);
    let mut pod = draft.owner.new_pod(draft.view, &revision.template(), &name);
    let labels = object::object_at(&mut pod, &["metadata", "labels"]);
    identity::label(labels, &name, ordinal);
    labels.insert(REVISION_LABEL.into(), revision.name().into());
    let service = warren_state::at(&draft.owner.object.value, "/spec/serviceName").and_then(Value::as_str);
    let spec = object::object_at(&mut pod, &["spec"]);
    spec.insert("hostname".into(), name.as_str().into());
    if let Some(service) = service.filter(|service| !service.is_empty()) {
        spec.insert("subdomain".into(), service.into());
    }
    let claims = claims::names(draft, ordinal);
    if !claims.is_empty() {
        let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
        let others =
            volumes.filter(|volume| !claims.iter().any(|(volume_name, _)| volume["name"] == **volume_name));
        let claimed = claims.iter().map(
            |(volume, claim)| json!({ "name": volume, "persistentVolumeClaim": { "claimName": claim } }),
        );
        let volumes: Vec<Value> = others.cloned().chain(claimed).collect();
        spec.insert("volumes".into(), volumes.into());
    }
    pod
}

/// Deletes the pods that are too many, from the last one on. In order, one goes when all after it are gone and all
/// before it are well; the first that is not well may go itself.
fn shrink(draft: &Draft<'_, '_>, followed: &BTreeSet<i64>, outcome: &mut Outcome<'_>) -> bool {
    let ordered = draft.numbers.ordered;
    let first_unwell =
        draft.members.iter().find(|(_, member)| !member.available).map(|(ordinal, _)| *ordinal);
    for (ordinal, member) in draft.condemned().rev() {
        let waits = ordered && !member.available && first_unwell.is_some_and(|first| first != ordinal);
        if !member.pod.deleting() && !waits && followed.contains(&ordinal) {
            draft.delete(member, "the set is smaller", outcome);
        }
        if ordered {
            return false;
        }
    }
    true
}
