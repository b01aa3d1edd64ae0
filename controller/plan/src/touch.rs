//! Whom does a change concern? Every rule by which one object's plan depends on another one stands here: an object that
//! was touched leads to the keys that are planned again, and to no others. What a planner looks at by name, it notes
//! itself ([`View::read`](crate::view::View::read)).

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::Value;
use warren_objects::DEFINITIONS;
use warren_state::{Difference, Key, Object, Snapshot};

use crate::{
    cluster_roles, deadline, disruption, endpoints, idle,
    indexes::{By, Indexes, PodRequest, awaits, owners_matter, pair},
    ingress, job,
    memory::{Memories, Unit},
    object, quota,
    schedule::budgets,
    selector::Labels,
    stages::{STAGES, Stage},
    termination,
    view::{self, PodView, Typed},
};
use warren_vocabulary::resources::{
    CLUSTERROLES, CONTROLLERREVISIONS, CRONJOBS, DAEMONSETS, DEPLOYMENTS, ENDPOINTS, ENDPOINTSLICES,
    HORIZONTALPODAUTOSCALERS, INGRESSCLASSES, INGRESSES, JOBS, MEMBERS, NAMESPACES, NODES,
    PODDISRUPTIONBUDGETS, PODS, REPLICASETS, REPLICATIONCONTROLLERS, RESOURCEQUOTAS, SERVICEADDRESSES,
    SERVICES, STATEFULSETS,
};

/// The keys that each planner has to look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    stages: [BTreeSet<Key>; STAGES.len()],
    /// A pod that fitted nowhere may fit now.
    pub(crate) room: bool,
}

impl Due {
    pub(crate) fn add(&mut self, stage: Stage, key: &Key) {
        if let Some(keys) = self.stages.get_mut(stage as usize).filter(|keys| !keys.contains(key)) {
            keys.insert(key.clone());
        }
    }

    pub(crate) fn add_unit(&mut self, unit: &Unit) {
        if let Some(keys) = self.stages.get_mut(unit.stage) {
            keys.insert(unit.key.clone());
        }
    }

    pub(crate) fn of(&self, stage: usize) -> &BTreeSet<Key> {
        static NONE: BTreeSet<Key> = BTreeSet::new();
        self.stages.get(stage).unwrap_or(&NONE)
    }

    pub(crate) fn len(&self) -> usize {
        self.stages.iter().map(BTreeSet::len).sum()
    }

    pub(crate) fn contains(&self, unit: &Unit) -> bool {
        self.of(unit.stage).contains(&unit.key)
    }

    /// Adds what another one has, and says which that are.
    pub(crate) fn extend(&mut self, other: &Self) -> Vec<Unit> {
        let mut added = Vec::new();
        for (stage, (keys, more)) in self.stages.iter_mut().zip(&other.stages).enumerate() {
            for key in more {
                if keys.insert(key.clone()) {
                    added.push(Unit { stage, key: key.clone() });
                }
            }
        }
        added
    }
}

/// What garbage collection asks of an object: two states that are alike in this are the same to it.
#[derive(PartialEq)]
struct Kin<'o> {
    uid: &'o str,
    metadata: [Option<&'o Value>; 4],
    node: Option<&'o Value>,
}

impl<'o> Kin<'o> {
    fn of(object: &'o Object) -> Self {
        let fields = ["ownerReferences", "finalizers", "deletionTimestamp", "deletionGracePeriodSeconds"];
        let metadata = object.value.get("metadata");
        Self {
            uid: object::uid(object),
            metadata: fields.map(|field| metadata.and_then(|metadata| metadata.get(field))),
            node: warren_state::at(&object.value, "/spec/nodeName"),
        }
    }
}

/// What daemon sets ask of a node: two states that are alike in this are the same to them.
fn suits(node: &Arc<Object>) -> [Option<&Value>; 3] {
    ["/metadata/labels", "/metadata/deletionTimestamp", "/spec/taints"]
        .map(|pointer| warren_state::at(&node.value, pointer))
}

/// What the rules look things up in: the state after the change.
pub(crate) struct Rules<'v> {
    pub(crate) indexes: &'v Indexes,
    pub(crate) snapshot: &'v Snapshot,
    pub(crate) memories: &'v Memories,
}

