//! Pods that ask for the same: the nodes are looked through once for all of them.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{host_network, preempt::Prospects};
use crate::{indexes::PodRequest, view::PodView};

pub(super) struct Class<'a> {
    pub(super) pod: PodView<'a>,
    pub(super) request: PodRequest,
    /// Nodes that may run them, by a cost that is not more than the true one.
    pub(super) candidates: BinaryHeap<Reverse<(i64, usize)>>,
    /// After how many changes they were refused, and why.
    pub(super) refused: Option<(usize, String)>,
    /// Where others can make room for them.
    pub(super) prospects: Option<Prospects>,
}

impl Class<'_> {
    pub(super) fn asks_for_the_same(&self, pod: &PodView<'_>, request: &PodRequest) -> bool {
        let (Some(one), Some(other)) = (&self.pod.spec, &pod.spec) else { return false };
        self.request.requested == request.requested
            && self.request.assumed == request.assumed
            && self.request.ports == request.ports
            && self.request.priority == request.priority
            && one.node_selector == other.node_selector
            && one.affinity == other.affinity
            && one.tolerations == other.tolerations
            && host_network(&self.pod) == host_network(pod)
    }
}
