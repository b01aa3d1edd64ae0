//! Which node runs a pod, and which address has it there?
//!
//! Filter: nodes that can run the pod. Score: the node that is least loaded in its most loaded dimension
//! afterwards, with the pods of one owner spread. Node, address and condition are written in one step.
//! The pods of one pass see each other's bindings.
//!
//! Pods that ask for the same are a class: its nodes are looked through once, and lie in a heap by their cost. While a
//! pass goes on, nodes only fill up, so a node's cost in the heap is never more than the true one: the node at the top is
//! the best when its cost is still true, and else goes back with the true one.

mod admission;
pub(crate) mod budgets;
mod candidate;
mod claims;
mod class;
pub(crate) mod explain;
mod filter;
pub(crate) mod images;
mod leaning;
mod preempt;
mod relations;
mod sacrifice;
mod score;
mod spread;
mod status;
pub(crate) mod terms;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Bound,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use warren_state::{Key, Transaction};

use crate::{
    indexes::{PodRequest, Rank, is_gated, rank, wants_binding},
    object,
    outcome::Outcome,
    view::{PodView, View},
};
use budgets::Budgets;
use candidate::{Candidate, Taken};
use class::Class;
use filter::Obstacle;
pub(crate) use filter::{pinned, selected, tolerated};
use preempt::Room;
use relations::{Census, Placed};
use status::Nomination;
use terms::Term;
use topology::Domains;
use warren_vocabulary::ipam::PodAddresses;

pub(crate) const COMPONENT: &str = "default-scheduler";
/// How many pods one pass binds: its steps are held in memory together, and others wait for it.
const BINDINGS: usize = 4_096;
/// How many times one pass looks whether a pod may run on a node.
const LOOKS: usize = 5_000_000;
/// How many classes of one owner's pods are remembered.
const CLASSES: usize = 16;
/// When the rest is looked at, if nothing happens before.
const REST: Duration = Duration::from_millis(100);
const NOT_ASKED_FOR: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
const NO_ADDRESS: &str = "node(s) had no free pod address";

/// What one pass knows of the nodes, and has bound.
struct Pass<'v, 'a> {
    view: &'v View<'a>,
    candidates: Vec<Candidate<'a>>,
    by_node: BTreeMap<&'a str, usize>,
    /// By the uid of the owner that controls them.
    classes: BTreeMap<Option<Arc<str>>, Vec<Class<'a>>>,
    /// Addresses of pods that are set aside.
    set_aside: BTreeSet<Ipv4Addr>,
    /// By the labels of nodes, where they are asked for.
    domains: BTreeMap<String, Rc<Domains>>,
    census: Census,
    /// What this pass has bound, in order.
    log: Vec<Placed<'a>>,
    /// All that those pods want of others.
    wishes: BTreeSet<Arc<Term>>,
    /// How many kinds of pods have been told apart.
    kinds: usize,
    /// Pods that this pass lets go.
    leaving: BTreeSet<Key>,
    /// Looked for when somebody may have to go.
    budgets: Option<Budgets<'a>>,
    bindings: usize,
    looks: usize,
    /// How many times what is taken somewhere has changed.
    changes: usize,
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    let mut queue = BTreeSet::<Rank>::new();
    for pod in keys.iter().filter_map(|key| view.typed::<Pod>(key)) {
        if wants_binding(&pod) {
            queue.insert(rank(&pod));
        } else if is_gated(&pod) {
            outcome.unit(view, &pod.object.key, |outcome| status::gate(view, &pod, outcome));
        }
    }
    if queue.is_empty() {
        return;
    }
    let mut pass = Pass::new(view);
    let mut left = false;
    while let Some(next) = queue.pop_first() {
        let Some(pod) = view.typed::<Pod>(&next.3) else { continue };
        let before = pass.changes;
        outcome.unit(view, &next.3, |outcome| {
            if pass.is_exhausted() {
                left = true;
                outcome.reopen();
            } else {
                pass.give(&pod, outcome);
            }
        });
        if before == 0 && pass.changes > 0 {
            // What is fuller now has other reasons to refuse the pods behind, which are told.
            let behind = view.indexes.waiting.range((Bound::Excluded(next), Bound::Unbounded));
            queue.extend(behind.map(|(rank, _)| rank.clone()));
        }
    }
    if left && let Ok(at) = view.now.checked_add(REST) {
        outcome.wake(at);
    }
}

