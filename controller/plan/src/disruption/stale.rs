//! Is a pod still on its way out? One that was to end, and is not ended after a while, says so no longer.

use std::collections::BTreeSet;

use jiff::Timestamp;
use warren_objects::disruption::{PATIENCE, TARGET};
use warren_state::{Key, Object, Transaction};

use crate::{
    object::{self, Condition},
    outcome::Outcome,
    view::{PodView, View},
};

/// Who ends a pod of its own accord ends it when it may: however long that takes.
const OF_THE_NODE: &str = "TerminationByKubelet";

/// Whether a pod says that it is to end.
pub(crate) fn is_marked(pod: &Object) -> bool {
    object::condition(&pod.value, TARGET).is_some_and(|condition| condition["status"] == "True")
}

pub(crate) fn plan_pods(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(pod) = view.typed(key).filter(|pod: &PodView<'_>| pod.active()) else { return };
            let Some(since) = since(pod.object) else { return };
            let until = object::later(since, PATIENCE.as_secs());
            if until > view.now {
                return outcome.wake(until);
            }
            let value = object::edited_within(pod.object, &["status"], |value| {
                let taken_back = Condition { kind: TARGET, status: "False", reason: "", message: "" };
                object::set_condition(value, &taken_back, view.now);
            });
            if let Some(value) = value {
                let transaction = Transaction::new().replace(key.clone(), pod.object.revision, value);
                outcome.step(format!("{key} is not ended"), transaction);
            }
        });
    }
}

/// Since when a pod says that it is to end.
fn since(pod: &Object) -> Option<Timestamp> {
    let condition = object::condition(&pod.value, TARGET).filter(|_| is_marked(pod))?;
    if condition["reason"] == OF_THE_NODE {
        return None;
    }
    let since = condition["lastTransitionTime"].as_str().and_then(|text| text.parse().ok());
    Some(since.unwrap_or(Timestamp::UNIX_EPOCH))
}
