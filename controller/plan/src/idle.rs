//! What is nobody's work yet? An object of a kind that is kept and not run has one event that says so.

use warren_objects::kinds::{KINDS, Kind};
use warren_state::{Object, Precondition, Transaction, Write};

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

/// Looks at the objects of such kinds alone. An event that is there is left alone; it is told again when it has expired,
/// as long as its object is there, so that who describes the object always finds it.
pub(crate) fn plan(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let kinds = KINDS.iter().filter(|kind| !kind.idle.is_empty() && !kind.is_face());
    let objects =
        kinds.flat_map(|kind| view.world.snapshot.list(&kind.resource).map(move |object| (kind, object)));
    let living = objects.filter(|(_, object)| !object::is_deleting(object));
    let untold = living.filter_map(|(kind, object)| Some((object, telling(view, kind, object)?)));
    for (object, transaction) in untold.take(BURST) {
        outcome.step(format!("say that {} is not run", object.key), transaction);
    }
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
