//! What the planners look things up in: indexes over the state that advance by what has changed.
//!
//! An object's *facts* say in which indexes it stands, and are a function of the object alone. So a difference of two
//! states is applied by taking out the facts of what was and putting in those of what is; a start is the difference
//! from nothing.

mod amounts;
mod facts;
mod node_info;
mod ports;
mod terms;
mod used;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use jiff::Timestamp;
use warren_objects::Registries;
use warren_state::{Difference, Key, Object};

use crate::{Problem, garbage::circles, memory::lowest, object, outcome::Outcome, selector::Labels};
pub(crate) use amounts::Amounts;
use facts::{Fact, Facts};
pub(crate) use facts::{Rank, awaits, is_gated, owners_matter, pair, rank, wants_binding};
pub(crate) use node_info::{NodeInfo, PodRequest};
pub(crate) use ports::TakenPorts;
pub(crate) use terms::StandingTerms;
pub(crate) use used::{Counted, Used};
use warren_vocabulary::{guard, guard::Failure};

/// What objects are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// Pods, by the uid of what controls them.
    PodController,
    /// Pods, by node.
    PodNode,
    /// Pods, by namespace and label.
    PodLabel,
    /// Pods that nothing controls, by namespace.
    OrphanNamespace,
    /// Pods that nothing controls, by namespace and label.
    OrphanLabel,
    /// Pods that are being deleted and wait for being stopped, by namespace.
    Stopping,
    /// Replica sets, by the uid of what controls them.
    SetController,
    /// Replica sets that nothing controls, by namespace.
    SetNamespace,
    /// Sets of pods of all kinds, by namespace and one label that they select; without a label, if they select by other means.
    SetSelector,
    /// Jobs, by the uid of what controls them.
    JobController,
    /// Controller revisions, by the uid of what controls them.
    RevisionController,
    /// Controller revisions that nothing controls, by namespace.
    RevisionNamespace,
    /// Autoscalers, by what they scale.
    ScaleTarget,
    /// Deployments, by uid.
    Deployment,
    /// Disruption budgets, by namespace and one label that they select; without a label, if they select by other means.
    BudgetSelector,
    /// Services, by namespace and one label that they select.
    ServiceSelector,
    /// Services, by an address that they hold.
    ServiceAddress,
    /// The slices that are ours to write, by namespace and service.
    ServiceSlice,
    /// Slices that mirror Endpoints, by namespace and service.
    MirrorSlice,
    /// The slices that are ours to write, by the uid of a pod that they mention.
    Mention,
    /// Everything, by uid.
    Uid,
    /// Everything that has owners, by the uid of each.
    Owner,
    /// What is deleted in the foreground.
    Foreground,
    /// What says that planning for it failed.
    Failed,
    /// Namespaces that go away, by name.
    Terminating,
    /// Cluster roles that are made of others.
    Gathering,
    /// Nodes whose container engine does not answer, by name.
    Engineless,
    /// Pods that are being deleted and have not ended, by namespace.
    Ending,
}

/// An object's place in an index: what it is grouped by, the group, its key.
type IndexKey = (By, Arc<str>, Key);

/// The indexes.
#[derive(Default)]
pub(crate) struct Indexes {
    groups: BTreeMap<IndexKey, Arc<Object>>,
    /// What each node offers and who is on it.
    pub(crate) node_infos: BTreeMap<Arc<str>, NodeInfo>,
    /// Pods that wait for others to go from a node, by node, and what is kept free for them.
    nominated: BTreeMap<Arc<str>, BTreeMap<Key, PodRequest>>,
    /// What the pods on nodes want of pods that come.
    pub(crate) terms: StandingTerms,
    /// Nodes that have an image, by its name, and how many bytes it has there.
    pub(crate) images: BTreeMap<Arc<str>, BTreeMap<Arc<str>, i64>>,
    /// Pods that want a node or an address, in the order in which they get one.
    pub(crate) waiting: BTreeMap<Rank, Arc<Object>>,
    /// What the objects of each namespace count for in quotas.
    pub(crate) used: Used,
    /// When events expire.
    pub(crate) expiries: BTreeSet<(Timestamp, Key)>,
    /// Addresses that slices mention, and how often.
    pub(crate) mentioned: BTreeMap<Ipv4Addr, usize>,
    /// The kinds of the state that was last planned for.
    pub(crate) registries: Arc<Registries>,
    /// How many objects there are of each resource.
    resources: BTreeMap<Arc<str>, usize>,
    /// How many nodes can be read.
    pub(crate) nodes: usize,
    /// Objects that cannot be read, and why.
    malformed: BTreeMap<Key, Malformed>,
    /// By uid: who is deleted in the foreground and waits, in the end, for himself.
    circles: BTreeSet<Arc<str>>,
    /// What a change of may have changed the circles.
    circles_are_old: bool,
}

