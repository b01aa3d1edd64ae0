//! What a daemon set says of its nodes.

use warren_state::Transaction;

use super::draft::Draft;
use crate::{object, outcome::Outcome};

#[derive(Default)]
struct Counts {
    desired: i64,
    current: i64,
    misscheduled: i64,
    ready: i64,
    available: i64,
    updated: i64,
}

pub(super) fn write(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) {
    let set = draft.owner.object;
    let counts = count(draft, outcome);
    let value = object::edited_within(set, &["status"], |value| {
        let fields = object::object_at(value, &["status"]);
        fields.insert("observedGeneration".into(), object::generation(set).into());
        fields.insert("desiredNumberScheduled".into(), counts.desired.into());
        fields.insert("currentNumberScheduled".into(), counts.current.into());
        fields.insert("numberMisscheduled".into(), counts.misscheduled.into());
        fields.insert("numberReady".into(), counts.ready.into());
        object::set_count(value, "numberAvailable", counts.available);
        object::set_count(value, "numberUnavailable", counts.desired.saturating_sub(counts.available));
        object::set_count(value, "updatedNumberScheduled", counts.updated);
    });
    if let Some(value) = value {
        let transaction = Transaction::new().replace(set.key.clone(), set.revision, value);
        outcome.step(format!("status of {}", set.key), transaction);
    }
}

/// Of several pods on a node the oldest counts.
fn count(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) -> Counts {
    let mut counts = Counts::default();
    for candidate in &draft.candidates {
        let first = candidate.pods.iter().find(|pod| !pod.terminal()).or(candidate.pods.first());
        if !candidate.fit.runs {
            counts.misscheduled += i64::from(first.is_some());
            continue;
        }
        counts.desired += 1;
        let Some(pod) = first else { continue };
        counts.current += 1;
        counts.ready += i64::from(pod.ready());
        counts.available += i64::from(draft.is_available(pod, outcome));
        counts.updated += i64::from(draft.is_updated(pod));
    }
    counts
}
