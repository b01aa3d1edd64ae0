//! Which pods does a replica set need, and which must go? A replication controller is one with a simpler selector.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::{
    api::{apps::v1::ReplicaSet, core::v1::ReplicationController},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::Value;
use warren_state::{Key, Transaction};

use crate::{
    Health, RefusedWrite, object,
    outcome::Outcome,
    pods, selector,
    sets::{FAILED_CREATE, Owner},
    view::{PodView, Typed, View},
};
use warren_vocabulary::resources::{PODS, REPLICATIONCONTROLLERS};

pub(crate) use crate::sets::is_available;

/// The condition of a set, and of its deployment, whose pods are refused.
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What a replica set and a replication controller say alike.
struct Set<'a> {
    owner: Owner<'a>,
    replicas: i64,
    min_ready_seconds: i32,
    selector: LabelSelector,
}

impl<'a> Set<'a> {
    /// The set of a key; nothing when it is being deleted.
    fn of(view: &View<'a>, key: &Key) -> Option<Self> {
        if &*key.resource == REPLICATIONCONTROLLERS {
            let set = view.typed::<ReplicationController>(key).filter(|set| !set.deleting())?;
            let spec = set.spec.as_ref()?;
            let selector = LabelSelector { match_labels: spec.selector.clone(), ..LabelSelector::default() };
            let owner = Owner { object: set.object, component: "replication-controller" };
            let (replicas, wait) = (count(spec.replicas), spec.min_ready_seconds.unwrap_or(0));
            return Some(Self { owner, replicas, min_ready_seconds: wait, selector });
        }
        let set = view.typed::<ReplicaSet>(key).filter(|set| !set.deleting())?;
        let spec = set.spec.as_ref()?;
        let owner = Owner { object: set.object, component: "replicaset-controller" };
        let (replicas, wait) = (count(spec.replicas), spec.min_ready_seconds.unwrap_or(0));
        Some(Self { owner, replicas, min_ready_seconds: wait, selector: spec.selector.clone() })
    }

    fn key(&self) -> &'a Key {
        &self.owner.object.key
    }

    fn uid(&self) -> &'a str {
        object::uid(self.owner.object)
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.replicas).unwrap_or(0)
    }

    fn active<'v>(&self, view: &View<'v>) -> impl Iterator<Item = PodView<'v>> + use<'v> {
        view.pods_of(self.uid()).filter(|pod| pod.active())
    }
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let Some(set) = Set::of(view, key) else { return };
            if !set.owner.claim(view, &set.selector, |pod| pod.active(), |_| true, outcome) {
                scale(view, &set, outcome);
            }
            status(view, &set, outcome);
            tell_refusal(view, &set, outcome);
        });
    }
}

/// How many pods the set should have.
pub(crate) fn replicas(set: &Typed<'_, ReplicaSet>) -> i64 {
    set.spec.as_ref().map_or(1, |spec| count(spec.replicas))
}

fn count(replicas: Option<i32>) -> i64 {
    i64::from(replicas.unwrap_or(1).max(0))
}

fn scale(view: &View<'_>, set: &Set<'_>, outcome: &mut Outcome<'_>) {
    let active: Vec<_> = set.active(view).collect();
    let wanted = set.wanted();
    if wanted > active.len() {
        create(view, set, &active, wanted - active.len(), outcome);
    } else {
        for pod in victims(view, &active, active.len() - wanted) {
            let Some(mut transaction) = object::delete(pod.object, view.now) else { continue };
            let message = format!("Deleted pod: {}", pod.name());
            set.owner.tell(view, &mut transaction, "SuccessfulDelete", message, false);
            outcome.step(format!("delete {}", pod.object.key), transaction);
        }
    }
}

/// Makes the pods that are missing, all in one commit with a write of the set: a plan that was made from an older
/// state of the set fails as a whole, so that no two plans make up for the same pods.
fn create(view: &View<'_>, set: &Set<'_>, active: &[PodView<'_>], missing: usize, outcome: &mut Outcome<'_>) {
    let waiting = active.iter().filter(|pod| pod.node().is_none()).count();
    let count = missing.min(set.owner.most_waiting().saturating_sub(waiting));
    if count == 0 {
        return set.owner.hold_back(view, waiting, missing, outcome);
    }
    // One is enough to learn whether pods are let in again, and where not all are, some are.
    let count = if view.world.refused(set.key(), PODS).is_some() { 1 } else { count };
    let object = set.owner.object;
    let value = object::edited(object, |value| {
        let all = active.len().saturating_add(count);
        object::object_at(value, &["status"]).insert("replicas".into(), all.into());
    });
    let value = value.unwrap_or_else(|| object.value.clone());
    let mut transaction = Transaction::new().replace(object.key.clone(), object.revision, value);
    let template = pods::template(object);
    let names = set.owner.new_names(view, count);
    for name in &names {
        let pod = set.owner.new_pod(view, &template, name);
        transaction = transaction.create(Key::new(PODS, &object.key.namespace, name), pod);
        let message = format!("Created pod: {name}");
        set.owner.tell(view, &mut transaction, "SuccessfulCreate", message, false);
    }
    outcome.step(format!("create pods of {}: {}", object.key, names.join(", ")), transaction);
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
    let object = set.owner.object;
    let template = warren_state::at(&object.value, "/spec/template/metadata/labels");
    let template: selector::Labels =
        template.and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default();
    let (mut count, mut labelled, mut ready, mut available) = (0, 0, 0, 0);
    for pod in set.active(view) {
        count += 1;
        labelled += i64::from(selector::contains(pod.labels(), &template));
        ready += i64::from(pod.ready());
        available += i64::from(is_available(&pod, set.min_ready_seconds, view.now, outcome));
    }
    let value = object::edited_within(object, &["status"], |value| {
        let fields = object::object_at(value, &["status"]);
        fields.insert("replicas".into(), count.into());
        fields.insert("observedGeneration".into(), object::generation(object).into());
        object::set_count(value, "fullyLabeledReplicas", labelled);
        object::set_count(value, "readyReplicas", ready);
        object::set_count(value, "availableReplicas", available);
        note_refusal(value, refusal(view, set), view.now);
    });
    if let Some(value) = value {
        let transaction = Transaction::new().replace(object.key.clone(), object.revision, value);
        outcome.step(format!("status of {}", object.key), transaction);
    }
}

/// Why pods that are missing are not made, if the last attempt was refused.
fn refusal<'v>(view: &'v View<'_>, set: &Set<'_>) -> Option<&'v RefusedWrite> {
    let refused = view.world.refused(set.key(), PODS)?;
    (set.wanted() > set.active(view).count()).then_some(refused)
}

/// Says by a condition that pods are refused. As Kubernetes does, it keeps its first words as long as that is so.
fn note_refusal(value: &mut Value, refused: Option<&RefusedWrite>, now: jiff::Timestamp) {
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
    if refusal(view, set).is_some() {
        set.owner.tell_refusals(view, &[PODS], outcome);
    }
}