enum Malformed {
    Problem(Problem),
    Failure(Failure),
}

impl Indexes {
    /// Takes out what an object was, and puts in what it is.
    pub(crate) fn apply(&mut self, difference: &Difference, outcome: &mut Outcome<'_>) {
        if let Some(previous) = &difference.previous {
            self.take_out(previous);
        }
        if let Some(current) = &difference.current {
            outcome.note(&current.key);
            self.put_in(current);
        }
    }

    fn take_out(&mut self, object: &Arc<Object>) {
        self.malformed.remove(&object.key);
        count_down(&mut self.resources, &object.key.resource);
        for fact in facts_of(object).all {
            match fact {
                Fact::Group(by, group) => drop(self.groups.remove(&(by, group, object.key.clone()))),
                Fact::Waiting(rank) => drop(self.waiting.remove(&rank)),
                Fact::Expiry(at) => drop(self.expiries.remove(&(at, object.key.clone()))),
                Fact::Mentioned(address) => count_down(&mut self.mentioned, &address),
                Fact::Node(_) => {
                    self.nodes = self.nodes.saturating_sub(1);
                    self.info(&object.key.name, |info| info.node = None);
                }
                Fact::Member(_) => self.info(&object.key.name, |info| info.cidr = None),
                Fact::Bound(node, request) => self.info(&node, |info| info.remove_pod(&request)),
                Fact::Nominated(node, _) => self.forget_nominated(&node, &object.key),
                Fact::Wants(node, term) => self.terms.remove(&node, &term),
                Fact::Image(name, _) => self.forget_image(&name, &object.key.name),
                Fact::Circle => self.circles_are_old = true,
                Fact::Counted(counted) => self.used.remove(&object.key.namespace, &counted),
            }
        }
    }

    fn put_in(&mut self, object: &Arc<Object>) {
        *self.resources.entry(Arc::clone(&object.key.resource)).or_default() += 1;
        let facts = facts_of(object);
        if let Some(malformed) = facts.malformed {
            self.malformed.insert(object.key.clone(), malformed);
        }
        for fact in facts.all {
            match fact {
                Fact::Group(by, group) => {
                    drop(self.groups.insert((by, group, object.key.clone()), Arc::clone(object)))
                }
                Fact::Waiting(rank) => drop(self.waiting.insert(rank, Arc::clone(object))),
                Fact::Expiry(at) => drop(self.expiries.insert((at, object.key.clone()))),
                Fact::Mentioned(address) => *self.mentioned.entry(address).or_default() += 1,
                Fact::Node(offer) => {
                    self.nodes = self.nodes.saturating_add(1);
                    self.info(&object.key.name, |info| {
                        (info.node, info.allocatable) = (Some(Arc::clone(object)), offer);
                    });
                }
                Fact::Member(cidr) => self.info(&object.key.name, |info| info.cidr = Some(cidr)),
                Fact::Bound(node, request) => self.info(&node, |info| info.add_pod(&request)),
                Fact::Nominated(node, request) => {
                    self.nominated.entry(node).or_default().insert(object.key.clone(), *request);
                }
                Fact::Wants(node, term) => self.terms.add(&node, &term),
                Fact::Image(name, bytes) => {
                    self.images.entry(name).or_default().insert(Arc::clone(&object.key.name), bytes);
                }
                Fact::Circle => self.circles_are_old = true,
                Fact::Counted(counted) => self.used.add(&object.key.namespace, &counted),
            }
        }
    }

    fn info(&mut self, node: &Arc<str>, change: impl FnOnce(&mut NodeInfo)) {
        let info = self.node_infos.entry(Arc::clone(node)).or_default();
        change(info);
        if info.is_empty() {
            self.node_infos.remove(node);
        }
    }

    fn forget_nominated(&mut self, node: &Arc<str>, pod: &Key) {
        if let Some(pods) = self.nominated.get_mut(node) {
            pods.remove(pod);
            if pods.is_empty() {
                self.nominated.remove(node);
            }
        }
    }

    fn forget_image(&mut self, name: &Arc<str>, node: &Arc<str>) {
        if let Some(nodes) = self.images.get_mut(name) {
            nodes.remove(node);
            if nodes.is_empty() {
                self.images.remove(name);
            }
        }
    }

