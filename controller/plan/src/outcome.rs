//! Collects what the planners want, and keeps them from writing the same object twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use warren_state::{Key, Object, Precondition, Transaction, Write};

use crate::{
    Problem, RefusedWrite, ScalingRecord, Step,
    memory::{Memory, Unit},
    view::View,
};
use warren_vocabulary::{
    guard::{self, Failure, Progress},
    resources,
};

/// A plan in the making.
pub(crate) struct Outcome<'p> {
    now: Timestamp,
    steps: Vec<Step>,
    written: BTreeSet<Key>,
    progress: &'p dyn Progress,
    stage: &'static str,
    /// Which stage that is, among all.
    place: usize,
    /// What was looked at last.
    last: Option<Key>,
    /// What is planned for.
    about: Option<Key>,
    /// What was refused of earlier plans.
    refusals: Option<&'p Refusals>,
    /// What is said of the unit that is being planned, or outside of all units.
    said: Memory,
    /// The units that were planned, and what is to be remembered of each.
    units: BTreeMap<Unit, Memory>,
    /// What failed outside of all units.
    failures: Vec<Failure>,
    /// What autoscalers remember.
    scaling_records: BTreeMap<Key, Arc<ScalingRecord>>,
}

type Refusals = BTreeMap<Key, Vec<RefusedWrite>>;

impl<'p> Outcome<'p> {
    pub(crate) fn new(now: Timestamp, progress: &'p dyn Progress) -> Self {
        Self {
            now,
            steps: Vec::new(),
            written: BTreeSet::new(),
            progress,
            stage: "planning",
            place: 0,
            last: None,
            about: None,
            refusals: None,
            said: Memory::default(),
            units: BTreeMap::new(),
            failures: Vec::new(),
            scaling_records: BTreeMap::new(),
        }
    }

    /// The same, which leaves out what was refused until it is time to try again.
    pub(crate) fn minding(self, refusals: &'p Refusals) -> Self {
        Self { refusals: Some(refusals), ..self }
    }

    /// Runs one planner. A panic outside of [`Outcome::each`] costs this planner's remaining work of this pass.
    pub(crate) fn stage<T>(
        &mut self,
        place: usize,
        stage: &'static str,
        planner: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        (self.place, self.stage, self.last, self.about) = (place, stage, None, None);
        match guard::catch(|| planner(self)) {
            Ok(done) => Some(done),
            Err(message) => {
                let key = self.last.clone().unwrap_or_else(|| Key::new("", "", stage));
                self.failures.push(Failure { stage, key, message });
                None
            }
        }
    }

    /// Plans for one key of the stage, and remembers what was said: it stays true until something is touched that the
    /// key depends on.
    pub(crate) fn unit(&mut self, view: &View<'_>, key: &Key, plan: impl FnOnce(&mut Self)) {
        let outside = std::mem::take(&mut self.said);
        drop(view.take_reads());
        self.guarded(key, plan);
        let mut memory = std::mem::replace(&mut self.said, outside);
        memory.reads = view.take_reads();
        self.units.insert(Unit { stage: self.place, key: key.clone() }, memory);
    }

    /// Notes what is looked at next.
    pub(crate) fn note(&mut self, key: &Key) {
        self.progress.at(self.stage, key);
        self.last = Some(key.clone());
    }

    /// Plans for one object. A panic leaves no trace in the plan but the [`Failure`], and the pass goes on.
    pub(crate) fn each<T>(&mut self, object: &Object, plan: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.guarded(&object.key, plan)
    }

    fn guarded<T>(&mut self, key: &Key, plan: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.note(key);
        let outer = self.about.replace(key.clone());
        let (steps, problems) = (self.steps.len(), self.said.problems.len());
        let planned = guard::catch(|| plan(self));
        self.about = outer;
        match planned {
            Ok(planned) => Some(planned),
            Err(message) => {
                for step in self.steps.drain(steps..) {
                    for write in &step.transaction.writes {
                        self.written.remove(written_key(write));
                    }
                }
                self.said.problems.truncate(problems);
                self.said.failures.push(Failure { stage: self.stage, key: key.clone(), message });
                None
            }
        }
    }

