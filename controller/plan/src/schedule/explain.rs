//! Why is a pod where it is, or nowhere? Every node's verdict, as the scheduler would come to it now.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use warren_state::{Difference, Key, Object};
use warren_vocabulary::guard::Unwatched;

use super::{Pass, claims, class::Class, filter::Obstacle, preempt::Room, relations::Placed, score, status};
use crate::{
    World,
    indexes::{Indexes, PodRequest, is_gated, wants_binding},
    object,
    outcome::Outcome,
    view::{PodView, Typed, View},
};

/// What the scheduler thinks of a pod and of every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The node that it has. The verdicts are those for a pod like it that comes instead of it.
    pub node: Option<String>,
    /// The node where others make room for it.
    pub nominated: Option<String>,
    /// Why no node is looked for, whatever the nodes say.
    pub waits: Option<String>,
    /// The best node first; those that refuse it come last, by name.
    pub nodes: Vec<NodeVerdict>,
    /// If all refuse it: whether others would make room for it.
    pub preemption: Option<Preemption>,
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
    /// It cannot; why, in Kubernetes' words.
    Refuses(Vec<String>),
    /// It can.
    Fits(Score),
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

/// Explains where a pod may run; nothing if there is no such pod. It costs what a start of the planners costs.
pub fn explain(world: &World, pod: &Key, now: Timestamp) -> Option<Explanation> {
    let mut indexes = Indexes::default();
    let mut outcome = Outcome::new(now, &Unwatched);
    for object in world.snapshot.iter() {
        let first = Difference { previous: None, current: Some(Arc::clone(object)) };
        indexes.apply(&first, &mut outcome);
    }
    let object = world.snapshot.get(pod)?;
    let alike = alike(object);
    let view = View::new(world, &indexes, now, 0);
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
    let waits = waits(view, original, pod);
    let preemption = (refused && waits.is_none() && original.node().is_none())
        .then(|| preemption(&mut pass, &mut class, pod, &request));
    Explanation {
        node: original.node().map(str::to_owned),
        nominated: original.nominated().filter(|_| original.node().is_none()).map(str::to_owned),
        waits,
        nodes,
        preemption,
    }
}

/// Why no node is looked for.
fn waits(view: &View<'_>, original: &PodView<'_>, pod: &PodView<'_>) -> Option<String> {
    if original.node().is_some() {
        return None;
    }
    if is_gated(pod) {
        return Some(status::GATED.to_owned());
    }
    if !wants_binding(pod) {
        let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or_default();
        return Some(match pod.active() {
            true => format!("it waits for the scheduler {scheduler:?}"),
            false => "it has ended, or is being deleted".to_owned(),
        });
    }
    claims::obstacle(view, pod)
}

fn verdict<'a>(
    pass: &mut Pass<'_, 'a>,
    class: &Class<'a>,
    node: usize,
    pod: &PodView<'a>,
    request: &PodRequest,
) -> NodeVerdict {
    let mut obstacles = match pass.candidates.get(node) {
        Some(candidate) => {
            let taken = candidate.taken(request, &pod.object.key);
            pass.obstacles(class, node, &taken, pod, request)
        }
        None => Vec::new(),
    };
    if obstacles.is_empty() && !pass.has_address(node, pod) {
        obstacles.push(Obstacle::lasting(super::NO_ADDRESS));
    }
    let verdict = match pass.candidates.get(node) {
        Some(candidate) if obstacles.is_empty() => Verdict::Fits(score::of(candidate, class, node)),
        _ => Verdict::Refuses(obstacles.into_iter().map(|obstacle| obstacle.reason.into_owned()).collect()),
    };
    let name = pass.candidates.get(node).map(|candidate| candidate.node.name().to_owned());
    NodeVerdict { node: name.unwrap_or_default(), verdict }
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
