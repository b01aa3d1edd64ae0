//! The world as the planners read it: typed, and looked up in the indexes.

use std::{cell::RefCell, collections::BTreeSet, net::Ipv4Addr, ops::Deref, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    Metadata,
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    serde::de::DeserializeOwned,
};
use warren_objects::{Registry, disruption};
use warren_state::{Key, Object};

use crate::{
    Health, World, endpoints,
    events::Told,
    health,
    indexes::{By, Indexes, pair},
    object,
    selector::{self, Labels},
};
use warren_vocabulary::resources::PODS;

/// On a pod's Ready condition: we set it because its node is lost; the agent's own word is in ContainersReady.
pub(crate) const NODE_LOST: &str = "NodeLost";

/// An object and its typed view.
pub(crate) struct Typed<'a, T> {
    pub(crate) object: &'a Arc<Object>,
    view: Arc<T>,
}

impl<T> Deref for Typed<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.view
    }
}

impl<T> Clone for Typed<'_, T> {
    fn clone(&self) -> Self {
        Self { object: self.object, view: Arc::clone(&self.view) }
    }
}

impl<'a, T: DeserializeOwned + Send + Sync + 'static> Typed<'a, T> {
    /// An object, if it is what it should be.
    pub(crate) fn of(object: &'a Arc<Object>) -> Result<Self, String> {
        Ok(Self { object, view: object.typed()? })
    }
}

impl<T> Typed<'_, T> {
    pub(crate) fn name(&self) -> &str {
        &self.object.key.name
    }
    pub(crate) fn namespace(&self) -> &str {
        &self.object.key.namespace
    }
    pub(crate) fn uid(&self) -> &str {
        object::uid(self.object)
    }
}

impl<T: Metadata<Ty = ObjectMeta>> Typed<'_, T> {
    pub(crate) fn deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
    /// The uid of the owner that controls it.
    pub(crate) fn controller_uid(&self) -> Option<&str> {
        let owners = self.metadata().owner_references.as_ref()?;
        owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
    }
}

/// A pod of the snapshot.
pub(crate) type PodView<'a> = Typed<'a, Pod>;

impl PodView<'_> {
    /// The node it is bound to.
    pub(crate) fn node(&self) -> Option<&str> {
        self.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
    }
    /// The node where others make room for it.
    pub(crate) fn nominated(&self) -> Option<&str> {
        self.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
    }
    /// Its overlay address.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
    }
    /// "Pending" when nothing was reported yet.
    pub(crate) fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
    }
    /// Ended for good.
    pub(crate) fn terminal(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }
    /// Counts as a replica.
    pub(crate) fn active(&self) -> bool {
        !self.deleting() && !self.terminal()
    }
    /// How much it matters beside others.
    pub(crate) fn priority(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
    }
    /// Its labels.
    pub(crate) fn labels(&self) -> &Labels {
        static NONE: Labels = Labels::new();
        self.metadata.labels.as_ref().unwrap_or(&NONE)
    }
    /// One of its conditions.
    pub(crate) fn condition(&self, kind: &str) -> Option<&k8s_openapi::api::core::v1::PodCondition> {
        self.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
    }
    /// Whether it says it is ready.
    pub(crate) fn ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }
    /// Whether it was ready when last heard of, leaving aside that its node is lost.
    pub(crate) fn ready_when_last_heard(&self) -> bool {
        self.ready()
            || (self.marked_lost() && self.condition("ContainersReady").is_some_and(|c| c.status == "True"))
    }
    /// Whether its Ready condition is false only because its node is lost.
    pub(crate) fn marked_lost(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "False" && c.reason.as_deref() == Some(NODE_LOST))
    }
    /// Whether it has been ready for a while; or else when it will have been.
    pub(crate) fn available(&self, min_ready_seconds: i32, now: Timestamp) -> Result<(), Option<Timestamp>> {
        let Some(condition) = self.condition("Ready").filter(|condition| condition.status == "True") else {
            return Err(None);
        };
        let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let due = object::later(since, i64::from(min_ready_seconds));
        if min_ready_seconds <= 0 || due <= now { Ok(()) } else { Err(Some(due)) }
    }
}

/// The world, indexed.
pub(crate) struct View<'a> {
    pub(crate) world: &'a World,
    pub(crate) indexes: &'a Indexes,
    /// The kinds that are served.
    pub(crate) registry: Arc<Registry>,
    pub(crate) now: Timestamp,
    /// How many nodes are suspect or lost.
    pub(crate) silent: usize,
    /// What was looked at by name since this was last asked for.
    reads: RefCell<BTreeSet<Key>>,
    /// Events that this pass tells.
    pub(crate) told: RefCell<Told>,
}

impl<'a> View<'a> {
    pub(crate) fn new(world: &'a World, indexes: &'a Indexes, now: Timestamp, silent: usize) -> Self {
        let registry = indexes.registries.of(&world.snapshot);
        Self { world, indexes, registry, now, silent, reads: RefCell::default(), told: RefCell::default() }
    }

