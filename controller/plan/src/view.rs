//! The snapshot as the planners read it: typed, and indexed once per plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Deref,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    Metadata,
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{Namespace, Node, Pod, Service},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    serde::de::DeserializeOwned,
};
use warren_state::Object;

use crate::{Health, World, health, object, outcome::Outcome, selector::Labels};
use warren_vocabulary::resources::{DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICASETS, SERVICES};

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
    /// Its labels.
    pub(crate) fn labels(&self) -> &Labels {
        static NONE: Labels = Labels::new();
        self.metadata.labels.as_ref().unwrap_or(&NONE)
    }
    fn condition(&self, kind: &str) -> Option<&k8s_openapi::api::core::v1::PodCondition> {
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
    pub(crate) now: Timestamp,
    pub(crate) pods: Vec<PodView<'a>>,
    pub(crate) replica_sets: Vec<Typed<'a, ReplicaSet>>,
    pub(crate) deployments: Vec<Typed<'a, Deployment>>,
    pub(crate) services: Vec<Typed<'a, Service>>,
    pub(crate) nodes: Vec<Typed<'a, Node>>,
    pub(crate) namespaces: Vec<Typed<'a, Namespace>>,
    pods_of: Index,
    pods_on: Index,
    sets_of: Index,
    terminating: BTreeSet<String>,
    /// Nodes whose Docker engine does not answer.
    engineless: BTreeSet<String>,
}

/// Places in a list of objects by the name or uid of what they belong to; empty for what belongs to nothing.
type Index = BTreeMap<String, Vec<usize>>;

fn index<T>(items: &[T], belongs_to: impl Fn(&T) -> Option<&str>) -> Index {
    let mut index = Index::new();
    for (place, item) in items.iter().enumerate() {
        let owner = belongs_to(item).unwrap_or_default();
        match index.get_mut(owner) {
            Some(places) => places.push(place),
            None => drop(index.insert(owner.to_owned(), vec![place])),
        }
    }
    index
}

impl<'a> View<'a> {
    pub(crate) fn new(world: &'a World, now: Timestamp, outcome: &mut Outcome<'_>) -> Self {
        let namespaces: Vec<Typed<'a, Namespace>> = typed(world, NAMESPACES, outcome);
        let pods: Vec<PodView<'a>> = typed(world, PODS, outcome);
        let replica_sets: Vec<Typed<'a, ReplicaSet>> = typed(world, REPLICASETS, outcome);
        let terminating = namespaces
            .iter()
            .filter(|n| {
                n.deleting() || n.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Terminating"))
            })
            .map(|namespace| namespace.name().to_owned())
            .collect();
        let nodes: Vec<Typed<'a, Node>> = typed(world, NODES, outcome);
        let engine_is_down = |node: &&Typed<'a, Node>| {
            object::condition(&node.object.value, "ContainerRuntimeReady")
                .is_some_and(|condition| condition["status"] == "False")
        };
        Self {
            world,
            now,
            engineless: nodes.iter().filter(engine_is_down).map(|node| node.name().to_owned()).collect(),
            pods_of: index(&pods, PodView::controller_uid),
            pods_on: index(&pods, PodView::node),
            pods,
            sets_of: index(&replica_sets, Typed::controller_uid),
            replica_sets,
            deployments: typed(world, DEPLOYMENTS, outcome),
            services: typed(world, SERVICES, outcome),
            nodes,
            namespaces,
            terminating,
        }
    }

    /// The pods bound to a node.
    pub(crate) fn pods_on(&self, node: &str) -> impl Iterator<Item = &PodView<'a>> {
        self.pods_on.get(node).into_iter().flatten().map(|index| &self.pods[*index])
    }

    /// The replica sets that an object controls, by name; those that nothing controls for an empty uid.
    pub(crate) fn sets_of(&self, uid: &str) -> impl Iterator<Item = &Typed<'a, ReplicaSet>> {
        self.sets_of.get(uid).into_iter().flatten().map(|index| &self.replica_sets[*index])
    }

    /// The pods that an object controls, by name; those that nothing controls for an empty uid.
    pub(crate) fn pods_of(&self, uid: &str) -> impl Iterator<Item = &PodView<'a>> {
        self.pods_of.get(uid).into_iter().flatten().map(|index| &self.pods[*index])
    }

    /// The pods of a namespace, by name.
    pub(crate) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &PodView<'a>> {
        let start = self.pods.partition_point(|pod| pod.namespace() < namespace);
        self.pods[start..].iter().take_while(move |pod| pod.namespace() == namespace)
    }

    /// Whether a namespace is going away: nothing may be made in it.
    pub(crate) fn namespace_terminating(&self, namespace: &str) -> bool {
        self.terminating.contains(namespace)
    }

    /// Whether what a node last said of its pods may be out of date.
    pub(crate) fn is_suspect(&self, node: &str) -> bool {
        self.health(node) != Health::Alive || self.engineless.contains(node)
    }

    /// What is known of a node's life.
    pub(crate) fn health(&self, node: &str) -> Health {
        self.world.nodes.get(node).map_or(Health::Alive, health)
    }
}

/// Every object of a resource; one that does not parse becomes a problem.
fn typed<'a, T>(world: &'a World, resource: &'a str, outcome: &mut Outcome<'_>) -> Vec<Typed<'a, T>>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let mut found = Vec::new();
    for object in world.snapshot.list(resource) {
        match outcome.each(object, |_| object.typed::<T>()) {
            Some(Ok(view)) => found.push(Typed { object, view }),
            Some(Err(error)) => {
                outcome.problem(object.key.clone(), format!("stored object is malformed: {error}"));
            }
            None => {}
        }
    }
    found
}