impl<'v, 'a> Pass<'v, 'a> {
    fn new(view: &'v View<'a>) -> Self {
        let candidates = Candidate::all(view);
        let by_node =
            candidates.iter().enumerate().map(|(index, candidate)| (&*candidate.node.object.key.name, index));
        let set_aside = view.world.quarantined.iter().filter_map(|object| object::pod_address(object));
        Self {
            view,
            by_node: by_node.collect(),
            candidates,
            classes: BTreeMap::new(),
            set_aside: set_aside.collect(),
            domains: BTreeMap::new(),
            census: Census::new(),
            log: Vec::new(),
            wishes: BTreeSet::new(),
            kinds: 0,
            leaving: BTreeSet::new(),
            budgets: None,
            bindings: 0,
            looks: 0,
            changes: 0,
        }
    }

    fn is_exhausted(&self) -> bool {
        self.bindings >= BINDINGS || self.looks >= LOOKS
    }

    fn give(&mut self, pod: &PodView<'a>, outcome: &mut Outcome<'_>) {
        let request = PodRequest::new(pod);
        if let Some(node) = pod.node() {
            let Some(index) = self.by_node.get(node).copied() else { return };
            let candidate = self.candidates.get(index);
            let rejection = candidate.and_then(|node| admission::rejection(self.view, node, pod, &request));
            match rejection {
                Some(rejection) => admission::reject(self.view, pod, rejection, outcome),
                None => {
                    let _ = self.bind(index, pod, &request, outcome);
                }
            }
            return;
        }
        if let Some(reason) = claims::obstacle(self.view, pod) {
            let message = unavailable(self.candidates.len(), &reason);
            return status::refuse(self.view, pod, &message, Nomination::Keep, outcome);
        }
        let mut classes = self.classes.remove(&request.owner).unwrap_or_default();
        let known = classes.iter().position(|class| class.asks_for_the_same(self, pod, &request));
        let mut class = match known {
            Some(index) => classes.swap_remove(index),
            None => self.class(pod, &request),
        };
        class.catch_up(self);
        if class.relations.stale {
            class = self.class(pod, &request);
        }
        let place = self.awaited_place(&class, pod, &request);
        let place = place.or_else(|| class.best(self, pod, &request));
        match place {
            Some(index) => {
                if self.bind(index, pod, &request, outcome) {
                    let placed = class.placed(self, index, pod);
                    self.wishes.extend(placed.terms.iter().cloned());
                    self.log.push(placed);
                }
                class.put_back(self, index);
            }
            None => self.refuse(&mut class, pod, &request, outcome),
        }
        classes.truncate(CLASSES);
        classes.insert(0, class);
        self.classes.insert(request.owner, classes);
    }

    /// The domains of a label of nodes.
    fn domains(&mut self, label: &str) -> Rc<Domains> {
        if let Some(known) = self.domains.get(label) {
            return Rc::clone(known);
        }
        let domains = Rc::new(Domains::new(label, &self.candidates));
        self.domains.insert(label.to_owned(), Rc::clone(&domains));
        domains
    }

    /// The place of the node that a pod is on.
    fn node_of(&self, pod: &PodView<'_>) -> Option<usize> {
        self.by_node.get(pod.node()?).copied()
    }

    /// The places that have to be looked at: one that the pod asks for by its name, or all.
    fn eligible(&self, pod: &PodView<'_>) -> std::ops::Range<usize> {
        match pod.spec.as_ref().and_then(pinned) {
            Some(name) => self.by_node.get(name).map_or(0..0, |index| *index..index.saturating_add(1)),
            None => 0..self.candidates.len(),
        }
    }

