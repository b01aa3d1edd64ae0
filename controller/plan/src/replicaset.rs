//! Which pods does a replica set need, and which must go?

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::Value;
use warren_state::{Key, Precondition, Transaction};

use crate::{
    Health, RefusedWrite,
    events::{self, Event},
    object,
    outcome::Outcome,
    pods, selector,
    view::{PodView, Typed, View},
};
use warren_vocabulary::resources::PODS;

const COMPONENT: &str = "replicaset-controller";
/// The condition of a set, and of its deployment, whose pods are refused.
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";
const FAILED_CREATE: &str = "FailedCreate";

type Set<'a> = Typed<'a, ReplicaSet>;

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let Some(set) = view.typed::<ReplicaSet>(key).filter(|set| !set.deleting()) else { return };
            if !membership(view, &set, outcome) {
                scale(view, &set, outcome);
            }
            status(view, &set, outcome);
            tell_refusal(view, &set, outcome);
        });
    }
}

/// How many pods the set should have.
pub(crate) fn replicas(set: &ReplicaSet) -> i64 {
    set.spec.as_ref().map_or(1, |spec| i64::from(spec.replicas.unwrap_or(1).max(0)))
}

/// Adopts pods that match and have no controller, lets go of pods that do not match any more.
fn membership(view: &View<'_>, set: &Set<'_>, outcome: &mut Outcome<'_>) -> bool {
    let Some(selector) = set.spec.as_ref().map(|spec| selector::Prepared::new(&spec.selector)) else {
        return false;
    };
    let mut changes = false;
    let owned = view.pods_of(set.uid()).map(|pod| (pod, true));
    let none = selector::Labels::new();
    let labels = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref()).unwrap_or(&none);
    let orphans = view.orphans(set.namespace(), labels).into_iter().map(|pod| (pod, false));
    for (pod, ours) in owned.chain(orphans).filter(|(pod, _)| pod.active()) {
        let (verb, value) = match (ours, selector.matches(pod.labels())) {
            (false, true) => ("adopt", object::edited(pod.object, |value| object::adopt(value, set.object))),
            (true, false) => {
                ("release", object::edited(pod.object, |value| object::disown(value, set.uid())))
            }
            _ => continue,
        };
        let Some(value) = value else { continue };
        let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        transaction.preconditions.push(Precondition::Exists(set.object.key.clone()));
        outcome.step(format!("{verb} {} by {}", pod.object.key, set.name()), transaction);
        changes = true;
    }
    changes
}

fn scale(view: &View<'_>, set: &Set<'_>, outcome: &mut Outcome<'_>) {
    let active: Vec<_> = view.pods_of(set.uid()).filter(|pod| pod.active()).collect();
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    if wanted > active.len() {
        create(view, set, &active, wanted - active.len(), outcome);
    } else {
        for pod in victims(view, &active, active.len() - wanted) {
            let Some(mut transaction) = object::delete(pod.object, view.now) else { continue };
            let message = format!("Deleted pod: {}", pod.name());
            tell(view, &mut transaction, set, "SuccessfulDelete", message);
            outcome.step(format!("delete {}", pod.object.key), transaction);
        }
    }
}

