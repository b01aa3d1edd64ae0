//! What one pass changes about a deployment and its replica sets, gathered into one step.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::Value;
use warren_state::{Key, Object, Transaction};

use super::{
    COMPONENT, DESIRED, MAXIMUM, REVISION, number,
    numbers::{MOST, Numbers},
};
use crate::{
    Health,
    events::{self, Event},
    object,
    outcome::Outcome,
    replicaset, selector,
    view::{Typed, View},
};

/// A replica set of the deployment, as it is and as it shall be.
pub(super) struct Set<'a> {
    /// `None` for one that is made in this pass.
    pub(super) object: Option<&'a Arc<Object>>,
    pub(super) key: Key,
    pub(super) value: Value,
    pub(super) created_at: Timestamp,
    /// `spec.replicas`, as it shall be.
    pub(super) replicas: i64,
    /// Pods that count, whatever `spec.replicas` says.
    pub(super) live: i64,
    pub(super) ready: i64,
    /// Ready for long enough.
    pub(super) available: i64,
    /// Of these, on nodes that answer: what a rollout may rely on.
    pub(super) reliable: i64,
    /// Pods that have not ended, those being deleted included.
    pub(super) running: i64,
    pub(super) removed: bool,
}

impl Set<'_> {
    /// Available pods that stay when the set has shrunk to `spec.replicas`: the others go first.
    pub(super) fn dependable(&self) -> i64 {
        self.reliable.min(self.replicas)
    }
    pub(super) fn revision(&self) -> i64 {
        number(&self.value, REVISION).unwrap_or(0)
    }
}

/// A deployment in the making.
pub(super) struct Draft<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) deployment: &'a Typed<'a, Deployment>,
    pub(super) numbers: Numbers,
    /// The deployment as it shall be.
    pub(super) value: Value,
    /// All sets that it controls, the oldest first.
    pub(super) sets: Vec<Set<'a>>,
    /// Which of them has the deployment's template.
    pub(super) new: Option<usize>,
    adoptions: Vec<&'a Arc<Object>>,
    whys: Vec<String>,
    events: Vec<(&'static str, String, bool)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        view: &'a View<'a>,
        deployment: &'a Typed<'a, Deployment>,
        outcome: &mut Outcome<'_>,
    ) -> Self {
        let spec = deployment.spec.as_ref().expect("the caller has looked");
        let mut sets = Vec::new();
        let mut adoptions = Vec::new();
        for set in view.sets_of(deployment.uid()) {
            sets.push(observe(view, &set, outcome));
        }
        for set in view.orphaned_sets(deployment.namespace()) {
            if !deployment.deleting() && !set.deleting() && matches(spec, &set) {
                adoptions.push(set.object);
            }
        }
        sets.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        Self {
            view,
            deployment,
            numbers: Numbers::new(spec),
            value: deployment.object.value.clone(),
            sets,
            new: None,
            adoptions,
            whys: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn paused(&self) -> bool {
        self.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true)
    }

    /// Takes sets that match and have no controller; the next pass counts them.
    pub(super) fn adopts(&mut self) -> bool {
        if !self.adoptions.is_empty() {
            self.why("adopt replica sets".to_owned());
        }
        !self.adoptions.is_empty()
    }

    /// Indices of all sets but the new one.
    pub(super) fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |index| Some(*index) != new)
    }

    /// `spec.replicas` of all sets together.
    pub(super) fn total(&self) -> i64 {
        self.sets.iter().map(|set| set.replicas).sum()
    }

    /// The deployment's own word for the log.
    pub(super) fn why(&mut self, why: String) {
        self.whys.push(why);
    }

    /// An event about the deployment, if all this happens.
    pub(super) fn tell(&mut self, reason: &'static str, message: String, warning: bool) {
        self.events.push((reason, message, warning));
    }

    /// Gives a set its size, and notes the size of the deployment on it.
    pub(super) fn resize(&mut self, index: usize, replicas: i64) {
        let replicas = replicas.clamp(0, MOST);
        let (desired, maximum) = (self.numbers.replicas, self.numbers.maximum());
        let set = &mut self.sets[index];
        note_size(&mut set.value, desired, maximum);
        if set.replicas == replicas {
            return;
        }
        let direction = if replicas > set.replicas { "up" } else { "down" };
        let message =
            format!("Scaled {direction} replica set {} from {} to {replicas}", set.key.name, set.replicas);
        object::object_at(&mut set.value, &["spec"]).insert("replicas".into(), replicas.into());
        set.replicas = replicas;
        self.whys.push(message.to_lowercase());
        self.tell("ScalingReplicaSet", message, false);
    }

    /// All changes as one step.
    pub(super) fn finish(self, outcome: &mut Outcome<'_>) {
        let mut transaction = Transaction::new();
        for set in self.sets {
            transaction = write_set(transaction, set);
        }
        for orphan in self.adoptions {
            if let Some(value) = object::edited(orphan, |value| object::adopt(value, self.deployment.object))
            {
                transaction = transaction.replace(orphan.key.clone(), orphan.revision, value);
            }
        }
        let (key, revision) = (self.deployment.object.key.clone(), self.deployment.object.revision);
        if self.value != self.deployment.object.value {
            transaction = transaction.replace(key.clone(), revision, self.value);
        } else if !transaction.writes.is_empty() {
            // What was decided holds only for the deployment that it was decided for.
            transaction.preconditions.push(warren_state::Precondition::Revision(key.clone(), revision));
        }
        for (reason, message, warning) in self.events {
            let about = self.deployment.object;
            let event = Event { about, component: COMPONENT, reason, message, warning };
            events::record(self.view, &mut transaction, &event);
        }
        let why = if self.whys.is_empty() { "status".to_owned() } else { self.whys.join(", ") };
        outcome.step(format!("{key}: {why}"), transaction);
    }
}

