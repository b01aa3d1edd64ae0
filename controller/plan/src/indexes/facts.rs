//! What an object says about itself that the planners look things up by.

use std::{net::Ipv4Addr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        core::v1::{Namespace, Node, ReplicationController, Service},
        discovery::v1::EndpointSlice,
        policy::v1::PodDisruptionBudget,
    },
    serde::de::DeserializeOwned,
};
use warren_proto::vocabulary::PodCidr;
use warren_state::{Key, Object};

use super::{Amounts, By, Counted, Malformed, PodRequest};
use crate::{
    Problem, autoscale, cluster_roles, endpoints, failures, garbage,
    object::{self, is_deleting},
    schedule::{images, terms::Term},
    selector::Labels,
    termination,
    view::{PodView, Typed},
};
use warren_vocabulary::{
    member::Member,
    resources::{
        CLUSTERROLES, CONTROLLERREVISIONS, CRONJOBS, DAEMONSETS, DEPLOYMENTS, ENDPOINTSLICES, EVENTS,
        HORIZONTALPODAUTOSCALERS, JOBS, MEMBERS, NAMESPACES, NODES, PODDISRUPTIONBUDGETS, PODS, REPLICASETS,
        REPLICATIONCONTROLLERS, SERVICES, STATEFULSETS,
    },
};

/// Who gets a place first: pods that were bound by hand and want an address only, then by priority, then by age.
pub(crate) type Rank = (bool, i64, Timestamp, Key);

/// One place of an object in the indexes.
pub(super) enum Fact {
    Group(By, Arc<str>),
    Waiting(Rank),
    Expiry(Timestamp),
    Mentioned(Ipv4Addr),
    /// A node, and what it offers.
    Node(Amounts),
    /// A member, and its addresses.
    Member(PodCidr),
    /// A pod on a node.
    Bound(Arc<str>, Box<PodRequest>),
    /// A pod on a node wants something of others.
    Wants(Arc<str>, Arc<Term>),
    /// A node has an image of so many bytes.
    Image(Arc<str>, i64),
    /// A pod that waits for others to go from a node.
    Nominated(Arc<str>, Box<PodRequest>),
    /// It is part of what circles of owners are found in.
    Circle,
    /// It counts in quotas of its namespace.
    Counted(Box<Counted>),
}

pub(super) struct Facts {
    pub(super) all: Vec<Fact>,
    pub(super) malformed: Option<Malformed>,
}

impl Facts {
    fn group(&mut self, by: By, group: &str) {
        self.all.push(Fact::Group(by, group.into()));
    }

    fn malformed(&mut self, object: &Object, what: &str, error: &str) {
        let message = format!("stored {what} is malformed: {error}");
        self.malformed = Some(Malformed::Problem(Problem { key: object.key.clone(), message }));
    }

    fn typed<'o, T>(&mut self, object: &'o Arc<Object>) -> Option<Typed<'o, T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        Typed::of(object).inspect_err(|error| self.malformed(object, "object", error)).ok()
    }
}

/// The group of a label in a namespace.
pub(crate) fn pair(namespace: &str, name: &str, value: &str) -> String {
    format!("{namespace}\0{name}\0{value}")
}

