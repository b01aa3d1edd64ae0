//! Why is a pod where it is, or nowhere? Every node's verdict, as the scheduler would come to it now.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use warren_state::{Difference, Key, Object};
use warren_vocabulary::guard::Unwatched;

use super::{
    Pass,
    candidate::{Candidate, Taken},
    claims,
    class::Class,
    filter::{self, Obstacle},
    preempt::Room,
    relations::Placed,
    score, status, unavailable,
};
use crate::{
    World,
    indexes::{Indexes, PodRequest, is_gated, wants_binding},
    object,
    outcome::Outcome,
    view::{PodView, Typed, View},
};
use warren_objects::quantity;

/// What the scheduler thinks of a pod and of every node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The node that it has. The verdicts are those for a pod like it that comes instead of it.
    pub node: Option<String>,
    /// The node where others make room for it.
    pub nominated: Option<String>,
    /// What it waits for, or what ends it, whatever the nodes say.
    pub waits: Vec<Wait>,
    /// If it is looked for a node and there is none: what its event says, in Kubernetes' words.
    pub message: Option<String>,
    /// The best node first; those that refuse it come last, by name.
    pub nodes: Vec<NodeVerdict>,
    /// If all refuse it: whether others would make room for it.
    pub preemption: Option<Preemption>,
}

/// What a pod waits for beside a node, or what ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// A word in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// What one node is to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVerdict {
    /// The node's name.
    pub node: String,
    /// Whether it could run the pod.
    pub verdict: Verdict,
}

/// Whether a node could run a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It cannot; why.
    Refuses(Vec<Refusal>),
    /// It can.
    Fits(Score),
}

/// Why a node cannot run a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which filter refuses it, by Kubernetes' name where it has such a one: "NodeResourcesFit".
    pub filter: &'static str,
    /// Why, in Kubernetes' words.
    pub reason: String,
    /// What there is too little of.
    pub lack: Option<Lack>,
}

/// What a node has too little of. Amounts are as Kubernetes writes them: "1500m", "2Gi".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The resource: "cpu".
    pub resource: String,
    /// What the pod asks for.
    pub requested: String,
    /// What others take or have been promised.
    pub taken: String,
    /// What the node offers to pods.
    pub allocatable: String,
}

/// How good a node is, in millionths of load: less is better, and below 0 is what was wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// All of it together.
    pub cost: i64,
    /// What would be its most loaded dimension ("cpu", "memory" or "pods"), and how loaded that: a million is full.
    pub load: (&'static str, i64),
    /// Half of what the pod itself is of the node, taken off: large nodes are kept for large pods.
    pub size: i64,
    /// Pods of the same owner on the node.
    pub siblings: i64,
    /// Taints with effect PreferNoSchedule.
    pub taints: i64,
    /// The pod's preferences for nodes.
    pub preferences: i64,
    /// How uneven the pod's kind would be spread.
    pub spread: i64,
    /// Pods that it would be near or far, as they or it would like.
    pub company: i64,
    /// Images that the node has already.
    pub images: i64,
}

/// Whether other pods would make room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preemption {
    /// These pods would go from this node.
    Possible {
        /// The node.
        node: String,
        /// Who would go; nobody, if those who are on their way out make room enough.
        victims: Vec<Key>,
    },
    /// They would not; why, in Kubernetes' words.
    Impossible(String),
}

/// Explains where a pod may run; nothing if there is no such pod. It costs what a start of the planners costs:
/// [`Planner::explain`](crate::Planner::explain) has what it takes already.
pub fn explain(world: &World, pod: &Key, now: Timestamp) -> Option<Explanation> {
    let mut indexes = Indexes::default();
    let mut outcome = Outcome::new(now, &Unwatched);
    for object in world.snapshot.iter() {
        let first = Difference { previous: None, current: Some(Arc::clone(object)) };
        indexes.apply(&first, &mut outcome);
    }
    with_indexes(world, &indexes, pod, now)
}

/// The same with indexes over the world's state.
pub(crate) fn with_indexes(
    world: &World,
    indexes: &Indexes,
    key: &Key,
    now: Timestamp,
) -> Option<Explanation> {
    let Some(object) = world.snapshot.get(key) else {
        let set_aside = world.quarantined.iter().any(|object| object.key == *key);
        let message = "an operator has set it aside (--quarantine): nothing is done for it";
        let waits = vec![Wait { reason: "SetAside", message: message.to_owned() }];
        return set_aside.then(|| Explanation { waits, ..Explanation::default() });
    };
    let alike = alike(object);
    let view = View::new(world, indexes, now, 0);
    let (original, pod) = (Typed::<Pod>::of(object).ok()?, Typed::<Pod>::of(&alike).ok()?);
    Some(of(&view, &original, &pod))
}

/// The pod as it was before it got a node.
fn alike(object: &Arc<Object>) -> Arc<Object> {
    let mut value = object.value.clone();
    object::object_at(&mut value, &["spec"]).remove("nodeName");
    object::object_at(&mut value, &["status"]).remove("podIP");
    Arc::new(Object::new(object.key.clone(), object.revision, value))
}

