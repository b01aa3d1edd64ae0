//! What does no planner act upon yet? An object of a kind that is kept and not run has one event that says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use warren_objects::kinds::{KINDS, Kind};
use warren_state::{Key, Object, Precondition, Transaction, Write};

use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    view::View,
};

const COMPONENT: &str = "warren-controller";
const REASON: &str = "NotImplemented";
/// How many events one pass tells: many objects, as after a restore, take several.
const BURST: usize = 500;

/// An event that is there is left alone; it is told again when it has expired, as long as its object is there, so that
/// who describes the object always finds it.
pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    let mut told: usize = 0;
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let living = view.world.snapshot.get(key).filter(|object| !object::is_deleting(object));
            let (Some(object), Some(kind)) = (living, kind(&key.resource)) else { return };
            let Some(transaction) = telling(view, kind, object) else { return };
            told = told.saturating_add(1);
            if told > BURST {
                outcome.reopen();
            } else {
                outcome.step(format!("say that {key} is not run"), transaction);
            }
        });
    }
}

/// The kind of a resource, if it is kept and not run.
pub(crate) fn kind(resource: &str) -> Option<&'static Kind> {
    static IDLE: LazyLock<BTreeMap<&'static str, &'static Kind>> = LazyLock::new(|| {
        let idle = KINDS.iter().filter(|kind| !kind.idle.is_empty() && !kind.is_converted());
        idle.map(|kind| (&*kind.resource, kind)).collect()
    });
    IDLE.get(resource).copied()
}

/// Nothing while the event is there. Two who tell it at once do not count it twice: the second one fails.
fn telling(view: &View<'_>, kind: &Kind, about: &Object) -> Option<Transaction> {
    let mut transaction = Transaction::new();
    let message = kind.idle.to_owned();
    let event = Event { about, component: COMPONENT, reason: REASON, message, warning: true };
    events::record_once(view, &mut transaction, &event);
    let Some(Write::Put(key, _)) = transaction.writes.first() else { return None };
    transaction.preconditions.push(Precondition::Absent(key.clone()));
    transaction.preconditions.push(Precondition::Exists(about.key.clone()));
    Some(transaction)
}