pub(super) fn of(object: &Arc<Object>) -> Facts {
    let mut facts = Facts { all: Vec::new(), malformed: None };
    family(object, &mut facts);
    facts.all.extend(Counted::of(object).map(|counted| Fact::Counted(Box::new(counted))));
    match &*object.key.resource {
        PODS => facts.typed(object).into_iter().for_each(|pod| of_pod(&pod, &mut facts)),
        REPLICASETS => facts.typed(object).into_iter().for_each(|set| of_set(&set, &mut facts)),
        DEPLOYMENTS => {
            let deployment: Option<Typed<'_, Deployment>> = facts.typed(object);
            deployment.into_iter().for_each(|deployment| facts.group(By::Deployment, deployment.uid()));
        }
        JOBS => facts.typed(object).into_iter().for_each(|job| of_job(&job, &mut facts)),
        CRONJOBS => drop(facts.typed::<CronJob>(object)),
        HORIZONTALPODAUTOSCALERS => {
            let scaler: Option<Typed<'_, HorizontalPodAutoscaler>> = facts.typed(object);
            let group = scaler.and_then(|of| Some(autoscale::group(of.namespace(), of.spec.as_ref()?)));
            group.into_iter().for_each(|group| facts.group(By::ScaleTarget, &group));
        }
        REPLICATIONCONTROLLERS => {
            let set: Option<Typed<'_, ReplicationController>> = facts.typed(object);
            let wanted = set.as_ref().and_then(|set| set.spec.as_ref()?.selector.as_ref());
            set.iter().for_each(|_| selecting(object, wanted, &mut facts));
        }
        STATEFULSETS => {
            let set: Option<Typed<'_, StatefulSet>> = facts.typed(object);
            let wanted = set.as_ref().and_then(|set| set.spec.as_ref()?.selector.match_labels.as_ref());
            set.iter().for_each(|_| selecting(object, wanted, &mut facts));
        }
        DAEMONSETS => {
            let set: Option<Typed<'_, DaemonSet>> = facts.typed(object);
            let wanted = set.as_ref().and_then(|set| set.spec.as_ref()?.selector.match_labels.as_ref());
            set.iter().for_each(|_| selecting(object, wanted, &mut facts));
        }
        CONTROLLERREVISIONS => match object::controller_uid(object) {
            Some(uid) => facts.group(By::RevisionController, uid),
            None => facts.group(By::RevisionNamespace, &object.key.namespace),
        },
        PODDISRUPTIONBUDGETS => {
            let budget: Option<Typed<'_, PodDisruptionBudget>> = facts.typed(object);
            let selector = budget.as_ref().and_then(|budget| budget.spec.as_ref()?.selector.as_ref());
            if let Some(selector) = selector {
                let group = first_pair(&object.key.namespace, selector.match_labels.as_ref());
                facts.group(By::BudgetSelector, &group);
            }
        }
        SERVICES => of_service(object, &mut facts),
        NODES => facts.typed(object).into_iter().for_each(|node| of_node(&node, &mut facts)),
        NAMESPACES => facts.typed(object).into_iter().for_each(|name| of_namespace(&name, &mut facts)),
        ENDPOINTSLICES => of_slice(object, &mut facts),
        MEMBERS => match Member::from_object(object) {
            Ok(member) => facts.all.push(Fact::Member(member.pod_cidr)),
            Err(error) => facts.malformed(object, "member", &error),
        },
        CLUSTERROLES if cluster_roles::is_made(object) => facts.group(By::Gathering, ""),
        EVENTS => facts.all.push(Fact::Expiry(garbage::expiry(object))),
        _ => {}
    }
    facts
}

/// Who it is, and whose.
fn family(object: &Arc<Object>, facts: &mut Facts) {
    let uid = object::uid(object);
    if !uid.is_empty() {
        facts.group(By::Uid, uid);
    }
    for owner in object::owners(object) {
        facts.group(By::Owner, object::owner_uid(owner));
    }
    if garbage::waits_for_dependents(object) {
        facts.group(By::Foreground, "");
        facts.all.push(Fact::Circle);
    }
    if failures::is_told(object) {
        facts.group(By::Failed, "");
    }
}

/// What garbage collection and the end of a namespace depend on, of an object that others depend on: two states of it
/// that are alike in this are the same to them.
pub(crate) fn owners_matter(object: &Object) -> (&str, bool, bool) {
    (object::uid(object), is_deleting(object), garbage::waits_for_dependents(object))
}

fn of_pod(pod: &PodView<'_>, facts: &mut Facts) {
    let namespace = pod.namespace();
    let labels = || pod.labels().iter().map(|(name, value)| pair(namespace, name, value));
    labels().for_each(|label| facts.group(By::PodLabel, &label));
    match pod.controller_uid() {
        Some(uid) => facts.group(By::PodController, uid),
        None => {
            facts.group(By::OrphanNamespace, namespace);
            labels().for_each(|label| facts.group(By::OrphanLabel, &label));
        }
    }
    if let Some(node) = pod.node() {
        facts.group(By::PodNode, node);
        facts.all.push(Fact::Bound(node.into(), Box::new(PodRequest::new(pod))));
        if !pod.terminal() {
            let node: Arc<str> = node.into();
            let wants = Term::all(pod).into_iter().map(|term| Fact::Wants(Arc::clone(&node), Arc::new(term)));
            facts.all.extend(wants);
        }
    }
    if termination::is_waiting(pod) {
        facts.group(By::Stopping, namespace);
    }
    if pod.deleting() && !pod.terminal() {
        facts.group(By::Ending, namespace);
    }
    if wants_binding(pod) {
        facts.all.push(Fact::Waiting(rank(pod)));
    }
    if let Some((node, request)) = awaits(pod) {
        facts.all.push(Fact::Nominated(node.into(), Box::new(request)));
    }
}

