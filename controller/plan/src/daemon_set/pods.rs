//! One pod on each node that should have one, and none elsewhere. A pod that has ended is replaced, ever more seldom.

use std::collections::BTreeSet;

use warren_state::{Key, Transaction};

use super::{
    draft::{Candidate, Draft, Strategy},
    fit,
};
use crate::{
    history::{self, REVISION_LABEL},
    object,
    outcome::Outcome,
    view::PodView,
};
use warren_vocabulary::resources::PODS;

/// On a pod: how many before it have failed on its node, one after the other.
const FAILURES: &str = "warren.dev/failures";
/// After so many failures the pause is the longest.
const MOST_FAILURES: u32 = 11;
/// The longest pause between two pods that fail, in seconds.
const LONGEST_PAUSE: i64 = 900;
/// A pod that has lived for so many seconds has not failed right after the last one.
const LONG_LIFE: i64 = 1_800;

/// A pod to be made.
struct New<'d, 'a> {
    node: &'a str,
    /// The one that has ended and makes room.
    instead_of: Option<&'d PodView<'a>>,
}

/// What is to be done about pods.
pub(super) struct Changes<'d, 'a> {
    new: Vec<New<'d, 'a>>,
    old: Vec<(&'d PodView<'a>, &'static str)>,
    /// Nodes where something is done.
    busy: BTreeSet<&'a str>,
}

impl<'d, 'a> Changes<'d, 'a> {
    pub(super) fn is_busy(&self, candidate: &Candidate<'a>) -> bool {
        self.busy.contains(candidate.name)
    }

    pub(super) fn create(&mut self, candidate: &Candidate<'a>) {
        self.busy.insert(candidate.name);
        self.new.push(New { node: candidate.name, instead_of: None });
    }

    pub(super) fn delete(&mut self, candidate: &Candidate<'a>, pod: &'d PodView<'a>, why: &'static str) {
        self.busy.insert(candidate.name);
        self.old.push((pod, why));
    }