fn write_set(transaction: Transaction, set: Set<'_>) -> Transaction {
    match set.object {
        None => transaction.create(set.key, set.value),
        Some(object) if set.removed => transaction.delete(set.key, object.revision),
        Some(object) if set.value == object.value => transaction,
        Some(object) => {
            let mut value = set.value;
            if value.get("spec") != object.value.get("spec") {
                object::bump_generation(&mut value);
            }
            transaction.replace(set.key, object.revision, value)
        }
    }
}

/// Notes the deployment's size on a set: proportional scaling compares it with the next size.
pub(super) fn note_size(value: &mut Value, desired: i64, maximum: i64) {
    for (name, count) in [(DESIRED, desired), (MAXIMUM, maximum)] {
        if number(value, name) != Some(count) {
            object::annotate(value, name, count.to_string());
        }
    }
}

fn matches(spec: &k8s_openapi::api::apps::v1::DeploymentSpec, set: &Typed<'_, ReplicaSet>) -> bool {
    set.metadata.labels.as_ref().is_some_and(|labels| selector::matches(&spec.selector, labels))
}

fn observe<'a>(view: &View<'a>, set: &Typed<'a, ReplicaSet>, outcome: &mut Outcome<'_>) -> Set<'a> {
    // The set's own, as its status counts: an old set's pods stay available when the deployment begins to wait longer.
    let wait = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let (mut live, mut ready, mut available, mut reliable, mut running) = (0, 0, 0, 0, 0);
    for pod in view.pods_of(set.uid()).filter(|pod| !pod.terminal()) {
        running += 1;
        if pod.deleting() {
            continue;
        }
        live += 1;
        ready += i64::from(pod.ready());
        if replicaset::is_available(&pod, wait, view.now, outcome) {
            available += 1;
            reliable += i64::from(pod.node().is_some_and(|node| view.health(node) == Health::Alive));
        }
    }
    Set {
        object: Some(set.object),
        key: set.object.key.clone(),
        value: set.object.value.clone(),
        created_at: object::created_at(set.object),
        replicas: replicaset::replicas(set),
        live,
        ready,
        available,
        reliable,
        running,
        removed: false,
    }
}