/// In which order pods get a place.
pub(crate) fn rank(pod: &PodView<'_>) -> Rank {
    (pod.node().is_none(), -i64::from(pod.priority()), object::created_at(pod.object), pod.object.key.clone())
}

/// Whether it is for us to give a pod a node, or an address on the node that it has.
pub(crate) fn wants_binding(pod: &PodView<'_>) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let name = spec.scheduler_name.as_deref();
    let ours = name.is_none_or(|name| name.is_empty() || name == crate::schedule::COMPONENT);
    pod.active() && (if pod.node().is_none() { ours && !has_gates(pod) } else { pod.address().is_none() })
}

/// Whether a pod waits for somebody to let it be scheduled.
pub(crate) fn is_gated(pod: &PodView<'_>) -> bool {
    pod.active() && pod.node().is_none() && has_gates(pod)
}

fn has_gates(pod: &PodView<'_>) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// The node where others make room for a pod, and how much is kept free for it.
pub(crate) fn awaits<'p>(pod: &'p PodView<'_>) -> Option<(&'p str, PodRequest)> {
    let node = pod.nominated().filter(|_| pod.node().is_none() && wants_binding(pod))?;
    Some((node, PodRequest::new(pod)))
}

fn of_set(set: &Typed<'_, ReplicaSet>, facts: &mut Facts) {
    match set.controller_uid() {
        Some(uid) => facts.group(By::SetController, uid),
        None => facts.group(By::SetNamespace, set.namespace()),
    }
    let wanted = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    selecting(set.object, wanted, facts);
}

/// A set may adopt pods.
fn selecting(set: &Object, wanted: Option<&Labels>, facts: &mut Facts) {
    facts.group(By::SetSelector, &first_pair(&set.key.namespace, wanted));
}

fn of_job(job: &Typed<'_, Job>, facts: &mut Facts) {
    if let Some(uid) = job.controller_uid() {
        facts.group(By::JobController, uid);
    }
    let wanted = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()?.match_labels.as_ref());
    selecting(job.object, wanted, facts);
}

fn of_service(object: &Arc<Object>, facts: &mut Facts) {
    for address in object::service_addresses(object) {
        facts.group(By::ServiceAddress, address);
    }
    let service: Option<Typed<'_, Service>> = facts.typed(object);
    let wanted = service.as_ref().and_then(|service| service.spec.as_ref()?.selector.as_ref());
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        facts.group(By::ServiceSelector, &first_pair(&object.key.namespace, Some(wanted)));
    }
}

/// The group of a selector: one of its labels, or its namespace when it has none.
fn first_pair(namespace: &str, wanted: Option<&Labels>) -> String {
    let first = wanted.and_then(|wanted| wanted.first_key_value());
    first.map_or_else(|| namespace.to_owned(), |(name, value)| pair(namespace, name, value))
}

fn of_node(node: &Typed<'_, Node>, facts: &mut Facts) {
    facts.all.push(Fact::Node(Amounts::allocatable(node)));
    facts.all.extend(images::of(node).map(|(name, bytes)| Fact::Image(name, bytes)));
    let runtime = object::condition(&node.object.value, "ContainerRuntimeReady");
    if runtime.is_some_and(|condition| condition["status"] == "False") {
        facts.group(By::Engineless, node.name());
    }
}

fn of_namespace(namespace: &Typed<'_, Namespace>, facts: &mut Facts) {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    if namespace.deleting() || phase == Some("Terminating") {
        facts.group(By::Terminating, namespace.name());
    }
}

/// A slice that cannot be read is told by the compiler.
fn of_slice(object: &Arc<Object>, facts: &mut Facts) {
    let Ok(slice) = object.typed::<EndpointSlice>() else { return };
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    facts.all.extend(addresses.filter_map(|address| Some(Fact::Mentioned(address.parse().ok()?))));
    if endpoints::objects::is_mirror(&object.value)
        && let Some(service) = endpoints::service_of(&object.value)
    {
        facts.group(By::MirrorSlice, &endpoints::group(&object.key.namespace, service));
    }
    if !endpoints::is_managed(&object.value) {
        return;
    }
    if let Some(service) = endpoints::service_of(&object.value) {
        facts.group(By::ServiceSlice, &endpoints::group(&object.key.namespace, service));
    }
    let uids = slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_deref());
    uids.for_each(|uid| facts.group(By::Mention, uid));
}
