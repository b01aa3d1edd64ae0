//! What a stateful set says of its pods.

use serde_json::json;
use warren_state::Transaction;

use super::draft::Draft;
use crate::{object, outcome::Outcome};

pub(super) fn write(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) {
    let set = draft.owner.object;
    let count = |counts: &dyn Fn(&super::draft::Member<'_>) -> bool| {
        let all = draft.members.values().filter(|member| counts(member)).count();
        i64::try_from(all).unwrap_or(i64::MAX)
    };
    let all = count(&|_| true);
    let ready = count(&|member| member.pod.phase() == "Running" && member.pod.ready());
    let available = count(&|member| member.available);
    let updated = count(&|member| !member.pod.deleting() && draft.is_updated(member));
    let current = count(&|member| !member.pod.deleting() && member.revision() == draft.current.name());
    // An update is complete when all pods that there should be are of it and ready: then it is what they are of. One
    // that is gone for a moment may have been left out of it.
    let whole = |count: i64| count == draft.numbers.replicas;
    let complete = draft.numbers.rolling.is_some() && [all, updated, ready].into_iter().all(whole);
    let (current, name) =
        if complete { (updated, draft.update.name()) } else { (current, draft.current.name()) };
    let value = object::edited_within(set, &["status"], |value| {
        let fields = object::object_at(value, &["status"]);
        fields.insert("observedGeneration".into(), object::generation(set).into());
        fields.insert("replicas".into(), all.into());
        fields.insert("availableReplicas".into(), available.into());
        fields.insert("currentRevision".into(), name.into());
        fields.insert("updateRevision".into(), draft.update.name().into());
        fields.entry("collisionCount").or_insert_with(|| json!(0));
        object::set_count(value, "readyReplicas", ready);
        object::set_count(value, "currentReplicas", current);
        object::set_count(value, "updatedReplicas", updated);
    });
    if let Some(value) = value {
        let transaction = Transaction::new().replace(set.key.clone(), set.revision, value);
        outcome.step(format!("status of {}", set.key), transaction);
    }
}