/// Makes the pods that are missing, all in one commit with a write of the set: a plan that was made from an older
/// state of the set fails as a whole, so that no two plans make up for the same pods.
fn create(view: &View<'_>, set: &Set<'_>, active: &[PodView<'_>], missing: usize, outcome: &mut Outcome<'_>) {
    let waiting = active.iter().filter(|pod| pod.node().is_none()).count();
    let count = missing.min(pods::most_waiting(set.object).saturating_sub(waiting));
    if count == 0 {
        return hold_back(view, set, waiting, missing, outcome);
    }
    // One is enough to learn whether pods are let in again, and where not all are, some are.
    let count = if view.world.refused(&set.object.key, PODS).is_some() { 1 } else { count };
    let value = object::edited(set.object, |value| {
        let all = active.len().saturating_add(count);
        object::object_at(value, &["status"]).insert("replicas".into(), all.into());
    });
    let value = value.unwrap_or_else(|| set.object.value.clone());
    let mut transaction = Transaction::new().replace(set.object.key.clone(), set.object.revision, value);
    let prefix = pods::prefix(set.name());
    let names = new_names(view, set, &prefix, count);
    for name in &names {
        let pod = pods::new_pod(view, set.object, &prefix, name);
        transaction = transaction.create(Key::new(PODS, set.namespace(), name), pod);
        tell(view, &mut transaction, set, "SuccessfulCreate", format!("Created pod: {name}"));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    outcome.step(format!("create pods of {}: {}", set.object.key, names.join(", ")), transaction);
}

/// Says why no more pods are made.
fn hold_back(view: &View<'_>, set: &Set<'_>, waiting: usize, missing: usize, outcome: &mut Outcome<'_>) {
    let message = format!(
        "{waiting} pods wait for a node: the {missing} that are missing are made when these have found one. Add \
         nodes, or lower spec.replicas"
    );
    let mut transaction = Transaction::new();
    let event =
        Event { about: set.object, component: COMPONENT, reason: FAILED_CREATE, message, warning: true };
    events::record_once(view, &mut transaction, &event);
    outcome.problem(set.object.key.clone(), event.message);
    outcome.step(format!("{} makes no more pods for now", set.object.key), transaction);
}

/// Names for new pods.
fn new_names(view: &View<'_>, set: &Set<'_>, prefix: &str, count: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for name in pods::new_names(view, set.object, prefix) {
        names.insert(name);
        if names.len() >= count {
            break;
        }
    }
    names
}

/// Which pods are missed the least: without a node, not ready, on a node with more of their kind, the newest.
fn victims<'v, 'a>(view: &View<'_>, pods: &'v [PodView<'a>], count: usize) -> Vec<&'v PodView<'a>> {
    let mut per_node = BTreeMap::<&str, usize>::new();
    for node in pods.iter().filter_map(|pod| pod.node()) {
        *per_node.entry(node).or_default() += 1;
    }
    let mut candidates: Vec<_> = pods
        .iter()
        .map(|pod| {
            let reachable = pod.node().is_some_and(|node| view.health(node) == Health::Alive);
            let first = (pod.node().is_some(), pod.ready() && reachable, deletion_cost(pod));
            (first, (Reverse(object::created_at(pod.object)), pod.name()), pod)
        })
        .collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let doubled =
            |pod: &PodView<'_>| Reverse(pod.node().and_then(|node| per_node.get(node)).copied().unwrap_or(0));
        let worst =
            candidates.iter().enumerate().min_by_key(|(_, (first, last, pod))| (*first, doubled(pod), *last));
        let Some((index, _)) = worst else { break };
        let (_, _, pod) = candidates.swap_remove(index);
        if let Some(count) = pod.node().and_then(|node| per_node.get_mut(node)) {
            *count -= 1;
        }
        chosen.push(pod);
    }
    chosen
}

fn deletion_cost(pod: &PodView<'_>) -> i32 {
    let text = object::annotation(&pod.object.value, "controller.kubernetes.io/pod-deletion-cost");
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn status(view: &View<'_>, set: &Set<'_>, outcome: &mut Outcome<'_>) {
    let template = warren_state::at(&set.object.value, "/spec/template/metadata/labels");
    let template: selector::Labels =
        template.and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default();
    let wait = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let (mut count, mut labelled, mut ready, mut available) = (0, 0, 0, 0);
    for pod in view.pods_of(set.uid()).filter(|pod| pod.active()) {
        count += 1;
        labelled += i64::from(selector::contains(pod.labels(), &template));
        ready += i64::from(pod.ready());
        available += i64::from(is_available(&pod, wait, view.now, outcome));
    }
    let value = object::edited_within(set.object, &["status"], |value| {
        let fields = object::object_at(value, &["status"]);
        fields.insert("replicas".into(), count.into());
        fields.insert("observedGeneration".into(), object::generation(set.object).into());
        object::set_count(value, "fullyLabeledReplicas", labelled);
        object::set_count(value, "readyReplicas", ready);
        object::set_count(value, "availableReplicas", available);
        note_refusal(value, refusal(view, set), view.now);
    });
    if let Some(value) = value {
        let transaction = Transaction::new().replace(set.object.key.clone(), set.object.revision, value);
        outcome.step(format!("status of {}", set.object.key), transaction);
    }
}

/// Why pods that are missing are not made, if the last attempt was refused.
fn refusal<'v>(view: &'v View<'_>, set: &Set<'_>) -> Option<&'v RefusedWrite> {
    let refused = view.world.refused(&set.object.key, PODS)?;
    let active = view.pods_of(set.uid()).filter(|pod| pod.active()).count();
    (usize::try_from(replicas(set)).unwrap_or(0) > active).then_some(refused)
}

/// Says by a condition that pods are refused. As Kubernetes does, it keeps its first words as long as that is so.
fn note_refusal(value: &mut Value, refused: Option<&RefusedWrite>, now: Timestamp) {
    let said = object::condition(value, REPLICA_FAILURE).is_some();
    match refused {
        Some(refused) if !said => {
            let (reason, message) = (FAILED_CREATE, refused.message.as_str());
            let wanted = object::Condition { kind: REPLICA_FAILURE, status: "True", reason, message };
            object::set_condition(value, &wanted, now);
        }
        None if said => object::remove_condition(value, REPLICA_FAILURE),
        _ => {}
    }
}

/// Says by an event that pods are refused, once per refusal.
fn tell_refusal(view: &View<'_>, set: &Set<'_>, outcome: &mut Outcome<'_>) {
    let Some(refused) = refusal(view, set) else { return };
    outcome.wake(refused.until);
    let message = format!("Error creating: {}", refused.message);
    let event =
        Event { about: set.object, component: COMPONENT, reason: FAILED_CREATE, message, warning: true };
    events::once(view, outcome, &event);
}

/// Whether a pod has been ready for long enough; asks for a wake-up when it only has to wait.
pub(crate) fn is_available(pod: &PodView<'_>, wait: i32, now: Timestamp, outcome: &mut Outcome<'_>) -> bool {
    match pod.available(wait, now) {
        Ok(()) => true,
        Err(due) => {
            due.into_iter().for_each(|due| outcome.wake(due));
            false
        }
    }
}

fn tell(view: &View<'_>, transaction: &mut Transaction, set: &Set<'_>, reason: &str, message: String) {
    let event = Event { about: set.object, component: COMPONENT, reason, message, warning: false };
    events::record(view, transaction, &event);
}