    /// Deletes what must go, and makes what is missing: all in one commit with a write of the set, so that a plan that
    /// was made from an older state of it fails as a whole, and no two plans make a pod for the same node.
    pub(super) fn finish(self, draft: &Draft<'d, 'a>, outcome: &mut Outcome<'_>) {
        for (pod, why) in &self.old {
            let Some(mut transaction) = deletion(draft, pod) else { continue };
            transaction.preconditions.push(history::unchanged(draft.owner));
            outcome.step(format!("delete {}: {why}", pod.object.key), transaction);
        }
        let (view, set) = (draft.view, draft.owner.object);
        let refused = view.world.refused(&set.key, PODS).is_some();
        let most = if refused { 1 } else { draft.owner.most_waiting() };
        let new: Vec<_> = self.new.into_iter().take(most).collect();
        if new.is_empty() {
            return;
        }
        let mut transaction = Transaction::new().replace(set.key.clone(), set.revision, set.value.clone());
        let names = draft.owner.new_names(view, new.len());
        for (name, new) in names.iter().zip(&new) {
            if let Some(ended) = new.instead_of.and_then(|pod| deletion(draft, pod)) {
                transaction.preconditions.extend(ended.preconditions);
                transaction.writes.extend(ended.writes);
            }
            let key = Key::new(PODS, &set.key.namespace, name);
            transaction = transaction.create(key, pod(draft, name, new));
            let message = format!("Created pod: {name}");
            draft.owner.tell(view, &mut transaction, "SuccessfulCreate", message, false);
        }
        outcome.step(format!("create pods of {}: {}", set.key, names.join(", ")), transaction);
    }
}

/// The deletion of a pod, which is told.
fn deletion(draft: &Draft<'_, '_>, pod: &PodView<'_>) -> Option<Transaction> {
    let mut transaction = object::delete(pod.object, draft.view.now)?;
    let mut tell = |reason: &str, message: String, warning: bool| {
        draft.owner.tell(draft.view, &mut transaction, reason, message, warning);
    };
    if pod.terminal() {
        let failed = pod.phase() == "Failed";
        let (reason, what, how) = if failed {
            ("FailedDaemonPod", "failed", "kill")
        } else {
            ("SucceededDaemonPod", "succeeded", "delete")
        };
        let node = pod.node().unwrap_or_default();
        let place = format!("{}/{} on node {node}", pod.namespace(), pod.name());
        tell(reason, format!("Found {what} daemon pod {place}, will try to {how} it"), failed);
    }
    tell("SuccessfulDelete", format!("Deleted pod: {}", pod.name()), false);
    Some(transaction)
}

fn pod(draft: &Draft<'_, '_>, name: &str, new: &New<'_, '_>) -> serde_json::Value {
    let mut pod = draft.owner.new_pod(draft.view, &draft.present.template(), name);
    let hash = draft.present.hash(REVISION_LABEL);
    object::object_at(&mut pod, &["metadata", "labels"]).insert(REVISION_LABEL.into(), hash.into());
    fit::pin(&mut pod, &draft.template, new.node);
    if let Some(ended) = new.instead_of {
        let failures = failures(draft, ended).saturating_add(1).min(MOST_FAILURES);
        object::annotate(&mut pod, FAILURES, failures.to_string());
    }
    pod
}

/// What each node needs, whatever the template of its pods is.
pub(super) fn manage<'d, 'a>(draft: &'d Draft<'d, 'a>, outcome: &mut Outcome<'_>) -> Changes<'d, 'a> {
    let mut changes = Changes { new: Vec::new(), old: Vec::new(), busy: BTreeSet::new() };
    for pod in draft.lost.iter().filter(|pod| !pod.deleting()) {
        changes.old.push((pod, "its node is gone"));
    }
    let surges = matches!(draft.strategy, Strategy::Surge(_));
    for candidate in &draft.candidates {
        if !candidate.fit.keeps {
            for pod in candidate.pods.iter().filter(|pod| !pod.deleting()) {
                changes.delete(candidate, pod, "it does not belong on its node");
            }
        } else if candidate.pods.is_empty() || surges && candidate.pods.iter().all(|pod| pod.deleting()) {
            // Where the new one comes first, it waits for none that is on its way out.
            if candidate.fit.runs {
                changes.create(candidate);
            }
        } else {
            replace(draft, candidate, &mut changes, outcome);
            thin_out(draft, candidate, &mut changes);
        }
    }
    changes
}

/// Pods that have ended make room for others: at once the first time, then after pauses that grow.
fn replace<'d, 'a>(
    draft: &'d Draft<'d, 'a>,
    candidate: &'d Candidate<'a>,
    changes: &mut Changes<'d, 'a>,
    outcome: &mut Outcome<'_>,
) {
    let mut alone = candidate.fit.runs && candidate.active().next().is_none();
    for pod in candidate.pods.iter().filter(|pod| pod.terminal() && !pod.deleting()) {
        let due = object::later(object::created_at(pod.object), pause(failures(draft, pod)));
        // A time that lies far ahead is that of a clock that was set back since.
        let waits = due > draft.view.now && object::created_at(pod.object) <= draft.view.now;
        if waits && alone {
            changes.busy.insert(candidate.name);
            outcome.wake(due);
            return;
        }
        if std::mem::take(&mut alone) {
            changes.busy.insert(candidate.name);
            changes.new.push(New { node: candidate.name, instead_of: Some(pod) });
        } else {
            changes.delete(candidate, pod, "it has ended");
        }
    }
}

/// How many pods have failed on a node, one right after the other, before this one.
fn failures(draft: &Draft<'_, '_>, pod: &PodView<'_>) -> u32 {
    let lived = draft.view.now.duration_since(object::created_at(pod.object)).as_secs();
    if lived > LONG_LIFE || !draft.is_updated(pod) {
        return 0;
    }
    let noted = object::annotation(&pod.object.value, FAILURES);
    noted.and_then(|noted| noted.parse().ok()).unwrap_or(0).min(MOST_FAILURES)
}

fn pause(failures: u32) -> i64 {
    match failures.checked_sub(1) {
        Some(doublings) => (1 << doublings.min(MOST_FAILURES)).min(LONGEST_PAUSE),
        None => 0,
    }
}

/// Of several pods on a node the oldest stays. While the new one comes first, one of each template stays.
fn thin_out<'d, 'a>(draft: &Draft<'_, 'a>, candidate: &'d Candidate<'a>, changes: &mut Changes<'d, 'a>) {
    let surges = candidate.fit.runs && matches!(draft.strategy, Strategy::Surge(_));
    let mut seen = BTreeSet::new();
    for pod in candidate.active() {
        if !seen.insert(surges && draft.is_updated(pod)) {
            changes.delete(candidate, pod, "its node has another one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        let pauses: Vec<_> = (0..14).map(pause).collect();
        assert_eq!(pauses[..5], [0, 1, 2, 4, 8]);
        assert_eq!(pauses[10..], [512, 900, 900, 900]);
    }
}
