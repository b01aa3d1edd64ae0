//! What the gate refused of the planners' writes: it comes back to them with the next world, and is tried again ever more
//! seldom.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use warren_plan::{RefusedWrite, Step};
use warren_store::{Key, Write};
use warren_write::Refused;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A planner that still wants a write tries it by then, for passes are ten seconds apart at most.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Of which planner a write was, for which object, and what was to be written.
type Subject = (&'static str, Key, Key);

/// The refusals that stand.
#[derive(Default)]
pub(crate) struct Refusals(BTreeMap<Subject, Rejection>);

struct Rejection {
    message: String,
    times: u32,
    until: Timestamp,
}

/// What a step is recognised by when its transaction has gone to the store.
pub(crate) struct Attempt {
    planner: &'static str,
    about: Key,
    touched: Vec<Key>,
}

impl Refusals {
    /// The gate refused a step.
    pub(crate) fn note(&mut self, attempt: &Attempt, refused: &Refused, now: Timestamp) {
        let what = if refused.creates { kind_of(&refused.key) } else { refused.key.clone() };
        let subject = (attempt.planner, attempt.about.clone(), what);
        let rejection = self.0.entry(subject).or_insert_with(|| Rejection {
            message: String::new(),
            times: 0,
            until: now,
        });
        let delay = FIRST_DELAY.saturating_mul(1 << rejection.times.min(16)).min(LONGEST_DELAY);
        rejection.times = rejection.times.saturating_add(1);
        rejection.message = refused.to_string();
        rejection.until = later(now, delay);
    }

    /// What the step wrote is refused no more.
    pub(crate) fn succeeded(&mut self, attempt: &Attempt) {
        self.0.retain(|(planner, about, what), _| {
            let is_its = *planner == attempt.planner && *about == attempt.about;
            !(is_its && attempt.touched.iter().any(|key| key == what || kind_of(key) == *what))
        });
    }

    /// What the planners learn, by the object that the writes were planned for. What is wanted no more is forgotten.
    pub(crate) fn observe(&mut self, now: Timestamp) -> BTreeMap<Key, Vec<RefusedWrite>> {
        let newest = later(now, LONGEST_DELAY);
        self.0.retain(|_, rejection| {
            // The clock may have been set back.
            rejection.until = rejection.until.min(newest);
            now < later(rejection.until, FORGOTTEN_AFTER)
        });
        let mut observed = BTreeMap::<Key, Vec<RefusedWrite>>::new();
        for ((planner, about, what), rejection) in &self.0 {
            let (message, until) = (rejection.message.clone(), rejection.until);
            let refused = RefusedWrite { planner, what: what.clone(), message, until };
            observed.entry(about.clone()).or_default().push(refused);
        }
        observed
    }
}

impl Attempt {
    pub(crate) fn of(step: &Step) -> Self {
        let touched = step.transaction.writes.iter().map(|write| match write {
            Write::Put(key, _) | Write::Delete(key) => key.clone(),
        });
        Self { planner: step.planner, about: step.about.clone(), touched: touched.collect() }
    }
}

/// Stands for all that is made of a kind in a namespace: the next one has another name.
fn kind_of(key: &Key) -> Key {
    Key { name: "".into(), ..key.clone() }
}

fn later(at: Timestamp, delay: Duration) -> Timestamp {
    at.saturating_add(jiff::SignedDuration::try_from(delay).unwrap_or_default()).unwrap_or(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use warren_store::Transaction;
    use warren_write::Refusal;

    use super::*;

    fn set() -> Key {
        Key::new("replicasets.apps", "d", "web")
    }

    fn creation(name: &str) -> Attempt {
        let key = Key::new("pods", "d", name);
        let transaction = Transaction::new().create(key, json!({}));
        Attempt::of(&Step { planner: "replica sets", about: set(), why: String::new(), transaction })
    }

    fn refused(name: &str) -> Refused {
        let refusal = Refusal::forbidden_resource("pods", name, "there are enough");
        Refused { key: Key::new("pods", "d", name), creates: true, refusal }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn waits(refusals: &mut Refusals, now: Timestamp) -> Option<i64> {
        let observed = refusals.observe(now);
        observed.get(&set()).map(|refused| refused[0].until.as_second() - now.as_second())
    }

    #[test]
    fn what_is_refused_again_waits_longer_and_what_succeeds_is_forgotten() {
        let mut refusals = Refusals::default();
        refusals.note(&creation("a"), &refused("a"), at(0));
        assert_eq!(waits(&mut refusals, at(0)), Some(1));
        for (name, wait) in [("b", 2), ("c", 4), ("d", 8), ("e", 16), ("f", 32), ("g", 60), ("h", 60)] {
            refusals.note(&creation(name), &refused(name), at(10));
            assert_eq!(waits(&mut refusals, at(10)), Some(wait), "under any name");
        }
        let said = &refusals.observe(at(10))[&set()][0];
        assert_eq!(said.message, "pods \"h\" is forbidden: there are enough");
        refusals.succeeded(&creation("i"));
        assert_eq!(waits(&mut refusals, at(10)), None);
    }

    #[test]
    fn what_nobody_wants_any_more_is_forgotten_and_a_clock_set_back_holds_nothing_up() {
        let mut refusals = Refusals::default();
        refusals.note(&creation("a"), &refused("a"), at(1_000));
        assert_eq!(waits(&mut refusals, at(10)), Some(60));
        assert_eq!(waits(&mut refusals, at(200)), None);
    }
}