    /// What could not be planned in this pass.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        let units = self.units.values().flat_map(|memory| &memory.failures);
        self.failures.iter().chain(&self.said.failures).chain(units)
    }

    /// The key is planned again in the next pass, whatever is touched.
    pub(crate) fn reopen(&mut self) {
        self.said.open = true;
    }

    /// The key is planned again as soon as everyone has acknowledged this revision.
    pub(crate) fn await_acknowledgement(&mut self, revision: u64) {
        let earlier = self.said.acknowledged_at.unwrap_or(u64::MAX);
        self.said.acknowledged_at = Some(revision.min(earlier));
    }

    /// Adds a step. One that touches what an earlier step writes is left out: it could only fail, and comes
    /// again with the next plan. Events are only counted, never compared, so they hold nothing up. The answer is false when
    /// it waits because one like it was refused: the key is planned again when it is time, or that has changed.
    pub(crate) fn step(&mut self, why: impl Into<String>, transaction: Transaction) -> bool {
        let Some(first) = transaction.writes.first() else { return true };
        let about = self.about.clone().unwrap_or_else(|| written_key(first).clone());
        if let Some(until) = self.held_until(&about, &transaction) {
            self.wake(until);
            return false;
        }
        // Until it is carried out, and nothing is left to do, the key is looked at in each pass.
        self.said.open = true;
        if !self.conflicts(&transaction) {
            self.written.extend(transaction.writes.iter().map(|write| written_key(write).clone()));
            self.steps.push(Step { planner: self.stage, about, why: why.into(), transaction });
        }
        true
    }

    /// Until when a step waits because one like it was refused.
    fn held_until(&self, about: &Key, transaction: &Transaction) -> Option<Timestamp> {
        let of_ours = |refused: &&RefusedWrite| refused.planner == self.stage && refused.until > self.now;
        let refused = self.refusals?.get(about)?.iter().filter(of_ours);
        refused.filter(|refused| repeats(transaction, &refused.what)).map(|refused| refused.until).max()
    }

    /// Whether an earlier step of this plan writes the object of a key.
    pub(crate) fn writes(&self, key: &Key) -> bool {
        self.written.contains(key)
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
        self.said.problems.push(Problem { key, message: message.into() });
    }

    /// Asks for another plan at `at`, unless that has passed.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        if at > self.now && self.said.wake_at.is_none_or(|earlier| at < earlier) {
            self.said.wake_at = Some(at);
        }
    }

    /// Keeps what an autoscaler remembers.
    pub(crate) fn keep_scaling_record(&mut self, autoscaler: &Key, record: Arc<ScalingRecord>) {
        self.scaling_records.insert(autoscaler.clone(), record);
    }

    /// What there is to do, and what is to be remembered.
    pub(crate) fn finish(self) -> Finished {
        let Self { steps, units, said, failures, scaling_records, .. } = self;
        Finished { steps, units, outside: said, failures, scaling_records }
    }
}

/// What a pass has come to.
pub(crate) struct Finished {
    pub(crate) steps: Vec<Step>,
    pub(crate) units: BTreeMap<Unit, Memory>,
    /// What was said outside of all units: true for this pass alone.
    pub(crate) outside: Memory,
    pub(crate) failures: Vec<Failure>,
    pub(crate) scaling_records: BTreeMap<Key, Arc<ScalingRecord>>,
}

/// Whether a transaction writes again what was refused. Events that go with other writes hold nothing up: where they are
/// refused, the other writes happen without them.
fn repeats(transaction: &Transaction, what: &Key) -> bool {
    let is_event = |key: &Key| &*key.resource == resources::EVENTS;
    if is_event(what) && !transaction.writes.iter().all(|write| is_event(written_key(write))) {
        return false;
    }
    if !what.name.is_empty() {
        return transaction.writes.iter().any(|write| written_key(write) == what);
    }
    let is_there = |key: &Key| {
        transaction.preconditions.iter().any(|precondition| match precondition {
            Precondition::Revision(other, _) | Precondition::Exists(other) => other == key,
            Precondition::Absent(_) => false,
        })
    };
    transaction.writes.iter().any(|write| match write {
        Write::Put(key, _) => {
            key.resource == what.resource && key.namespace == what.namespace && !is_there(key)
        }
        Write::Delete(_) => false,
    })
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
        let whys: Vec<_> = outcome.finish().steps.into_iter().map(|step| step.why).collect();
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
        outcome.stage(0, "first", |outcome| {
            outcome.each(&object("good"), |outcome| write(outcome, "good"));
            outcome.each(&object("bad"), |outcome| {
                write(outcome, "bad");
                panic!("a fault of ours");
            });
            outcome.each(&object("late"), |outcome| write(outcome, "late"));
            panic!("between objects");
        });
        // What was taken back may be written by the next planner.
        outcome.stage(1, "second", |outcome| outcome.each(&object("bad"), |outcome| write(outcome, "bad")));
        let failed: Vec<_> = outcome.failures().cloned().collect();
        let whys: Vec<_> = outcome.finish().steps.into_iter().map(|step| step.why).collect();
        assert_eq!(whys, ["good", "late", "bad"]);
        let mut failed: Vec<_> = failed
            .iter()
            .map(|failure| (failure.stage, &*failure.key.name, failure.message.as_str()))
            .collect();
        failed.sort_unstable();
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
        assert_eq!(outcome.finish().outside.wake_at, Some(at(20)));
    }
}
