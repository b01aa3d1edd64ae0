//! Collects what the planners want, and keeps them from writing the same object twice.

use std::collections::BTreeSet;

use jiff::Timestamp;
use warren_state::{Key, Object, Precondition, Transaction, Write};

use crate::{Plan, Problem, Step};
use warren_vocabulary::{
    guard::{self, Failure, Progress},
    resources,
};

/// A plan in the making.
pub(crate) struct Outcome<'p> {
    now: Timestamp,
    plan: Plan,
    written: BTreeSet<Key>,
    progress: &'p dyn Progress,
    stage: &'static str,
    /// What was looked at last.
    last: Option<Key>,
}

impl<'p> Outcome<'p> {
    pub(crate) fn new(now: Timestamp, progress: &'p dyn Progress) -> Self {
        let (plan, written) = (Plan::default(), BTreeSet::new());
        Self { now, plan, written, progress, stage: "planning", last: None }
    }

    /// Runs one planner. A panic outside of [`Outcome::each`] costs this planner's remaining work of this pass.
    pub(crate) fn stage<T>(
        &mut self,
        stage: &'static str,
        planner: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        (self.stage, self.last) = (stage, None);
        match guard::catch(|| planner(self)) {
            Ok(done) => Some(done),
            Err(message) => {
                let key = self.last.clone().unwrap_or_else(|| Key::new("", "", stage));
                self.plan.failures.push(Failure { stage, key, message });
                None
            }
        }
    }

    /// Plans for one object. A panic leaves no trace in the plan but the [`Failure`], and the pass goes on.
    pub(crate) fn each<T>(&mut self, object: &Object, plan: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.progress.at(self.stage, &object.key);
        self.last = Some(object.key.clone());
        let (steps, problems) = (self.plan.steps.len(), self.plan.problems.len());
        match guard::catch(|| plan(self)) {
            Ok(planned) => Some(planned),
            Err(message) => {
                for step in self.plan.steps.drain(steps..) {
                    for write in &step.transaction.writes {
                        self.written.remove(written_key(write));
                    }
                }
                self.plan.problems.truncate(problems);
                let (stage, key) = (self.stage, object.key.clone());
                self.plan.failures.push(Failure { stage, key, message });
                None
            }
        }
    }

    /// What could not be planned so far.
    pub(crate) fn failures(&self) -> &[Failure] {
        &self.plan.failures
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
    use warren_vocabulary::guard::Unwatched;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn the_second_writer_of_an_object_waits_for_the_next_plan() {
        let mut outcome = Outcome::new(at(0), &Unwatched);
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
    fn an_object_that_we_fail_on_costs_its_own_steps_alone() {
        let mut outcome = Outcome::new(at(0), &Unwatched);
        let object = |name: &str| Object::new(Key::new("pods", "d", name), 1, serde_json::json!({}));
        let write = |outcome: &mut Outcome<'_>, name: &str| {
            let transaction =
                Transaction::new().replace(Key::new("pods", "d", name), 1, serde_json::json!({}));
            outcome.step(name, transaction);
        };
        outcome.stage("first", |outcome| {
            outcome.each(&object("good"), |outcome| write(outcome, "good"));
            outcome.each(&object("bad"), |outcome| {
                write(outcome, "bad");
                panic!("a fault of ours");
            });
            outcome.each(&object("late"), |outcome| write(outcome, "late"));
            panic!("between objects");
        });
        // What was taken back may be written by the next planner.
        outcome.stage("second", |outcome| outcome.each(&object("bad"), |outcome| write(outcome, "bad")));
        let plan = outcome.into_plan();
        let whys: Vec<_> = plan.steps.into_iter().map(|step| step.why).collect();
        assert_eq!(whys, ["good", "late", "bad"]);
        let failed: Vec<_> = plan
            .failures
            .iter()
            .map(|failure| (failure.stage, &*failure.key.name, failure.message.as_str()))
            .collect();
        assert!(
            matches!(failed[..], [("first", "bad", why), ("first", "late", _)] if why.starts_with("a fault of ours (at ")),
            "{failed:?}"
        );
    }

    #[test]
    fn the_earliest_future_wake_wins() {
        let mut outcome = Outcome::new(at(10), &Unwatched);
        for second in [5, 30, 20, 10] {
            outcome.wake(at(second));
        }
        assert_eq!(outcome.into_plan().wake_at, Some(at(20)));
    }
}