    /// An object that is looked for by its name: when it comes, changes or goes, the key that asked is planned again.
    pub(crate) fn read(&self, key: &Key) -> Option<&'a Arc<Object>> {
        self.reads.borrow_mut().insert(key.clone());
        self.world.snapshot.get(key)
    }

    /// Whether an object of this name is there, set aside or not.
    pub(crate) fn exists(&self, key: &Key) -> bool {
        self.read(key).is_some() || self.world.quarantined.iter().any(|object| object.key == *key)
    }

    /// What was read since the last call.
    pub(crate) fn take_reads(&self) -> BTreeSet<Key> {
        self.reads.take()
    }

    /// The object of a key, if it is there and can be read.
    pub(crate) fn typed<T>(&self, key: &Key) -> Option<Typed<'a, T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.world.snapshot.get(key).and_then(|object| Typed::of(object).ok())
    }

    fn all<T>(&self, by: By, group: &str) -> impl Iterator<Item = Typed<'a, T>> + use<'a, T>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.indexes.of(by, group).filter_map(|object| Typed::of(object).ok())
    }

    /// The replica sets that an object controls, by name.
    pub(crate) fn sets_of(
        &self,
        uid: &str,
    ) -> impl Iterator<Item = Typed<'a, k8s_openapi::api::apps::v1::ReplicaSet>> + use<'a> {
        self.all(By::SetController, uid)
    }

    /// The replica sets of a namespace that nothing controls.
    pub(crate) fn orphaned_sets(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = Typed<'a, k8s_openapi::api::apps::v1::ReplicaSet>> + use<'a> {
        self.all(By::SetNamespace, namespace)
    }

    /// The jobs that an object controls, by name.
    pub(crate) fn jobs_of(
        &self,
        uid: &str,
    ) -> impl Iterator<Item = Typed<'a, k8s_openapi::api::batch::v1::Job>> + use<'a> {
        self.all(By::JobController, uid)
    }

    /// The pods that an object controls, by name.
    pub(crate) fn pods_of(&self, uid: &str) -> impl Iterator<Item = PodView<'a>> + use<'a> {
        self.all(By::PodController, uid)
    }

    /// The pods that nothing controls and that have these labels, by name.
    pub(crate) fn orphans(&self, namespace: &str, wanted: &Labels) -> Vec<PodView<'a>> {
        if wanted.is_empty() {
            return self.all(By::OrphanNamespace, namespace).collect();
        }
        pods_with(self.indexes.labelled(By::OrphanLabel, namespace, wanted), wanted)
    }

    /// The pods that have these labels, which are some, by name.
    pub(crate) fn pods_labelled(&self, namespace: &str, wanted: &Labels) -> Vec<PodView<'a>> {
        pods_with(self.indexes.labelled(By::PodLabel, namespace, wanted), wanted)
    }

    /// All pods of a namespace, by name.
    pub(crate) fn pods_in(&self, namespace: &'a str) -> impl Iterator<Item = PodView<'a>> + use<'a> {
        let all = self.world.snapshot.list_namespace(PODS, namespace);
        all.filter_map(|object| Typed::of(object).ok())
    }

    /// The services that select by labels, and would these.
    pub(crate) fn services_selecting(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> impl Iterator<Item = Typed<'a, Service>> + use<'a> {
        services_selecting(self.indexes, namespace, labels)
    }

    /// The slices of a service that are ours to write, by name.
    pub(crate) fn slices_of(
        &self,
        namespace: &str,
        service: &str,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.indexes.of(By::ServiceSlice, &endpoints::group(namespace, service))
    }

    /// The slices that mirror the Endpoints of a service, by name.
    pub(crate) fn mirrors_of(
        &self,
        namespace: &str,
        service: &str,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.indexes.of(By::MirrorSlice, &endpoints::group(namespace, service))
    }

    /// The object of a uid.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<&'a Arc<Object>> {
        self.indexes.by_uid(uid)
    }

    /// Whether a namespace is going away: nothing may be made in it.
    pub(crate) fn namespace_terminating(&self, namespace: &str) -> bool {
        self.indexes.any(By::Terminating, namespace)
    }

    /// Whether what a node last said of its pods may be out of date.
    pub(crate) fn is_suspect(&self, node: &str) -> bool {
        self.health(node) != Health::Alive || self.indexes.any(By::Engineless, node)
    }

    /// What is known of a node's life.
    pub(crate) fn health(&self, node: &str) -> Health {
        self.world.nodes.get(node).map_or(Health::Alive, health)
    }
}

fn pods_with<'a>(found: Vec<&'a Arc<Object>>, wanted: &Labels) -> Vec<PodView<'a>> {
    let pods = found.into_iter().filter_map(|object| Typed::of(object).ok());
    pods.filter(|pod: &PodView<'_>| selector::contains(pod.labels(), wanted)).collect()
}

/// The disruption budgets that are about a pod.
pub(crate) fn budgets_about<'v>(
    indexes: &'v Indexes,
    pod: &PodView<'_>,
) -> impl Iterator<Item = &'v Arc<Object>> + use<'v> {
    let pairs = pod.labels().iter().map(|(name, value)| pair(pod.namespace(), name, value));
    let groups = pairs.chain([pod.namespace().to_owned()]);
    let about = |budget: &&Arc<Object>| disruption::Selector::of(&budget.value).selects(&pod.object.value);
    let found: Vec<_> =
        groups.flat_map(|group| indexes.of(By::BudgetSelector, &group)).filter(about).collect();
    found.into_iter()
}

/// The services of a namespace that select by labels, and would these.
pub(crate) fn services_selecting<'v>(
    indexes: &'v Indexes,
    namespace: &str,
    labels: &Labels,
) -> impl Iterator<Item = Typed<'v, Service>> + use<'v> {
    let groups = labels.iter().map(|(name, value)| pair(namespace, name, value));
    let mut found = Vec::new();
    for object in groups.flat_map(|group| indexes.of(By::ServiceSelector, &group)) {
        let Ok(service) = Typed::<Service>::of(object) else { continue };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        if selector.is_some_and(|wanted| selector::contains(labels, wanted)) {
            found.push(service);
        }
    }
    found.into_iter()
}