    /// Pods that wait for others to go from a node, and what is kept free for them.
    pub(crate) fn nominated(&self, node: &str) -> impl Iterator<Item = (&Key, &PodRequest)> {
        self.nominated.get(node).into_iter().flatten()
    }

    /// All objects of a group, by key.
    pub(crate) fn of<'v>(&'v self, by: By, group: &str) -> impl Iterator<Item = &'v Arc<Object>> + use<'v> {
        let group: Arc<str> = group.into();
        let first = (by, Arc::clone(&group), lowest());
        let range = self.groups.range(first..);
        range.take_while(move |((kind, of, _), _)| *kind == by && *of == group).map(|(_, object)| object)
    }

    /// Pods of a namespace that have a label, whatever its value.
    pub(crate) fn with_label<'v>(
        &'v self,
        namespace: &str,
        name: &str,
    ) -> impl Iterator<Item = &'v Arc<Object>> + use<'v> {
        let start = pair(namespace, name, "");
        let range = self.groups.range((By::PodLabel, Arc::from(&*start), lowest())..);
        range
            .take_while(move |((by, group, _), _)| *by == By::PodLabel && group.starts_with(&*start))
            .map(|(_, object)| object)
    }

    /// Whether a group has anybody.
    pub(crate) fn any(&self, by: By, group: &str) -> bool {
        self.of(by, group).next().is_some()
    }

    /// All objects of all groups of one kind.
    pub(crate) fn all(&self, by: By) -> impl Iterator<Item = &Arc<Object>> {
        let range = self.groups.range((by, Arc::from(""), lowest())..);
        range.take_while(move |((kind, ..), _)| *kind == by).map(|(_, object)| object)
    }

    /// The object of a uid. Of several, which only tests and restores make, the last.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Arc<Object>> {
        self.of(By::Uid, uid).last()
    }

    /// Objects of a namespace that stand, by one index, at all of the wanted labels, or may: the smallest group of
    /// those that the labels lead to.
    pub(crate) fn labelled<'v>(&'v self, by: By, namespace: &str, wanted: &Labels) -> Vec<&'v Arc<Object>> {
        let groups = wanted.iter().map(|(name, value)| pair(namespace, name, value));
        let mut members: Vec<_> = groups.map(|group| (self.of(by, &group), Vec::new())).collect();
        // Side by side: the first one that ends is the smallest.
        loop {
            for (rest, found) in &mut members {
                match rest.next() {
                    Some(object) => found.push(object),
                    None => return std::mem::take(found),
                }
            }
            if members.is_empty() {
                return Vec::new();
            }
        }
    }

    /// Which resources there are.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &Arc<str>> {
        self.resources.keys()
    }

    /// Whether a node of this name is there and can be read.
    pub(crate) fn has_node(&self, name: &str) -> bool {
        self.node_infos.get(name).is_some_and(|info| info.node.is_some())
    }

    /// What cannot be read.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.malformed.values().filter_map(|malformed| match malformed {
            Malformed::Problem(problem) => Some(problem),
            Malformed::Failure(_) => None,
        })
    }

    /// What we failed to read.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.malformed.values().filter_map(|malformed| match malformed {
            Malformed::Failure(failure) => Some(failure),
            Malformed::Problem(_) => None,
        })
    }

    /// Whether an object lies on a circle of owners that wait for each other.
    pub(crate) fn circles(&self, uid: &str) -> bool {
        self.circles.contains(uid)
    }

    /// Looks for circles again, if they may be others; the uids of who has come into one, or out.
    pub(crate) fn find_circles(&mut self) -> Vec<Arc<str>> {
        if !std::mem::take(&mut self.circles_are_old) {
            return Vec::new();
        }
        let found: BTreeSet<Arc<str>> = {
            let waits: circles::Waits<'_> = self
                .all(By::Foreground)
                .map(|object| {
                    let uid = object::uid(object);
                    let dependents = self.of(By::Owner, uid).filter(|object| object::blocks(object, uid));
                    (uid, dependents.map(|object| object::uid(object)).collect())
                })
                .collect();
            circles::of(&waits).into_iter().map(Arc::from).collect()
        };
        let changed = self.circles.symmetric_difference(&found).cloned().collect();
        self.circles = found;
        changed
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The facts of an object; of one that we fail on, none.
fn facts_of(object: &Arc<Object>) -> Facts {
    match guard::catch(|| facts::of(object)) {
        Ok(facts) => facts,
        Err(message) => {
            let failure = Failure { stage: STAGE, key: object.key.clone(), message };
            Facts { all: Vec::new(), malformed: Some(Malformed::Failure(failure)) }
        }
    }
}

/// What a failure is told to have happened in.
pub(crate) const STAGE: &str = "view";