fn of<'a>(view: &View<'a>, original: &PodView<'a>, pod: &PodView<'a>) -> Explanation {
    let mut pass = Pass::new(view);
    let request = PodRequest::new(pod);
    let mut class = Class::new(&mut pass, pod, &request);
    if let Some(node) = pass.node_of(original) {
        let placed = Placed::new(node, original, 0);
        class.relations.count(view, pod, &placed, -1, None);
        if let Some(candidate) = pass.candidates.get_mut(node) {
            candidate.info.to_mut().remove_pod(&PodRequest::new(original));
        }
    }
    let mut nodes: Vec<_> =
        (0..pass.candidates.len()).map(|node| verdict(&mut pass, &class, node, pod, &request)).collect();
    nodes.sort_by_key(|verdict| match &verdict.verdict {
        Verdict::Fits(score) => (false, score.cost),
        Verdict::Refuses(_) => (true, 0),
    });
    let refused = nodes.iter().all(|verdict| matches!(verdict.verdict, Verdict::Refuses(_)));
    let claims = claims::obstacle(view, pod);
    let is_sought = original.node().is_none() && wants_binding(pod);
    let preemption =
        (is_sought && refused && claims.is_none()).then(|| preemption(&mut pass, &mut class, pod, &request));
    let message = is_sought.then(|| match (&claims, &preemption) {
        (Some(reason), _) => Some(unavailable(nodes.len(), reason)),
        (None, Some(Preemption::Possible { .. })) => Some(pass.verdict(&class, pod, &request)),
        (None, Some(Preemption::Impossible(why))) => {
            let message = pass.verdict(&class, pod, &request);
            Some(pass.told(message, why))
        }
        (None, None) => None,
    });
    Explanation {
        node: original.node().map(str::to_owned),
        nominated: original.nominated().filter(|_| original.node().is_none()).map(str::to_owned),
        waits: waits(view, original, claims),
        message: message.flatten(),
        nodes,
        preemption,
    }
}

/// What the pod waits for, or what ends it.
fn waits(view: &View<'_>, pod: &PodView<'_>, claims: Option<String>) -> Vec<Wait> {
    let mut all = Vec::new();
    let mut wait = |reason, message: String| all.push(Wait { reason, message });
    if view.namespace_terminating(pod.namespace()) {
        let message = format!("its namespace {} is being deleted, and everything in it", pod.namespace());
        wait("NamespaceTerminating", message);
    }
    if pod.terminal() {
        wait("Ended", format!("it has ended (phase {}) and is not run again", pod.phase()));
    } else if pod.deleting() {
        wait("Deleting", "it is being deleted".to_owned());
    } else if pod.node().is_none() {
        let spec = pod.spec.as_ref();
        if is_gated(pod) {
            let gates = spec.and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
            let names: Vec<_> = gates.iter().map(|gate| gate.name.as_str()).collect();
            wait("SchedulingGated", format!("{}: {}", status::GATED, names.join(", ")));
        } else if !wants_binding(pod) {
            let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or_default();
            wait("OtherScheduler", format!("it waits for the scheduler {scheduler:?}"));
        }
        if let Some(claims) = claims {
            wait("Claims", claims);
        }
    }
    all
}

fn verdict<'a>(
    pass: &mut Pass<'_, 'a>,
    class: &Class<'a>,
    node: usize,
    pod: &PodView<'a>,
    request: &PodRequest,
) -> NodeVerdict {
    let mut refusals = match pass.candidates.get(node) {
        Some(candidate) => {
            let taken = candidate.taken(request, &pod.object.key);
            let obstacles = pass.obstacles(class, node, &taken, pod, request);
            refusals(candidate, &taken, request, obstacles)
        }
        None => Vec::new(),
    };
    if refusals.is_empty() && !pass.has_address(node, pod) {
        let reason = super::NO_ADDRESS.to_owned();
        refusals.push(Refusal { filter: filter::NETWORK, reason, lack: None });
    }
    let verdict = match pass.candidates.get(node) {
        Some(candidate) if refusals.is_empty() => Verdict::Fits(score::of(candidate, class, node)),
        _ => Verdict::Refuses(refusals),
    };
    let name = pass.candidates.get(node).map(|candidate| candidate.node.name().to_owned());
    NodeVerdict { node: name.unwrap_or_default(), verdict }
}

/// What keeps the pod away, with amounts where there is too little of something.
fn refusals(
    candidate: &Candidate<'_>,
    taken: &Taken<'_>,
    request: &PodRequest,
    obstacles: Vec<Obstacle>,
) -> Vec<Refusal> {
    let (wanted, offered) = (&request.requested, &candidate.info.allocatable);
    // One obstacle each, in the same order.
    let mut lacking = wanted.lacking(&taken.amounts, offered);
    let lack = |name: &str| Lack {
        resource: name.to_owned(),
        requested: written(name, wanted.amount(name)),
        taken: written(name, taken.amounts.amount(name)),
        allocatable: written(name, offered.amount(name)),
    };
    let refusal = |obstacle: Obstacle| Refusal {
        filter: obstacle.filter,
        reason: obstacle.reason.into_owned(),
        lack: if obstacle.filter == filter::RESOURCES { lacking.next().map(lack) } else { None },
    };
    obstacles.into_iter().map(refusal).collect()
}

/// An amount as Kubernetes writes it.
fn written(name: &str, amount: i128) -> String {
    let is_binary = name == "memory" || name.ends_with("storage") || name.starts_with("hugepages-");
    let milli = if name == "cpu" { amount } else { amount.saturating_mul(1_000) };
    quantity::written(milli, is_binary)
}

fn preemption<'a>(
    pass: &mut Pass<'_, 'a>,
    class: &mut Class<'a>,
    pod: &PodView<'a>,
    request: &PodRequest,
) -> Preemption {
    match pass.make_room(class, pod, request) {
        Room::Made(node, sacrifice) => Preemption::Possible {
            node: pass.candidates.get(node).map(|node| node.node.name().to_owned()).unwrap_or_default(),
            victims: sacrifice.victims.iter().map(|victim| victim.object.key.clone()).collect(),
        },
        Room::Nobody(why) => Preemption::Impossible(why),
        Room::Waits(why) => Preemption::Impossible(why.to_owned()),
    }
}
