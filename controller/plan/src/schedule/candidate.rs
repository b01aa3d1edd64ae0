//! A node as one pass sees it: with what the pass has put there, and what is kept free for pods that others make room for.

use std::{borrow::Cow, collections::BTreeSet};

use k8s_openapi::api::core::v1::Node;
use warren_state::Key;
use warren_vocabulary::ipam::PodAddresses;

use crate::{
    Health,
    indexes::{Amounts, NodeInfo, PodRequest, TakenPorts},
    object,
    view::{Typed, View},
};

pub(super) struct Candidate<'a> {
    pub(super) node: Typed<'a, Node>,
    pub(super) info: Cow<'a, NodeInfo>,
    /// It answers, and says that it can run pods.
    pub(super) ready: bool,
    /// Nothing about the node itself keeps any pod away.
    pub(super) plain: bool,
    pub(super) tainted: bool,
    /// Looked for when they are asked for.
    pub(super) addresses: Option<PodAddresses>,
    /// Who waits for others to go from here, and what for.
    pub(super) awaited: Vec<(Key, PodRequest)>,
    /// Pods that somebody else put here, and that this pass has given an address.
    pub(super) let_in: BTreeSet<Key>,
}

/// What is taken on a node as far as one pod is concerned.
pub(super) struct Taken<'c> {
    pub(super) amounts: Cow<'c, Amounts>,
    pub(super) ports: Cow<'c, TakenPorts>,
}

impl<'a> Candidate<'a> {
    /// All nodes that are not on their way out, by name.
    pub(super) fn all(view: &View<'a>) -> Vec<Self> {
        let infos = view.indexes.node_infos.values();
        infos.filter_map(|info| Self::new(view, info)).collect()
    }

    fn new(view: &View<'a>, info: &'a NodeInfo) -> Option<Self> {
        let node = Typed::<Node>::of(info.node.as_ref()?).ok().filter(|node| !node.deleting())?;
        let says_so =
            object::condition(&node.object.value, "Ready").is_some_and(|ready| ready["status"] == "True");
        let ready = says_so && view.health(node.name()) == Health::Alive;
        let spec = node.spec.as_ref();
        let tainted = spec.and_then(|spec| spec.taints.as_ref()).is_some_and(|taints| !taints.is_empty());
        let closed = spec.and_then(|spec| spec.unschedulable) == Some(true);
        let awaited =
            view.indexes.nominated(node.name()).map(|(key, request)| (key.clone(), request.clone()));
        Some(Self {
            awaited: awaited.collect(),
            tainted,
            plain: ready && !tainted && !closed && info.cidr.is_some(),
            node,
            info: Cow::Borrowed(info),
            ready,
            addresses: None,
            let_in: BTreeSet::new(),
        })
    }

    /// What all pods take that are assigned to the node.
    pub(super) fn used(&self) -> Taken<'_> {
        Taken { amounts: Cow::Borrowed(&self.info.used), ports: Cow::Borrowed(&self.info.ports) }
    }

    /// What is taken as far as a pod is concerned: what is used, and what is kept free for others that matter as much.
    pub(super) fn taken(&self, request: &PodRequest, pod: &Key) -> Taken<'_> {
        let mut taken = self.used();
        let others =
            self.awaited.iter().filter(|(key, other)| key != pod && other.priority >= request.priority);
        others.for_each(|(_, other)| taken.add(other));
        taken
    }

    /// Whether there is room for a pod.
    pub(super) fn has_room(&self, request: &PodRequest, pod: &Key) -> bool {
        self.taken(request, pod).leaves(request, &self.info)
    }
}

impl Taken<'_> {
    /// A pod is there, too.
    pub(super) fn add(&mut self, request: &PodRequest) {
        self.amounts.to_mut().add(&request.requested);
        self.ports.to_mut().take(&request.ports);
    }

    /// A pod is there no longer.
    pub(super) fn release(&mut self, request: &PodRequest) {
        self.amounts.to_mut().take_away(&request.requested);
        self.ports.to_mut().release(&request.ports);
    }

    /// Whether enough is left of what a node offers.
    pub(super) fn leaves(&self, request: &PodRequest, info: &NodeInfo) -> bool {
        request.requested.fits(&self.amounts, &info.allocatable) && !self.ports.clash(&request.ports)
    }
}
