//! A node as far as pods need it: what it offers, and who is on it.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use warren_proto::vocabulary::PodCidr;
use warren_state::Object;

use super::{
    amounts::Amounts,
    ports::{self, HostPort, TakenPorts},
};
use crate::view::PodView;

/// A node as far as pods need it: what it offers, and who is on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeInfo {
    /// The node, if it is there and can be read.
    pub(crate) node: Option<Arc<Object>>,
    /// The addresses of its pods, if its member is there.
    pub(crate) cidr: Option<PodCidr>,
    pub(crate) allocatable: Amounts,
    pub(crate) used: Amounts,
    /// The same, with an assumption for pods that request nothing; for scores.
    pub(crate) assumed: Amounts,
    /// Addresses that its pods have, and how many have each. One that has ended needs nothing any more, but its address
    /// rests only when it is gone.
    pub(crate) addresses: BTreeMap<Ipv4Addr, usize>,
    /// What the same pods use, by their priorities.
    pub(crate) by_priority: BTreeMap<i32, Amounts>,
    /// Ports of the machine that they take.
    pub(crate) ports: TakenPorts,
    pods: usize,
}

impl NodeInfo {
    pub(crate) fn is_empty(&self) -> bool {
        self.node.is_none() && self.cidr.is_none() && self.pods == 0
    }

    /// A pod is on the node.
    pub(crate) fn add_pod(&mut self, request: &PodRequest) {
        self.pods = self.pods.saturating_add(1);
        if let Some(address) = request.address {
            *self.addresses.entry(address).or_default() += 1;
        }
        if request.ended {
            return;
        }
        self.used.add(&request.requested);
        self.assumed.add(&request.assumed);
        self.by_priority.entry(request.priority).or_default().add(&request.requested);
        self.ports.take(&request.ports);
    }

    /// A pod is on the node no longer.
    pub(crate) fn remove_pod(&mut self, request: &PodRequest) {
        self.pods = self.pods.saturating_sub(1);
        if let Some(address) = request.address {
            super::count_down(&mut self.addresses, &address);
        }
        if request.ended {
            return;
        }
        self.used.take_away(&request.requested);
        self.assumed.take_away(&request.assumed);
        if let Some(used) = self.by_priority.get_mut(&request.priority) {
            used.take_away(&request.requested);
            if *used == Amounts::default() {
                self.by_priority.remove(&request.priority);
            }
        }
        self.ports.release(&request.ports);
    }
}

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodRequest {
    pub(crate) requested: Amounts,
    pub(crate) assumed: Amounts,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) priority: i32,
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) address: Option<Ipv4Addr>,
    /// It counts as one of its owner's.
    active: bool,
    ended: bool,
}

impl PodRequest {
    pub(crate) fn new(pod: &PodView<'_>) -> Self {
        let requested = pod.spec.as_ref().map(Amounts::requested).unwrap_or_default();
        Self {
            assumed: requested.assumed(),
            requested,
            ports: pod.spec.as_ref().map(ports::of).unwrap_or_default(),
            priority: pod.priority(),
            owner: pod.controller_uid().map(Arc::from),
            address: pod.address(),
            active: pod.active(),
            ended: pod.terminal(),
        }
    }

    /// The same pod with an address.
    pub(crate) fn at(&self, address: Ipv4Addr) -> Self {
        Self { address: Some(address), ..self.clone() }
    }
}
