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
    /// What pods answered in the last minute: one of each gateway and each of its reports. They are compared by identity.
    pub windows: Vec<Arc<Answers>>,
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

/// What pods answered one gateway in one window, summed up by who made them ([`maker`]).
pub type Answers = BTreeMap<Key, Answered>;

/// What came of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// All that came to an end, the failed ones included.
    pub requests: u64,
    /// Answered with 5xx, or not answered by the pod's fault.
    pub failures: u64,
}

impl Answered {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let requests = self.requests.saturating_add(other.requests);
        Self { requests, failures: self.failures.saturating_add(other.failures) }
    }
}

/// No object is of it: the keys of [`Answers`] are to be mistaken for none.
const MAKERS: &str = "makers";
/// As many letters are behind the name of who made a pod, and a hyphen.
const ENDING: usize = 5;

/// What the answers of a pod are noted under: who made it, as far as its name says. A pod may be gone when its answers are
/// told. `None` where its name does not say it.
pub fn maker(namespace: &str, pod: &str) -> Option<Key> {
    let (name, ending) = pod.rsplit_once('-')?;
    (ending.len() == ENDING && !name.is_empty()).then(|| maker_of(namespace, name))
}

/// The same of the maker's own name. What is longer than the beginning of a pod's name can be has no answers.
pub(crate) fn maker_of(namespace: &str, name: &str) -> Key {
    Key::new(MAKERS, namespace, name)
}

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
