//! Which node runs a pod, and which address has it there?
//!
//! Filter: nodes that can run the pod. Score: the node that is least loaded in its most loaded dimension
//! afterwards, with the pods of one owner spread. Node, address and condition are written in one step.
//! The pods of one pass see each other's places.

mod filter;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use warren_proto::vocabulary::PodCidr;
use warren_state::Transaction;

use crate::{
    Health, World, endpoints,
    events::{self, Event},
    object::{self, Condition},
    outcome::Outcome,
    view::{PodView, Typed, View},
};
use requests::Amounts;
use warren_vocabulary::{ipam, member::Member, resources::MEMBERS};

const COMPONENT: &str = "default-scheduler";
/// One pod of the same owner on a node weighs as much as this part of a million of load.
const SPREAD_WEIGHT: i64 = 100_000;
/// A taint with effect PreferNoSchedule weighs more than any load.
const AVOID_WEIGHT: i64 = 2_000_000;

/// A node with what is already on it.
struct Place<'a> {
    node: &'a Typed<'a, Node>,
    cidr: Option<PodCidr>,
    alive: bool,
    allocatable: Amounts,
    used: Amounts,
    /// The same, with an assumption for pods that request nothing; for scores.
    assumed: Amounts,
    addresses: BTreeSet<Ipv4Addr>,
    /// Pods by the uid of the owner that controls them.
    owners: BTreeMap<String, i64>,
    /// The address that the next pod gets.
    next: Option<Ipv4Addr>,
}

/// A pod and what it asks for.
struct Wish<'a> {
    pod: &'a PodView<'a>,
    requested: Amounts,
    assumed: Amounts,
    owner: Option<&'a str>,
}

impl<'a> Wish<'a> {
    fn new(pod: &'a PodView<'a>) -> Self {
        let (requested, assumed) = (Amounts::requested(pod), Amounts::assumed(pod));
        Self { pod, requested, assumed, owner: pod.controller_uid() }
    }
}

impl Place<'_> {
    fn take(&mut self, wish: &Wish<'_>) {
        self.used.add(&wish.requested);
        self.assumed.add(&wish.assumed);
        if let (true, Some(owner)) = (wish.pod.active(), wish.owner) {
            let count = self.owners.entry(owner.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Lower is better.
    fn cost(&self, wish: &Wish<'_>) -> i64 {
        let mut after = self.assumed.clone();
        after.add(&wish.assumed);
        let siblings = wish.owner.and_then(|owner| self.owners.get(owner)).copied().unwrap_or(0);
        after
            .load(&self.allocatable)
            .saturating_add(siblings.saturating_mul(SPREAD_WEIGHT))
            .saturating_add(filter::avoided(self.node, wish.pod).saturating_mul(AVOID_WEIGHT))
    }

    /// Finds the address of the next pod.
    fn look_ahead(&mut self, view: &View<'_>) {
        let World { released, acknowledged, released_since, .. } = view.world;
        // Until everyone has applied what was before, no address is known to be free of an earlier pod.
        let known = acknowledged >= released_since;
        self.next = self
            .cidr
            .filter(|_| known)
            .and_then(|cidr| ipam::next_pod_address(cidr, &self.addresses, released, *acknowledged));
    }
}

pub(crate) fn plan(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let mut waiting: Vec<_> = view.pods.iter().filter(|pod| wants_place(pod)).collect();
    if waiting.is_empty() {
        return;
    }
    let mut places = places(view, outcome);
    let priority = |pod: &PodView<'_>| pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    waiting.sort_by_key(|pod| {
        // Bound by hand and only in want of an address first; then by rank, then by age.
        (pod.node().is_none(), -i64::from(priority(pod)), object::created_at(pod.object), &pod.object.key)
    });
    for pod in waiting {
        outcome.each(pod.object, |outcome| {
            let wish = Wish::new(pod);
            match pod.node() {
                Some(_) => give_address(view, &mut places, &wish, outcome),
                None => place(view, &mut places, &wish, outcome),
            }
        });
    }
}

fn wants_place(pod: &PodView<'_>) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name.is_empty() || name == COMPONENT);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    pod.active() && (if pod.node().is_none() { ours && !gated } else { pod.address().is_none() })
}