    /// The node that others have made room on for the pod, if it fits there now.
    fn awaited_place(&mut self, class: &Class<'a>, pod: &PodView<'_>, request: &PodRequest) -> Option<usize> {
        let index = *self.by_node.get(pod.nominated()?)?;
        let fits = self.fits(index, pod, request) && class.relations.obstacle(index).is_none();
        (fits && self.has_address(index, pod)).then_some(index)
    }

    /// The pod needs no room any more where it was kept free for it.
    fn forget_nomination(&mut self, pod: &PodView<'_>) {
        let index = pod.nominated().and_then(|node| self.by_node.get(node)).copied();
        if let Some(candidate) = index.and_then(|index| self.candidates.get_mut(index)) {
            candidate.awaited.retain(|(key, _)| *key != pod.object.key);
        }
    }

    /// Looks through the nodes for those that may run such pods.
    fn class(&mut self, pod: &PodView<'a>, request: &PodRequest) -> Class<'a> {
        let range = self.eligible(pod);
        self.looks = self.looks.saturating_add(range.len());
        let candidates = self.candidates.iter().enumerate().take(range.end).skip(range.start);
        let fitting = candidates.filter(|(_, candidate)| filter::fits(candidate, pod, request));
        let nodes: Vec<_> = fitting.map(|(index, _)| index).collect();
        let mut class = Class::new(self, pod, request);
        class.take_up(self, &nodes);
        class
    }

    /// Whether a node can take a pod, whoever else is near, if it has an address for it.
    fn fits(&self, index: usize, pod: &PodView<'_>, request: &PodRequest) -> bool {
        self.candidates.get(index).is_some_and(|candidate| filter::fits(candidate, pod, request))
    }

    /// Whether a node has an address for a pod.
    fn has_address(&mut self, index: usize, pod: &PodView<'_>) -> bool {
        host_network(pod) || self.next_address(index).is_some()
    }

    /// The address that the next pod on a node gets.
    fn next_address(&mut self, index: usize) -> Option<Ipv4Addr> {
        let world = self.view.world;
        // Until everyone has applied what was before, no address is known to be free of an earlier pod.
        if world.acknowledged < world.released_since {
            return None;
        }
        let candidate = self.candidates.get_mut(index)?;
        let cidr = candidate.info.cidr?;
        if candidate.addresses.is_none() {
            let net = cidr.network();
            // An address that a slice still mentions is still sent to, though its pod is gone.
            let mentioned = self.view.indexes.mentioned.range(net.network()..=net.broadcast());
            let in_use = candidate.info.addresses.keys().chain(mentioned.map(|(address, _)| address));
            let in_use = in_use.chain(&self.set_aside).copied();
            candidate.addresses = Some(PodAddresses::new(cidr, in_use, &world.released, world.acknowledged));
        }
        candidate.addresses.as_ref().and_then(PodAddresses::next)
    }

    /// Gives a pod a node and an address; whether that is planned.
    fn bind(
        &mut self,
        index: usize,
        pod: &PodView<'a>,
        request: &PodRequest,
        outcome: &mut Outcome<'_>,
    ) -> bool {
        let next = if host_network(pod) { None } else { self.next_address(index) };
        let Some(candidate) = self.candidates.get_mut(index) else { return false };
        let host = internal_address(&candidate.node);
        let Some(address) = (if host_network(pod) { host } else { next }) else {
            let message = format!("node {} has no free address for it", candidate.node.name());
            outcome.problem(pod.object.key.clone(), message);
            await_addresses(self.view, outcome);
            return false;
        };
        let node = candidate.node.name();
        let value = status::bound(pod, node, address, host, self.view.now);
        let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        if pod.node().is_none() {
            let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
            status::tell(self.view, &mut transaction, pod, "Scheduled", message);
        }
        // A pod whose binding was refused takes nothing while it waits.
        if !outcome.step(format!("bind {} to {node} as {address}", pod.object.key), transaction) {
            return false;
        }
        if pod.node().is_none() {
            candidate.info.to_mut().add_pod(&request.at(address));
        } else {
            candidate.let_in.insert(pod.object.key.clone());
            candidate.info.to_mut().addresses.insert(address, 1);
        }
        if let Some(addresses) = &mut candidate.addresses {
            addresses.take(address);
        }
        self.forget_nomination(pod);
        self.bindings = self.bindings.saturating_add(1);
        self.changes = self.changes.saturating_add(1);
        true
    }

    fn refuse(
        &mut self,
        class: &mut Class<'a>,
        pod: &PodView<'a>,
        request: &PodRequest,
        outcome: &mut Outcome<'_>,
    ) {
        let message = match class.refused.take() {
            Some((changes, message)) if changes == self.changes => message,
            _ => self.verdict(class, pod, request),
        };
        class.refused = Some((self.changes, message.clone()));
        if self.candidates.is_empty() || message.contains(NO_ADDRESS) {
            await_addresses(self.view, outcome);
        }
        let (why, nomination) = match self.make_room(class, pod, request) {
            Room::Made(index, sacrifice) => {
                let place = (index, sacrifice);
                return self.sacrifice_for(place, class, (pod, request), &message, outcome);
            }
            Room::Nobody(why) => (why, Nomination::Drop),
            Room::Waits(why) => (why.to_owned(), Nomination::Keep),
        };
        let message = self.told(message, &why);
        status::refuse(self.view, pod, &message, nomination, outcome);
    }

    /// What a pod is told that nobody makes room for.
    fn told(&self, message: String, why: &str) -> String {
        if self.candidates.is_empty() { message } else { format!("{message} preemption: {why}") }
    }

    /// Why each node refuses a pod.
    fn verdict(&mut self, class: &Class<'a>, pod: &PodView<'_>, request: &PodRequest) -> String {
        let (nodes, range) = (self.candidates.len(), self.eligible(pod));
        self.looks = self.looks.saturating_add(range.len());
        let mut verdicts = BTreeMap::<String, usize>::new();
        if range.len() < nodes {
            verdicts.insert(NOT_ASKED_FOR.to_owned(), nodes.saturating_sub(range.len()));
        }
        for index in range {
            let Some(candidate) = self.candidates.get(index) else { break };
            let taken = candidate.taken(request, &pod.object.key);
            let mut obstacles = self.obstacles(class, index, &taken, pod, request);
            if obstacles.is_empty() && !self.has_address(index, pod) {
                obstacles.push(Obstacle::lasting(filter::NETWORK, NO_ADDRESS));
            }
            for obstacle in obstacles {
                *verdicts.entry(obstacle.reason.into_owned()).or_default() += 1;
            }
        }
        unavailable(nodes, &listed(&verdicts))
    }

    /// Why a pod may not run on a node, when so much is taken there; empty when it may.
    fn obstacles(
        &self,
        class: &Class<'a>,
        index: usize,
        taken: &Taken<'_>,
        pod: &PodView<'_>,
        request: &PodRequest,
    ) -> Vec<Obstacle> {
        let Some(candidate) = self.candidates.get(index) else { return Vec::new() };
        let mut obstacles = filter::obstacles(candidate, taken, pod, request);
        if obstacles.is_empty() {
            obstacles.extend(class.relations.obstacle(index));
        }
        obstacles
    }
}

/// How many nodes say what, in Kubernetes' order.
fn listed(verdicts: &BTreeMap<String, usize>) -> String {
    let mut reasons: Vec<_> = verdicts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    reasons.join(", ")
}

fn unavailable(nodes: usize, reasons: &str) -> String {
    match nodes {
        0 => "no nodes available to schedule pods".to_owned(),
        _ => format!("0/{nodes} nodes are available: {reasons}."),
    }
}

/// Addresses rest until everyone has acknowledged that their pods are gone.
fn await_addresses(view: &View<'_>, outcome: &mut Outcome<'_>) {
    outcome.await_acknowledgement(view.world.acknowledged.saturating_add(1));
}

fn host_network(pod: &PodView<'_>) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

fn internal_address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP")?.address.parse().ok()
}
