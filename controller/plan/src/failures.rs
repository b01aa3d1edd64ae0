//! Which objects did we fail on? It is said where people look: in the object's conditions, if its kind has any, and
//! by an event. When it goes well again, the condition says so.

use std::collections::BTreeMap;

use warren_state::{Key, Object, Transaction};

use crate::{
    RefusedWrite,
    events::{self, Event},
    indexes::By,
    object::{self, Condition},
    outcome::Outcome,
    view::View,
};
use warren_vocabulary::{
    guard::Failure,
    resources::{
        CONTROLLERREVISIONS, CRONJOBS, DAEMONSETS, DEPLOYMENTS, HORIZONTALPODAUTOSCALERS, JOBS, NAMESPACES,
        NODES, PERSISTENTVOLUMECLAIMS, PODS, REPLICASETS, REPLICATIONCONTROLLERS, SERVICES, STATEFULSETS,
    },
};

/// The condition, and the reason of the event.
const CONDITION: &str = "warren.dev/PlanningFailed";
const REASON: &str = "PlanningFailed";
const COMPONENT: &str = "warren-controller";
/// Kinds with conditions.
const CONDITIONED: [&str; 11] = [
    DAEMONSETS,
    DEPLOYMENTS,
    HORIZONTALPODAUTOSCALERS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
];

/// Whether an object says that we failed on it.
pub(crate) fn is_told(object: &Object) -> bool {
    CONDITIONED.contains(&&*object.key.resource)
        && object::condition(&object.value, CONDITION).is_some_and(|said| said["status"] == "True")
}

/// `failed` is what the planners failed on, in this pass or an earlier one.
pub(crate) fn plan(view: &View<'_>, failed: &[Failure], outcome: &mut Outcome<'_>) {
    let mut failures = BTreeMap::<Key, Vec<Failure>>::new();
    let refusals = refusals(view);
    for failure in failed.iter().chain(&view.world.failures).chain(&refusals) {
        failures.entry(failure.key.clone()).or_default().push(failure.clone());
    }
    for (key, failures) in &failures {
        if let Some(object) = view.world.snapshot.get(key) {
            outcome.each(object, |outcome| tell(view, object, failures, outcome));
        }
    }
    for object in view.indexes.all(By::Failed).filter(|object| !failures.contains_key(&object.key)) {
        set(view, object, "False", "Planned", "", Transaction::new(), outcome);
    }
}

/// What was refused to planners that have no word of their own for it.
fn refusals(view: &View<'_>) -> Vec<Failure> {
    let all = view.world.refusals.iter().flat_map(|(about, all)| all.iter().map(move |one| (about, one)));
    let untold = all.filter(|(about, refused)| {
        let made = (&*about.resource, &*refused.what.resource, &*refused.what.name);
        let by_sets = [REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS, DAEMONSETS, JOBS].contains(&made.0)
            && [PODS, PERSISTENTVOLUMECLAIMS, CONTROLLERREVISIONS].contains(&made.1);
        let by_makers = [(DEPLOYMENTS, REPLICASETS), (CRONJOBS, JOBS)].contains(&(made.0, made.1));
        let by_autoscalers = made.0 == HORIZONTALPODAUTOSCALERS && refused.what != **about;
        !(made.2.is_empty() && (by_sets || by_makers) || by_autoscalers)
    });
    let failure = |(about, refused): (&Key, &RefusedWrite)| Failure {
        stage: refused.planner,
        key: about.clone(),
        message: format!("refused: {}", refused.message),
    };
    untold.map(failure).collect()
}

fn tell(view: &View<'_>, object: &Object, failures: &[Failure], outcome: &mut Outcome<'_>) {
    let said: Vec<String> =
        failures.iter().map(|failure| format!("{}: {}", failure.stage, failure.message)).collect();
    let message = format!("this object could not be dealt with and is left as it is ({})", said.join("; "));
    let mut transaction = Transaction::new();
    let event = Event {
        about: object,
        component: COMPONENT,
        reason: REASON,
        message: message.clone(),
        warning: true,
    };
    events::record_once(view, &mut transaction, &event);
    set(view, object, "True", REASON, &message, transaction, outcome);
}

fn set(
    view: &View<'_>,
    object: &Object,
    status: &str,
    reason: &str,
    message: &str,
    mut transaction: Transaction,
    outcome: &mut Outcome<'_>,
) {
    if CONDITIONED.contains(&&*object.key.resource) {
        let wanted = Condition { kind: CONDITION, status, reason, message };
        let value = object::edited(object, |value| object::set_condition(value, &wanted, view.now));
        if let Some(value) = value {
            transaction = transaction.replace(object.key.clone(), object.revision, value);
        }
    }
    outcome.step(format!("{} {CONDITION}={status}", object.key), transaction);
}