fn places<'a>(view: &'a View<'a>, outcome: &mut Outcome<'_>) -> Vec<Place<'a>> {
    let mut slices = BTreeMap::new();
    for object in view.world.snapshot.list(MEMBERS) {
        match Member::from_object(object) {
            Ok(member) => drop(slices.insert(member.name, member.pod_cidr)),
            Err(error) => outcome.problem(object.key.clone(), format!("stored member is malformed: {error}")),
        }
    }
    let mut places: BTreeMap<&str, Place<'a>> = view
        .nodes
        .iter()
        .filter(|node| !node.deleting())
        .map(|node| {
            let place = Place {
                node,
                cidr: slices.get(node.name()).copied(),
                alive: view.health(node.name()) == Health::Alive,
                allocatable: Amounts::allocatable(node),
                used: Amounts::default(),
                assumed: Amounts::default(),
                addresses: BTreeSet::new(),
                owners: BTreeMap::new(),
                next: None,
            };
            (node.name(), place)
        })
        .collect();
    for pod in &view.pods {
        let Some(place) = pod.node().and_then(|node| places.get_mut(node)) else { continue };
        // One that has ended needs nothing any more, but its address rests only when it is gone.
        place.addresses.extend(pod.address());
        if !pod.terminal() {
            outcome.each(pod.object, |_| place.take(&Wish::new(pod)));
        }
    }
    let set_aside = view.world.quarantined.iter().filter_map(|object| object::pod_address(object));
    let set_aside: Vec<Ipv4Addr> = set_aside.collect();
    let mut places: Vec<_> = places.into_values().collect();
    // An address that a slice still mentions is still sent to, though its pod is gone.
    let mentioned = endpoints::addresses(view);
    for place in &mut places {
        let cidr = place.cidr;
        place.addresses.extend(
            mentioned
                .iter()
                .chain(&set_aside)
                .filter(|a| cidr.is_some_and(|cidr| cidr.network().contains(*a))),
        );
    }
    places.iter_mut().for_each(|place| place.look_ahead(view));
    places
}

fn place(view: &View<'_>, places: &mut [Place<'_>], wish: &Wish<'_>, outcome: &mut Outcome<'_>) {
    let pod = wish.pod;
    let mut verdicts = BTreeMap::<String, usize>::new();
    let mut best: Option<(i64, usize)> = None;
    for (index, place) in places.iter().enumerate() {
        let mut reasons = filter::obstacles(place, wish);
        if reasons.is_empty() && !host_network(pod) && place.next.is_none() {
            reasons.push("node(s) had no free pod address".to_owned());
        }
        if reasons.is_empty() {
            let cost = place.cost(wish);
            if best.is_none_or(|(lowest, _)| cost < lowest) {
                best = Some((cost, index));
            }
        }
        for reason in reasons {
            *verdicts.entry(reason).or_default() += 1;
        }
    }
    match best {
        Some((_, index)) => bind(view, &mut places[index], wish, outcome),
        None => refuse(view, places.len(), &verdicts, pod, outcome),
    }
}

fn give_address(view: &View<'_>, places: &mut [Place<'_>], wish: &Wish<'_>, outcome: &mut Outcome<'_>) {
    if let Some(place) = places.iter_mut().find(|place| wish.pod.node() == Some(place.node.name())) {
        bind(view, place, wish, outcome);
    }
}

fn host_network(pod: &PodView<'_>) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

fn internal_address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP")?.address.parse().ok()
}

fn bind(view: &View<'_>, place: &mut Place<'_>, wish: &Wish<'_>, outcome: &mut Outcome<'_>) {
    let pod = wish.pod;
    let host = internal_address(place.node);
    let address = if host_network(pod) { host } else { place.next };
    let Some(address) = address else {
        let message = format!("node {} has no free address for it", place.node.name());
        outcome.problem(pod.object.key.clone(), message);
        return;
    };
    let node = place.node.name();
    let bound = object::edited(pod.object, |value| {
        object::object_at(value, &["spec"]).insert("nodeName".into(), node.into());
        let status = object::object_at(value, &["status"]);
        status.insert("podIP".into(), json!(address));
        status.insert("podIPs".into(), json!([{ "ip": address }]));
        if let Some(host) = host {
            status.insert("hostIP".into(), json!(host));
            status.insert("hostIPs".into(), json!([{ "ip": host }]));
        }
        status.entry("phase").or_insert_with(|| "Pending".into());
        let scheduled = Condition { kind: "PodScheduled", status: "True", reason: "", message: "" };
        object::set_condition(value, &scheduled, view.now);
    });
    let Some(value) = bound else { return };
    let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
    if pod.node().is_none() {
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        tell(view, &mut transaction, pod, "Scheduled", message);
        place.take(wish);
    }
    outcome.step(format!("bind {} to {node} as {address}", pod.object.key), transaction);
    place.addresses.insert(address);
    place.look_ahead(view);
}

fn refuse(
    view: &View<'_>,
    nodes: usize,
    verdicts: &BTreeMap<String, usize>,
    pod: &PodView<'_>,
    outcome: &mut Outcome<'_>,
) {
    let mut reasons: Vec<_> = verdicts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    let message = match nodes {
        0 => "no nodes available to schedule pods".to_owned(),
        _ => format!("0/{nodes} nodes are available: {}.", reasons.join(", ")),
    };
    let refused = object::edited(pod.object, |value| {
        let wanted =
            Condition { kind: "PodScheduled", status: "False", reason: "Unschedulable", message: &message };
        object::set_condition(value, &wanted, view.now);
        object::object_at(value, &["status"]).entry("phase").or_insert_with(|| Value::from("Pending"));
    });
    let Some(value) = refused else { return };
    let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
    tell(view, &mut transaction, pod, "FailedScheduling", message);
    outcome.step(format!("{} fits no node", pod.object.key), transaction);
}

fn tell(view: &View<'_>, transaction: &mut Transaction, pod: &PodView<'_>, reason: &str, message: String) {
    let (about, warning) = (pod.object, reason == "FailedScheduling");
    events::record(view, transaction, &Event { about, component: COMPONENT, reason, message, warning });
}
