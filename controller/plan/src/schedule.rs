//! Which node runs a pod, and which address has it there?
//!
//! Filter: nodes that can run the pod. Score: the node that is least loaded in its most loaded dimension
//! afterwards, with the pods of one owner spread. Node, address and condition are written in one step.
//! The pods of one pass see each other's bindings.
//!
//! Pods that ask for the same are a class: its nodes are looked through once, and lie in a heap by their cost. While a
//! pass goes on, nodes only fill up, so a node's cost in the heap is never more than the true one: the node at the top is
//! the best when its cost is still true, and else goes back with the true one.

mod claims;
mod filter;

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::Ipv4Addr,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use warren_state::{Key, Transaction};

use crate::{
    Health,
    events::{self, Event},
    indexes::{NodeInfo, PodRequest, Rank, rank, wants_binding},
    object::{self, Condition},
    outcome::Outcome,
    view::{PodView, Typed, View},
};
pub(crate) use filter::{pinned, selected, tolerated};
use warren_vocabulary::ipam::PodAddresses;

pub(crate) const COMPONENT: &str = "default-scheduler";
/// One pod of the same owner on a node weighs as much as this part of a million of load.
const SPREAD_WEIGHT: i64 = 100_000;
/// A taint with effect PreferNoSchedule weighs more than any load.
const AVOID_WEIGHT: i64 = 2_000_000;
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

/// A node with what is on it, and what this pass puts there.
struct Candidate<'a> {
    node: Typed<'a, Node>,
    alive: bool,
    info: Cow<'a, NodeInfo>,
    /// Looked for when they are asked for.
    addresses: Option<PodAddresses>,
}

impl Candidate<'_> {
    /// Lower is better.
    fn cost(&self, pod: &PodView<'_>, request: &PodRequest) -> i64 {
        self.info
            .assumed
            .load(&request.assumed, &self.info.allocatable)
            .saturating_add(self.info.siblings(request.owner.as_ref()).saturating_mul(SPREAD_WEIGHT))
            .saturating_add(filter::avoided(&self.node, pod).saturating_mul(AVOID_WEIGHT))
    }
}

/// Pods that ask for the same.
struct Class<'a> {
    pod: PodView<'a>,
    request: PodRequest,
    /// Nodes that may run them, by a cost that is not more than the true one.
    candidates: BinaryHeap<Reverse<(i64, usize)>>,
    /// After how many bindings they were refused, and why.
    refused: Option<(usize, String)>,
}

impl Class<'_> {
    fn asks_for_the_same(&self, pod: &PodView<'_>, request: &PodRequest) -> bool {
        let (Some(one), Some(other)) = (&self.pod.spec, &pod.spec) else { return false };
        self.request.requested == request.requested
            && self.request.assumed == request.assumed
            && self.request.ports == request.ports
            && one.node_selector == other.node_selector
            && one.affinity == other.affinity
            && one.tolerations == other.tolerations
            && host_network(&self.pod) == host_network(pod)
    }
}

