//! What pods use and what services are asked, as members told last: an observation, which no store holds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use warren_proto::control::{PodUsage, UsageReport};
use warren_state::Key;

/// What fresh reports say.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// By node.
    pub nodes: BTreeMap<String, NodeUsage>,
    /// By gateway.
    pub gateways: BTreeMap<String, Arc<Traffic>>,
}

/// What the pods of one node use.
#[derive(Debug, Clone)]
pub struct NodeUsage {
    /// When it was measured, by the controller's clock: the end of the report's window.
    pub measured: Timestamp,
    /// Its pods are in the order of their uids, each once.
    pub report: Arc<UsageReport>,
}

/// Requests per second, in thousandths, by the Service that a gateway leads them to. One that it leads to and that is not
/// asked has 0; one that is not here is not led to.
pub type Traffic = BTreeMap<Key, u64>;

impl Usage {
    /// What a pod of a node uses.
    pub(crate) fn pod(&self, node: &str, uid: &str) -> Option<(&NodeUsage, &PodUsage)> {
        let of_node = self.nodes.get(node)?;
        let pods = &of_node.report.pods;
        let place = pods.binary_search_by(|pod| pod.uid.as_str().cmp(uid)).ok()?;
        Some((of_node, pods.get(place)?))
    }

    /// What all gateways together are asked for a Service; nothing when none leads to it.
    pub(crate) fn requests(&self, service: &Key) -> Option<u64> {
        let told = self.gateways.values().filter_map(|traffic| traffic.get(service));
        told.fold(None, |sum, rate| Some(sum.unwrap_or(0_u64).saturating_add(*rate)))
    }
}

impl NodeUsage {
    /// Over how long it was measured.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.report.window_milliseconds)
    }
}
