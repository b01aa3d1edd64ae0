//! What the deployment says about itself: counts, Available, Progressing.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::draft::Draft;
use crate::{object, outcome::Outcome, replicaset::REPLICA_FAILURE};

/// The reason of Progressing when a rollout takes too long.
pub(super) const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// Sets the counts and the condition Available.
pub(super) fn counts(draft: &mut Draft<'_>) {
    let sum = |of: fn(&super::draft::Set<'_>) -> i64| draft.sets.iter().map(of).sum::<i64>();
    let (replicas, ready, available) = (sum(|set| set.live), sum(|set| set.ready), sum(|set| set.available));
    let unavailable = (draft.total() - available).max(0);
    let updated = draft.new.map_or(0, |new| draft.sets[new].live);
    let generation = object::generation(draft.deployment.object);
    let value = &mut draft.value;
    object::object_at(value, &["status"]).insert("observedGeneration".into(), generation.into());
    for (name, count) in [
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("unavailableReplicas", unavailable),
    ] {
        object::set_count(value, name, count);
    }
    let (status, reason, message) = if available >= draft.numbers.minimum() {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut draft.value, "Available", [status, reason, message], draft.view.now);
    failure(draft);
}

/// Repeats what a set says of pods that are refused to it: the new one, or else any other.
fn failure(draft: &mut Draft<'_>) {
    let said = |set: &super::draft::Set<'_>| object::condition(&set.value, REPLICA_FAILURE).cloned();
    let new = draft.new.and_then(|new| said(&draft.sets[new]));
    match new.or_else(|| draft.sets.iter().find_map(said)) {
        Some(said) => {
            let [status, reason, message] =
                ["status", "reason", "message"].map(|field| said[field].as_str().unwrap_or_default());
            set(&mut draft.value, REPLICA_FAILURE, [status, reason, message], draft.view.now);
        }
        None => object::remove_condition(&mut draft.value, REPLICA_FAILURE),
    }
}

/// Counts, and how the rollout goes.
pub(super) fn rollout(draft: &mut Draft<'_>, outcome: &mut Outcome<'_>) {
    counts(draft);
    let Some(deadline) = deadline(draft) else {
        object::remove_condition(&mut draft.value, "Progressing");
        return;
    };
    let reason = reason(&draft.value);
    let count = |value: &Value, name: &str| value["status"][name].as_i64().unwrap_or(0);
    let finished = reason.as_deref() == Some("NewReplicaSetAvailable")
        && count(&draft.value, "replicas") == count(&draft.value, "updatedReplicas");
    if finished {
        return;
    }
    let subject = subject(draft);
    let before = &draft.deployment.object.value;
    let more = |name: &str| count(&draft.value, name) > count(before, name);
    let outdated = |value: &Value| count(value, "replicas") - count(value, "updatedReplicas");
    if is_complete(draft) {
        progress(draft, "True", "NewReplicaSetAvailable", &format!("{subject} has successfully progressed."));
    } else if more("updatedReplicas")
        || outdated(&draft.value) < outdated(before)
        || more("readyReplicas")
        || more("availableReplicas")
    {
        renew(draft, &format!("{subject} is progressing."));
    } else if reason.as_deref() != Some("NewReplicaSetAvailable")
        && let Some(since) = last_update(&draft.value)
    {
        let expiry = object::later(since, deadline);
        if expiry <= draft.view.now {
            progress(draft, "False", DEADLINE_EXCEEDED, &timed_out(&subject));
        }
        outcome.wake(expiry);
    }
}

/// What is rolled out, or is not.
fn subject(draft: &Draft<'_>) -> String {
    match draft.new {
        Some(new) => format!("ReplicaSet \"{}\"", draft.sets[new].key.name),
        None => format!("Deployment \"{}\"", draft.deployment.name()),
    }
}

fn timed_out(subject: &str) -> String {
    format!("{subject} has timed out progressing.")
}

/// Whether it has been said that the present rollout took too long, and how. What was said of an earlier one stays until
/// something moves.
pub(super) fn exceeded<'d>(draft: &Draft<'d>) -> Option<&'d str> {
    let said = object::condition(&draft.deployment.object.value, "Progressing")?;
    let message = said["message"].as_str()?;
    (said["reason"] == DEADLINE_EXCEEDED && message == timed_out(&subject(draft))).then_some(message)
}

/// Whether all pods are of the new set, and all are available.
pub(super) fn is_complete(draft: &Draft<'_>) -> bool {
    let wanted = draft.numbers.replicas;
    let live: i64 = draft.sets.iter().map(|set| set.live).sum();
    let available: i64 = draft.sets.iter().map(|set| set.available).sum();
    live == wanted
        && available == wanted
        && draft.new.is_some_and(|new| draft.sets[new].live == wanted && draft.sets[new].replicas == wanted)
}

/// The clock of a rollout stands while it is paused.
pub(super) fn paused(draft: &mut Draft<'_>) {
    let reason = reason(&draft.value);
    let reason = reason.as_deref();
    if deadline(draft).is_none() || reason == Some(DEADLINE_EXCEEDED) {
        return;
    }
    match (draft.paused(), reason == Some("DeploymentPaused")) {
        (true, false) => progress(draft, "Unknown", "DeploymentPaused", "Deployment is paused"),
        (false, true) => progress(draft, "Unknown", "DeploymentResumed", "Deployment is resumed"),
        _ => {}
    }
}

/// Says how the rollout goes; the same word again changes nothing. Without a deadline nothing is said.
pub(super) fn progress(draft: &mut Draft<'_>, status: &str, reason: &str, message: &str) {
    if deadline(draft).is_some() {
        set(&mut draft.value, "Progressing", [status, reason, message], draft.view.now);
    }
}

/// Something moved: the deadline counts from now.
fn renew(draft: &mut Draft<'_>, message: &str) {
    let was = object::condition(&draft.value, "Progressing");
    let kept = was.filter(|was| was["status"] == "True").map(|was| was["lastTransitionTime"].clone());
    object::remove_condition(&mut draft.value, "Progressing");
    progress(draft, "True", "ReplicaSetUpdated", message);
    if let (Some(kept), Some(list)) =
        (kept, draft.value.pointer_mut("/status/conditions").and_then(Value::as_array_mut))
    {
        for condition in list.iter_mut().filter(|condition| condition["type"] == "Progressing") {
            object::object_at(condition, &[]).insert("lastTransitionTime".into(), kept.clone());
        }
    }
}

fn deadline(draft: &Draft<'_>) -> Option<i64> {
    let spec = draft.deployment.spec.as_ref()?;
    // The largest number is Kubernetes' way to say none.
    spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX).map(i64::from)
}

fn reason(value: &Value) -> Option<String> {
    object::condition(value, "Progressing")?["reason"].as_str().map(str::to_owned)
}

fn last_update(value: &Value) -> Option<Timestamp> {
    object::condition(value, "Progressing")?["lastUpdateTime"].as_str()?.parse().ok()
}

/// Sets a condition unless it says the same already; Kubernetes leaves even the message alone then.
pub(super) fn set(value: &mut Value, kind: &str, [status, reason, message]: [&str; 3], now: Timestamp) {
    let current = object::condition(value, kind);
    if current.is_some_and(|current| current["status"] == status && current["reason"] == reason) {
        return;
    }
    object::set_condition(value, &object::Condition { kind, status, reason, message }, now);
    let conditions = value.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter(|condition| condition["type"] == kind) {
        object::object_at(condition, &[]).insert("lastUpdateTime".into(), json!(object::time_text(now)));
    }
}