/// What one pass knows of the nodes, and has bound.
struct Pass<'v, 'a> {
    view: &'v View<'a>,
    candidates: Vec<Candidate<'a>>,
    by_node: BTreeMap<&'a str, usize>,
    /// By the uid of the owner that controls them.
    classes: BTreeMap<Option<Arc<str>>, Vec<Class<'a>>>,
    /// Addresses of pods that are set aside.
    set_aside: BTreeSet<Ipv4Addr>,
    bindings: usize,
    looks: usize,
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    let pods = keys.iter().filter_map(|key| view.typed::<Pod>(key));
    let mut queue: BTreeSet<Rank> = pods.filter(wants_binding).map(|pod| rank(&pod)).collect();
    if queue.is_empty() {
        return;
    }
    let mut pass = Pass::new(view);
    let mut left = false;
    while let Some(next) = queue.pop_first() {
        let Some(pod) = view.typed::<Pod>(&next.3) else { continue };
        let before = pass.bindings;
        outcome.unit(view, &next.3, |outcome| {
            if pass.is_exhausted() {
                left = true;
                outcome.reopen();
            } else {
                pass.give(&pod, outcome);
            }
        });
        if before == 0 && pass.bindings > 0 {
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
        let mut candidates = Vec::new();
        for info in view.indexes.node_infos.values() {
            let node = info.node.as_ref().and_then(|object| Typed::<Node>::of(object).ok());
            let Some(node) = node.filter(|node| !node.deleting()) else { continue };
            let alive = view.health(node.name()) == Health::Alive;
            candidates.push(Candidate { node, alive, info: Cow::Borrowed(info), addresses: None });
        }
        let by_node =
            candidates.iter().enumerate().map(|(index, candidate)| (&*candidate.node.object.key.name, index));
        let set_aside = view.world.quarantined.iter().filter_map(|object| object::pod_address(object));
        Self {
            view,
            by_node: by_node.collect(),
            candidates,
            classes: BTreeMap::new(),
            set_aside: set_aside.collect(),
            bindings: 0,
            looks: 0,
        }
    }

    fn is_exhausted(&self) -> bool {
        self.bindings >= BINDINGS || self.looks >= LOOKS
    }

    fn give(&mut self, pod: &PodView<'a>, outcome: &mut Outcome<'_>) {
        let request = PodRequest::new(pod);
        if let Some(node) = pod.node() {
            if let Some(index) = self.by_node.get(node).copied() {
                self.bind(index, pod, &request, outcome);
            }
            return;
        }
        if let Some(reason) = claims::obstacle(self.view, pod) {
            let message = unavailable(self.candidates.len(), &reason);
            return say_refused(self.view, pod, &message, outcome);
        }
        let mut classes = self.classes.remove(&request.owner).unwrap_or_default();
        let known = classes.iter().position(|class| class.asks_for_the_same(pod, &request));
        let mut class = match known {
            Some(index) => classes.swap_remove(index),
            None => self.class(pod, &request),
        };
        match self.best(&mut class, pod, &request) {
            Some(index) => {
                self.bind(index, pod, &request, outcome);
                class.candidates.push(Reverse((self.cost(index, pod, &request), index)));
            }
            None => self.refuse(&mut class, pod, &request, outcome),
        }
        classes.truncate(CLASSES);
        classes.insert(0, class);
        self.classes.insert(request.owner, classes);
    }

    fn cost(&self, index: usize, pod: &PodView<'_>, request: &PodRequest) -> i64 {
        self.candidates.get(index).map_or(i64::MAX, |candidate| candidate.cost(pod, request))
    }

    /// The places that have to be looked at: one that the pod asks for by its name, or all.
    fn eligible(&self, pod: &PodView<'_>) -> std::ops::Range<usize> {
        match pod.spec.as_ref().and_then(pinned) {
            Some(name) => self.by_node.get(name).map_or(0..0, |index| *index..index.saturating_add(1)),
            None => 0..self.candidates.len(),
        }
    }

    /// Looks through the nodes for those that may run such pods.
    fn class(&mut self, pod: &PodView<'a>, request: &PodRequest) -> Class<'a> {
        let range = self.eligible(pod);
        self.looks = self.looks.saturating_add(range.len());
        let candidates = self.candidates.iter().enumerate().take(range.end).skip(range.start);
        let fitting = candidates.filter(|(_, candidate)| filter::fits(candidate, pod, request));
        let candidates =
            fitting.map(|(index, candidate)| Reverse((candidate.cost(pod, request), index))).collect();
        Class { pod: pod.clone(), request: request.clone(), candidates, refused: None }
    }

    /// The node with the lowest cost, and of several the first.
    fn best(&mut self, class: &mut Class<'_>, pod: &PodView<'_>, request: &PodRequest) -> Option<usize> {
        while let Some(Reverse((noted, index))) = class.candidates.pop() {
            let candidate = self.candidates.get(index)?;
            if !filter::fits(candidate, pod, request)
                || !(host_network(pod) || self.next_address(index).is_some())
            {
                continue;
            }
            let cost = self.cost(index, pod, request);
            if cost == noted {
                return Some(index);
            }
            class.candidates.push(Reverse((cost, index)));
        }
        None
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

    fn bind(&mut self, index: usize, pod: &PodView<'_>, request: &PodRequest, outcome: &mut Outcome<'_>) {
        let next = if host_network(pod) { None } else { self.next_address(index) };
        let Some(candidate) = self.candidates.get_mut(index) else { return };
        let host = internal_address(&candidate.node);
        let Some(address) = (if host_network(pod) { host } else { next }) else {
            let message = format!("node {} has no free address for it", candidate.node.name());
            outcome.problem(pod.object.key.clone(), message);
            await_addresses(self.view, outcome);
            return;
        };
        let node = candidate.node.name();
        let value = bound(pod, node, address, host, self.view.now);
        let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        if pod.node().is_none() {
            let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
            tell(self.view, &mut transaction, pod, "Scheduled", message);
        }
        // A pod whose binding was refused takes nothing while it waits.
        if !outcome.step(format!("bind {} to {node} as {address}", pod.object.key), transaction) {
            return;
        }
        if pod.node().is_none() {
            candidate.info.to_mut().add_pod(&request.at(address));
        } else {
            candidate.info.to_mut().addresses.insert(address, 1);
        }
        if let Some(addresses) = &mut candidate.addresses {
            addresses.take(address);
        }
        self.bindings = self.bindings.saturating_add(1);
    }

    fn refuse(
        &mut self,
        class: &mut Class<'_>,
        pod: &PodView<'_>,
        request: &PodRequest,
        outcome: &mut Outcome<'_>,
    ) {
        let message = match class.refused.take() {
            Some((bindings, message)) if bindings == self.bindings => message,
            _ => self.verdict(pod, request),
        };
        if self.candidates.is_empty() || message.contains(NO_ADDRESS) {
            await_addresses(self.view, outcome);
        }
        say_refused(self.view, pod, &message, outcome);
        class.refused = Some((self.bindings, message));
    }

    /// Why each node refuses a pod.
    fn verdict(&mut self, pod: &PodView<'_>, request: &PodRequest) -> String {
        let (nodes, range) = (self.candidates.len(), self.eligible(pod));
        self.looks = self.looks.saturating_add(range.len());
        let mut verdicts = BTreeMap::<String, usize>::new();
        if range.len() < nodes {
            verdicts.insert(NOT_ASKED_FOR.to_owned(), nodes.saturating_sub(range.len()));
        }
        for index in range {
            let Some(candidate) = self.candidates.get(index) else { break };
            let mut reasons = filter::obstacles(candidate, pod, request);
            if reasons.is_empty() && !host_network(pod) && self.next_address(index).is_none() {
                reasons.push(NO_ADDRESS.to_owned());
            }
            for reason in reasons {
                *verdicts.entry(reason).or_default() += 1;
            }
        }
        let mut reasons: Vec<_> =
            verdicts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        unavailable(nodes, &reasons.join(", "))
    }
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

/// The pod with its node and address.
fn bound(
    pod: &PodView<'_>,
    node: &str,
    address: Ipv4Addr,
    host: Option<Ipv4Addr>,
    now: jiff::Timestamp,
) -> Value {
    let mut value = pod.object.value.clone();
    object::object_at(&mut value, &["spec"]).insert("nodeName".into(), node.into());
    let status = object::object_at(&mut value, &["status"]);
    status.insert("podIP".into(), json!(address));
    status.insert("podIPs".into(), json!([{ "ip": address }]));
    if let Some(host) = host {
        status.insert("hostIP".into(), json!(host));
        status.insert("hostIPs".into(), json!([{ "ip": host }]));
    }
    status.entry("phase").or_insert_with(|| "Pending".into());
    let scheduled = Condition { kind: "PodScheduled", status: "True", reason: "", message: "" };
    object::set_condition(&mut value, &scheduled, now);
    value
}

fn say_refused(view: &View<'_>, pod: &PodView<'_>, message: &str, outcome: &mut Outcome<'_>) {
    let refused = object::edited_within(pod.object, &["status"], |value| {
        let wanted = Condition { kind: "PodScheduled", status: "False", reason: "Unschedulable", message };
        object::set_condition(value, &wanted, view.now);
        object::object_at(value, &["status"]).entry("phase").or_insert_with(|| Value::from("Pending"));
    });
    let Some(value) = refused else { return };
    let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
    tell(view, &mut transaction, pod, "FailedScheduling", message.to_owned());
    outcome.step(format!("{} fits no node", pod.object.key), transaction);
}

fn tell(view: &View<'_>, transaction: &mut Transaction, pod: &PodView<'_>, reason: &str, message: String) {
    let (about, warning) = (pod.object, reason == "FailedScheduling");
    events::record(view, transaction, &Event { about, component: COMPONENT, reason, message, warning });
}
