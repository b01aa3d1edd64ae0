//! A stateful set as it is, and what it says it should be.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSetSpec;
use serde_json::Value;
use warren_state::{Key, Transaction, at};

use crate::{
    history::{self, History, REVISION_LABEL, Revision},
    object,
    outcome::Outcome,
    sets::{self, Owner, share},
    view::{PodView, View},
};
use warren_vocabulary::resources::PODS;

/// What the spec says, in numbers. None is negative.
pub(super) struct Numbers {
    /// The first ordinal.
    pub(super) start: i64,
    pub(super) replicas: i64,
    /// One pod after the other, each only when those before it are there.
    pub(super) ordered: bool,
    /// How pods of another template are replaced; nobody replaces them without.
    pub(super) rolling: Option<Rolling>,
    min_ready_seconds: i32,
}

/// A rolling update.
pub(super) struct Rolling {
    /// Pods before this ordinal stay as they are.
    pub(super) from: i64,
    /// How many pods may be unavailable.
    pub(super) max_unavailable: i64,
}

impl Numbers {
    fn new(spec: &StatefulSetSpec) -> Self {
        let number = |number: Option<i32>| i64::from(number.unwrap_or(0).max(0));
        let start = number(spec.ordinals.as_ref().and_then(|ordinals| ordinals.start));
        let replicas = number(Some(spec.replicas.unwrap_or(1)));
        let strategy = spec.update_strategy.as_ref();
        let on_delete = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = number(rolling.and_then(|rolling| rolling.partition));
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max_unavailable = unavailable.map_or(1, |share_of| share(share_of, replicas, true)).max(1);
        let rolling = Rolling { from: start.saturating_add(partition), max_unavailable };
        Self {
            start,
            replicas,
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            rolling: (!on_delete).then_some(rolling),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        }
    }

    /// The ordinal after the last one.
    pub(super) fn end(&self) -> i64 {
        self.start.saturating_add(self.replicas)
    }

    /// Whether the set should have a pod of this ordinal.
    pub(super) fn wants(&self, ordinal: i64) -> bool {
        (self.start..self.end()).contains(&ordinal)
    }
}

/// A pod of the set.
pub(super) struct Member<'a> {
    pub(super) pod: PodView<'a>,
    /// It runs, has been ready for long enough and is not being deleted.
    pub(super) available: bool,
}

impl Member<'_> {
    /// The revision that it is of.
    pub(super) fn revision(&self) -> &str {
        self.pod.labels().get(REVISION_LABEL).map_or("", String::as_str)
    }
}

/// The set in one pass.
pub(super) struct Draft<'d, 'a> {
    pub(super) view: &'d View<'a>,
    pub(super) owner: &'d Owner<'a>,
    pub(super) numbers: Numbers,
    pub(super) history: &'d History<'a>,
    /// What pods shall be of.
    pub(super) update: &'d Revision<'a>,
    /// What they are of before the update.
    pub(super) current: &'d Revision<'a>,
    /// By ordinal.
    pub(super) members: BTreeMap<i64, Member<'a>>,
}

impl<'d, 'a> Draft<'d, 'a> {
    pub(super) fn new(
        view: &'d View<'a>,
        owner: &'d Owner<'a>,
        spec: &StatefulSetSpec,
        history: &'d History<'a>,
        outcome: &mut Outcome<'_>,
    ) -> Option<Self> {
        let set = owner.object;
        let numbers = Numbers::new(spec);
        let update = history.present()?;
        let current = at(&set.value, "/status/currentRevision").and_then(Value::as_str);
        let current = current.and_then(|name| history.named(name)).unwrap_or(update);
        let mut members = BTreeMap::new();
        for pod in view.pods_of(object::uid(set)) {
            let Some(ordinal) = ordinal(&set.key.name, pod.name()) else { continue };
            let healthy = pod.phase() == "Running" && pod.ready() && !pod.deleting();
            let available = healthy && sets::is_available(&pod, numbers.min_ready_seconds, view.now, outcome);
            members.insert(ordinal, Member { pod, available });
        }
        Some(Self { view, owner, numbers, history, update, current, members })
    }

    /// Pods that the set should have.
    pub(super) fn wanted(&self) -> impl DoubleEndedIterator<Item = (i64, &Member<'a>)> {
        self.members.range(self.numbers.start..self.numbers.end()).map(|(ordinal, member)| (*ordinal, member))
    }

    /// Pods that it should not have.
    pub(super) fn condemned(&self) -> impl DoubleEndedIterator<Item = (i64, &Member<'a>)> {
        let all = self.members.iter().filter(|(ordinal, _)| !self.numbers.wants(**ordinal));
        all.map(|(ordinal, member)| (*ordinal, member))
    }

    /// Whether a pod is of the present template.
    pub(super) fn is_updated(&self, member: &Member<'_>) -> bool {
        self.history.equals().any(|revision| revision.name() == member.revision())
    }

    /// Whether a revision is needed still.
    pub(super) fn lives(&self, revision: &str) -> bool {
        [self.current, self.update].iter().any(|needed| needed.name() == revision)
            || self.members.values().any(|member| member.revision() == revision)
    }

    /// The name of the pod of an ordinal.
    pub(super) fn name_of(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.owner.object.key.name)
    }

    pub(super) fn key_of(&self, ordinal: i64) -> Key {
        Key::new(PODS, &self.owner.object.key.namespace, &self.name_of(ordinal))
    }

    /// Adds that this is decided for the set as it is, and tells of it.
    pub(super) fn decide(&self, mut transaction: Transaction, reason: &str, message: String) -> Transaction {
        transaction.preconditions.push(history::unchanged(self.owner));
        self.owner.tell(self.view, &mut transaction, reason, message, false);
        transaction
    }

    /// Deletes a pod.
    pub(super) fn delete(&self, member: &Member<'_>, why: &str, outcome: &mut Outcome<'_>) {
        if let Some(transaction) = self.deletion(member) {
            outcome.step(format!("delete {}: {why}", member.pod.object.key), transaction);
        }
    }

    /// The deletion of a pod, which is told.
    pub(super) fn deletion(&self, member: &Member<'_>) -> Option<Transaction> {
        let transaction = object::delete(member.pod.object, self.view.now)?;
        let name = member.pod.name();
        let message = format!("delete Pod {name} in StatefulSet {} successful", self.owner.object.key.name);
        Some(self.decide(transaction, "SuccessfulDelete", message))
    }
}

/// The ordinal in the name of a pod of a set. A number has one name only: no plus, no zeros before it.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i64 = digits.parse().ok()?;
    (ordinal >= 0 && ordinal.to_string() == digits).then_some(ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_has_one_name() {
        for (pod, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web-+1", None),
            ("web--1", None),
            ("web-", None),
            ("web", None),
            ("webs-1", None),
            ("web-a-1", None),
            ("web-99999999999999999999", None),
        ] {
            assert_eq!(ordinal("web", pod), expected, "{pod}");
        }
    }
}