impl Rules<'_> {
    /// An object that was touched.
    pub(crate) fn object(&self, difference: &Difference, due: &mut Due) {
        let key = difference.key();
        let (previous, current) = (difference.previous.as_ref(), difference.current.as_ref());
        self.memories.readers(key).for_each(|unit| due.add_unit(unit));
        self.family(key, previous, current, due);
        self.namespace_of(key, due);
        self.quotas_of(key, previous, current, due);
        if idle::kind(&key.resource).is_some() {
            due.add(Stage::Idle, key);
        }
        match &*key.resource {
            PODS => self.pod(key, previous, current, due),
            REPLICASETS => self.set(key, previous, current, due),
            DEPLOYMENTS => due.add(Stage::Deployments, key),
            JOBS => self.job(key, previous, current, due),
            CRONJOBS => due.add(Stage::CronJobs, key),
            // It looks when its time comes, at whatever there is then.
            HORIZONTALPODAUTOSCALERS => due.add(Stage::Autoscaling, key),
            STATEFULSETS | DAEMONSETS | REPLICATIONCONTROLLERS => self.counting(key, due),
            CONTROLLERREVISIONS => self.revision(key, previous, current, due),
            SERVICES => self.service(key, previous, current, due),
            ENDPOINTS => due.add(Stage::EndpointsObjects, &endpoints::objects::service_of(key)),
            ENDPOINTSLICES => self.slice(previous, current, due),
            NODES => self.node_object(key, previous, current, due),
            NAMESPACES => self.namespace(key, previous, current, due),
            MEMBERS => {
                due.add(Stage::GarbageMembers, key);
                due.add(Stage::Ingresses, &ingress::unit());
                due.room = true;
            }
            INGRESSES | INGRESSCLASSES => due.add(Stage::Ingresses, &ingress::unit()),
            DEFINITIONS => self.definition(previous, current, due),
            RESOURCEQUOTAS => due.add(Stage::Quotas, key),
            CLUSTERROLES => self.cluster_role(key, previous, current, due),
            SERVICEADDRESSES => due.add(Stage::GarbageAddresses, key),
            PODDISRUPTIONBUDGETS => {
                due.add(Stage::Disruptions, key);
                let matters =
                    |object: &'_ Arc<Object>| budgets::matters(object).map(Option::<&Value>::cloned);
                due.room |= previous.map(matters) != current.map(matters);
            }
            _ => {}
        }
    }

    /// Owners may be of a kind that is known by now, and those who control pods may have a scale.
    fn definition(&self, previous: Option<&Arc<Object>>, current: Option<&Arc<Object>>, due: &mut Due) {
        let budgets = self.snapshot.list(PODDISRUPTIONBUDGETS);
        budgets.for_each(|budget| due.add(Stage::Disruptions, &budget.key));
        let kind = |object| warren_state::at(object, "/spec/names/kind");
        let kinds: Vec<_> =
            previous.into_iter().chain(current).filter_map(|object| kind(&object.value)).collect();
        for object in self.indexes.all(By::Owner) {
            let mut of = object::owners(object).filter_map(|owner| owner.get("kind"));
            if of.any(|kind| kinds.contains(&kind)) {
                due.add(Stage::Garbage, &object.key);
            }
        }
    }

    /// Owners wait for their dependents, and dependents follow their owners.
    fn family(
        &self,
        key: &Key,
        previous: Option<&Arc<Object>>,
        current: Option<&Arc<Object>>,
        due: &mut Due,
    ) {
        let looked_at_again = previous.zip(current).is_some_and(|(one, other)| Arc::ptr_eq(one, other));
        if !looked_at_again && previous.map(|object| Kin::of(object)) == current.map(|object| Kin::of(object))
        {
            return;
        }
        let sides = || previous.into_iter().chain(current);
        if sides().any(|object| object::is_deleting(object) || object::owners(object).next().is_some()) {
            due.add(Stage::Garbage, key);
        }
        for owner in sides().flat_map(|object| object::owners(object)) {
            self.dependents_changed(object::owner_uid(owner), due);
        }
        let matters = |object| owners_matter(object);
        if previous.map(|object| matters(object)) != current.map(|object| matters(object)) {
            sides().for_each(|object| self.owner_changed(object::uid(object), due));
        }
    }

    /// An owner that waits for its dependents looks at them.
    fn dependents_changed(&self, owner: &str, due: &mut Due) {
        for owner in self.indexes.of(By::Uid, owner).filter(|owner| object::is_deleting(owner)) {
            due.add(Stage::Garbage, &owner.key);
        }
    }

    fn owner_changed(&self, uid: &str, due: &mut Due) {
        self.indexes.of(By::Owner, uid).for_each(|object| due.add(Stage::Garbage, &object.key));
    }

    /// Who has come into a circle of owners, or out.
    pub(crate) fn circles(&self, uids: &[Arc<str>], due: &mut Due) {
        for object in uids.iter().flat_map(|uid| self.indexes.of(By::Uid, uid)) {
            due.add(Stage::Garbage, &object.key);
            object::owners(object).for_each(|owner| self.dependents_changed(object::owner_uid(owner), due));
        }
    }

    /// A namespace that goes is gone when it is empty.
    fn namespace_of(&self, key: &Key, due: &mut Due) {
        if !key.namespace.is_empty() && self.indexes.any(By::Terminating, &key.namespace) {
            due.add(Stage::Namespaces, &Key::new(NAMESPACES, "", &key.namespace));
        }
    }

    /// The quotas that an object counts in, if it counts for something else than before.
    fn quotas_of(
        &self,
        key: &Key,
        previous: Option<&Arc<Object>>,
        current: Option<&Arc<Object>>,
        due: &mut Due,
    ) {
        if key.namespace.is_empty() {
            return;
        }
        let mut quotas = self.snapshot.list_namespace(RESOURCEQUOTAS, &key.namespace).peekable();
        if quotas.peek().is_some() && !quota::is_same(previous, current) {
            quotas.for_each(|quota| due.add(Stage::Quotas, &quota.key));
        }
    }

    /// A role that is made of others, and those that are made of it.
    fn cluster_role(
        &self,
        key: &Key,
        previous: Option<&Arc<Object>>,
        current: Option<&Arc<Object>>,
        due: &mut Due,
    ) {
        due.add(Stage::ClusterRoles, key);
        let shows = |role| cluster_roles::shows(role);
        if previous.map(|role| shows(role)) == current.map(|role| shows(role)) {
            return;
        }
        let sides: Vec<&Object> = previous.into_iter().chain(current).map(|role| &**role).collect();
        let all = self.indexes.of(By::Gathering, "");
        for role in all.filter(|role| cluster_roles::gathers(role, &sides)) {
            due.add(Stage::ClusterRoles, &role.key);
        }
    }

    fn pod(&self, key: &Key, previous: Option<&Arc<Object>>, current: Option<&Arc<Object>>, due: &mut Due) {
        for stage in [Stage::NodePods, Stage::Termination, Stage::Scheduling, Stage::GarbagePods] {
            due.add(stage, key);
        }
        let typed = |object| Typed::<Pod>::of(object).ok();
        let (previous, current) = (previous.and_then(typed), current.and_then(typed));
        let binding = |pod: &PodView<'_>| pod.node().map(|node| (node.to_owned(), PodRequest::new(pod)));
        due.room |= previous.as_ref().and_then(binding) != current.as_ref().and_then(binding);
        // Others may want to be near it, or far from it, by its labels.
        let labels = |pod: &PodView<'_>| pod.node().map(|_| pod.labels().clone());
        due.room |= previous.as_ref().and_then(labels) != current.as_ref().and_then(labels);
        due.room |= previous.as_ref().and_then(awaits) != current.as_ref().and_then(awaits);
        for pod in previous.iter().chain(&current) {
            if job::is_tracked(pod.object) {
                due.add(Stage::JobPods, key);
            }
            if deadline::of(pod).is_some() {
                due.add(Stage::Deadlines, key);
            }
            if disruption::is_marked(pod.object) {
                due.add(Stage::DisruptedPods, key);
            }
            self.owner_of(pod, due);
            self.services_of(pod, due);
            let budgets = view::budgets_about(self.indexes, pod);
            budgets.for_each(|budget| due.add(Stage::Disruptions, &budget.key));
        }
    }

    /// The set (a job is one) and the deployment that count a pod, or the sets that would adopt it.
    fn owner_of(&self, pod: &PodView<'_>, due: &mut Due) {
        match pod.controller_uid() {
            Some(uid) => {
                for set in self.indexes.of(By::Uid, uid) {
                    self.counting(&set.key, due);
                    object::controller_uid(set).into_iter().for_each(|uid| self.deployment(uid, due));
                }
            }
            None => {
                let pairs = pod.labels().iter().map(|(name, value)| pair(pod.namespace(), name, value));
                for group in pairs.chain([pod.namespace().to_owned()]) {
                    let sets = self.indexes.of(By::SetSelector, &group);
                    sets.for_each(|set| self.counting(&set.key, due));
                }
            }
        }
    }

    /// The planner that counts the pods of a set, whatever kind of set it is.
    fn counting(&self, set: &Key, due: &mut Due) {
        match &*set.resource {
            REPLICASETS | REPLICATIONCONTROLLERS => due.add(Stage::ReplicaSets, set),
            STATEFULSETS => due.add(Stage::StatefulSets, set),
            DAEMONSETS => due.add(Stage::DaemonSets, set),
            JOBS => due.add(Stage::Jobs, set),
            _ => {}
        }
    }

    /// The set whose template a revision is, or the sets that would adopt it.
    fn revision(
        &self,
        key: &Key,
        previous: Option<&Arc<Object>>,
        current: Option<&Arc<Object>>,
        due: &mut Due,
    ) {
        for revision in previous.into_iter().chain(current) {
            match object::controller_uid(revision) {
                Some(uid) => self.indexes.of(By::Uid, uid).for_each(|set| self.counting(&set.key, due)),
                None => {
                    for resource in [STATEFULSETS, DAEMONSETS] {
                        let all = self.snapshot.list_namespace(resource, &key.namespace);
                        all.for_each(|set| self.counting(&set.key, due));
                    }
                }
            }
        }
    }

    fn deployment(&self, uid: &str, due: &mut Due) {
        self.indexes.of(By::Deployment, uid).for_each(|object| due.add(Stage::Deployments, &object.key));
    }

    /// The services that lead to a pod, and the pods that wait for being missed by them no longer.
    fn services_of(&self, pod: &PodView<'_>, due: &mut Due) {
        for service in view::services_selecting(self.indexes, pod.namespace(), pod.labels()) {
            due.add(Stage::Endpoints, &service.object.key);
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            self.stopping(pod.namespace(), selector, due);
        }
    }

    fn stopping(&self, namespace: &str, selector: Option<&Labels>, due: &mut Due) {
        let Some(wanted) = selector.filter(|wanted| !wanted.is_empty()) else { return };
        for object in self.indexes.of(By::Stopping, namespace) {
            let labels = Typed::<Pod>::of(object);
            if labels.is_ok_and(|pod| crate::selector::contains(pod.labels(), wanted)) {
                due.add(Stage::Termination, &object.key);
            }
        }
    }

    fn set(&self, key: &Key, previous: Option<&Arc<Object>>, current: Option<&Arc<Object>>, due: &mut Due) {
        due.add(Stage::ReplicaSets, key);
        for set in previous.into_iter().chain(current) {
            let Ok(set) = Typed::<ReplicaSet>::of(set) else { continue };
            match set.controller_uid() {
                Some(uid) => self.deployment(uid, due),
                None => {
                    let all = self.snapshot.list_namespace(DEPLOYMENTS, set.namespace());
                    all.for_each(|deployment| due.add(Stage::Deployments, &deployment.key));
                }
            }
        }
    }

    /// A job concerns the cron job that made it and, when it ends or goes, what still waits for being counted by it.
    fn job(&self, key: &Key, previous: Option<&Arc<Object>>, current: Option<&Arc<Object>>, due: &mut Due) {
        due.add(Stage::Jobs, key);
        for job in previous.into_iter().chain(current) {
            let owners =
                object::controller_uid(job).into_iter().flat_map(|uid| self.indexes.of(By::Uid, uid));
            for owner in owners.filter(|owner| &*owner.key.resource == CRONJOBS) {
                due.add(Stage::CronJobs, &owner.key);
            }
        }
        let counts = |job: &Arc<Object>| (object::uid(job).to_owned(), job::tracking(job));
        if previous.map(counts) != current.map(counts) {
            for job in previous.into_iter().chain(current) {
                let pods = self.indexes.of(By::PodController, object::uid(job));
                pods.filter(|pod| job::is_tracked(pod)).for_each(|pod| due.add(Stage::JobPods, &pod.key));
            }
        }
    }

    fn service(
        &self,
        key: &Key,
        previous: Option<&Arc<Object>>,
        current: Option<&Arc<Object>>,
        due: &mut Due,
    ) {
        due.add(Stage::Endpoints, key);
        due.add(Stage::EndpointsObjects, key);
        for object in previous.into_iter().chain(current) {
            for address in object::service_addresses(object) {
                due.add(Stage::GarbageAddresses, &Key::new(SERVICEADDRESSES, "", address));
            }
            if let Ok(service) = Typed::<Service>::of(object) {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                self.stopping(&key.namespace, selector, due);
            }
        }
    }

    fn slice(&self, previous: Option<&Arc<Object>>, current: Option<&Arc<Object>>, due: &mut Due) {
        // An address that is mentioned no longer may be given away.
        due.room |= previous.is_some();
        for object in previous.into_iter().chain(current) {
            if let Some(name) = endpoints::service_of(&object.value) {
                let service = Key::new(SERVICES, &object.key.namespace, name);
                due.add(Stage::Endpoints, &service);
                due.add(Stage::EndpointsObjects, &service);
                let service =
                    self.snapshot.get(&service).and_then(|object| Typed::<Service>::of(object).ok());
                let selector = service.as_ref().and_then(|service| service.spec.as_ref()?.selector.as_ref());
                self.stopping(&object.key.namespace, selector, due);
            }
            if !self.indexes.any(By::Stopping, &object.key.namespace) {
                continue;
            }
            let Ok(slice) = object.typed::<EndpointSlice>() else { continue };
            let uids =
                slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_deref());
            for pod in uids.flat_map(|uid| self.indexes.of(By::Uid, uid)) {
                if Typed::<Pod>::of(pod).is_ok_and(|pod| termination::is_waiting(&pod)) {
                    due.add(Stage::Termination, &pod.key);
                }
            }
        }
    }

    fn node_object(
        &self,
        key: &Key,
        previous: Option<&Arc<Object>>,
        current: Option<&Arc<Object>>,
        due: &mut Due,
    ) {
        due.add(Stage::Nodes, key);
        due.room = true;
        let taints = |object: Option<&Arc<Object>>| {
            let node = object.and_then(|object| object.typed::<Node>().ok())?;
            node.spec.as_ref()?.taints.clone()
        };
        if previous.map(suits) != current.map(suits) {
            self.snapshot.list(DAEMONSETS).for_each(|set| due.add(Stage::DaemonSets, &set.key));
        }
        if previous.is_some() != current.is_some() {
            due.add(Stage::GarbageMembers, &Key::new(MEMBERS, "", &key.name));
        }
        if taints(previous) != taints(current) || previous.is_some() != current.is_some() {
            for pod in self.indexes.of(By::PodNode, &key.name) {
                due.add(Stage::NodePods, &pod.key);
                due.add(Stage::GarbagePods, &pod.key);
            }
        }
        let engine = |object: &Arc<Object>| {
            object::condition(&object.value, "ContainerRuntimeReady")
                .map(|condition| condition["status"].clone())
        };
        if previous.and_then(engine) != current.and_then(engine) {
            self.pods_services(&key.name, due);
        }
    }

    fn pods_services(&self, node: &str, due: &mut Due) {
        for object in self.indexes.of(By::PodNode, node) {
            if let Ok(pod) = Typed::<Pod>::of(object) {
                self.services_of(&pod, due);
            }
        }
    }

    /// A node was heard of, or missed.
    pub(crate) fn liveness(&self, node: &str, due: &mut Due) {
        due.room = true;
        due.add(Stage::Nodes, &Key::new(NODES, "", node));
        for object in self.indexes.of(By::PodNode, node) {
            due.add(Stage::NodePods, &object.key);
            if let Ok(pod) = Typed::<Pod>::of(object) {
                self.owner_of(&pod, due);
                self.services_of(&pod, due);
            }
        }
    }

    /// What was refused of what was planned for an object has changed: it waits, is told of it, or is tried again. Nothing
    /// is planned for what is not there.
    pub(crate) fn refusal(&self, about: &Key, due: &mut Due) {
        if let Some(object) = self.snapshot.get(about) {
            let same = Difference { previous: Some(Arc::clone(object)), current: Some(Arc::clone(object)) };
            self.object(&same, due);
        }
    }

    /// So many nodes are silent that evictions are held, or no longer.
    pub(crate) fn silence(&self, node: &str, due: &mut Due) {
        due.add(Stage::Nodes, &Key::new(NODES, "", node));
        self.indexes.of(By::PodNode, node).for_each(|pod| due.add(Stage::NodePods, &pod.key));
    }

    fn namespace(
        &self,
        key: &Key,
        previous: Option<&Arc<Object>>,
        current: Option<&Arc<Object>>,
        due: &mut Due,
    ) {
        due.add(Stage::Namespaces, key);
        due.add(Stage::RootCertificates, key);
        // Pods may want others of namespaces with some labels near them, or far.
        let labels = |object: &'_ Arc<Object>| warren_state::at(&object.value, "/metadata/labels").cloned();
        due.room |= previous.map(labels) != current.map(labels);
        let goes = |object: &Arc<Object>| {
            let phase = warren_state::at(&object.value, "/status/phase").cloned();
            (object::is_deleting(object), phase)
        };
        if previous.map(goes) == current.map(goes) {
            return;
        }
        // Nothing is made in a namespace that goes.
        for resource in self.indexes.resources().filter(|resource| &***resource != NAMESPACES) {
            for object in self.snapshot.list_namespace(resource, &key.name) {
                let same = Difference { previous: None, current: Some(Arc::clone(object)) };
                self.object(&same, due);
            }
        }
    }
}
