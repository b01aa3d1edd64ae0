//! Collects what the planners want, and keeps them from writing the same object twice.

use std::collections::BTreeSet;

use jiff::Timestamp;
use warren_store::{Key, Precondition, Transaction, Write};

use crate::{Plan, Problem, Step, resources};

/// A plan in the making.
pub(crate) struct Outcome {
    now: Timestamp,
    plan: Plan,
    written: BTreeSet<Key>,
}

impl Outcome {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { now, plan: Plan::default(), written: BTreeSet::new() }
    }

    /// Adds a step. One that touches what an earlier step writes is left out: it could only fail, and comes
    /// again with the next plan. Events are only counted, never compared, so they hold nothing up.
    pub(crate) fn step(&mut self, why: impl Into<String>, transaction: Transaction) {
        if transaction.writes.is_empty() || self.conflicts(&transaction) {
            return;
        }
        self.written.extend(transaction.writes.iter().map(|write| written_key(write).clone()));
        self.plan.steps.push(Step { why: why.into(), transaction });
    }

    fn conflicts(&self, transaction: &Transaction) -> bool {
        let needed = transaction.preconditions.iter().map(|precondition| match precondition {
            Precondition::Absent(key) | Precondition::Revision(key, _) | Precondition::Exists(key) => key,
        });
        needed
            .chain(transaction.writes.iter().map(written_key))
            .any(|key| &*key.resource != resources::EVENTS && self.written.contains(key))
    }

    /// Says what no step can mend.
    pub(crate) fn problem(&mut self, key: Key, message: impl Into<String>) {
        self.plan.problems.push(Problem { key, message: message.into() });
    }

    /// Asks for another plan at `at`, unless that has passed.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        if at > self.now && self.plan.wake_at.is_none_or(|earlier| at < earlier) {
            self.plan.wake_at = Some(at);
        }
    }

    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }
}

fn written_key(write: &Write) -> &Key {
    match write {
        Write::Put(key, _) | Write::Delete(key) => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn the_second_writer_of_an_object_waits_for_the_next_plan() {
        let mut outcome = Outcome::new(at(0));
        let write =
            |name: &str| Transaction::new().replace(Key::new("pods", "d", name), 1, serde_json::json!({}));
        outcome.step("first", write("a"));
        outcome.step("second", write("a"));
        outcome.step("other", write("b"));
        outcome.step("empty", Transaction::new());
        let whys: Vec<_> = outcome.into_plan().steps.into_iter().map(|step| step.why).collect();
        assert_eq!(whys, ["first", "other"]);
    }

    #[test]
    fn the_earliest_future_wake_wins() {
        let mut outcome = Outcome::new(at(10));
        for second in [5, 30, 20, 10] {
            outcome.wake(at(second));
        }
        assert_eq!(outcome.into_plan().wake_at, Some(at(20)));
    }
}
