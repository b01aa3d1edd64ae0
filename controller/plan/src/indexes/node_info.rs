//! How much a pod asks for, how much a node has, and who is on it.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Node},
    apimachinery::pkg::api::resource::Quantity,
};

use warren_objects::quantity::{self, QuantityError};
use warren_proto::vocabulary::PodCidr;
use warren_state::Object;

use crate::view::PodView;

/// What a pod that requests nothing is assumed to need, as Kubernetes does: a tenth of a core, 200 MB.
const ASSUMED: [(&str, i128); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024)];
/// Full, in the unit of [`Amounts::load`].
const MILLION: i128 = 1_000_000;

/// Amounts by resource: thousandths of a core, else whole units. "pods" counts pods. One pod's amount fits 64 bits, so
/// that sums over all pods that there can be are exact, and what was added can be taken away again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts(BTreeMap<Arc<str>, i128>);

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
    /// Pods that count, by the uid of the owner that controls them.
    owners: BTreeMap<Arc<str>, i64>,
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
        if let Some(owner) = request.owner.as_ref().filter(|_| request.active) {
            *self.owners.entry(Arc::clone(owner)).or_default() += 1;
        }
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
        if let Some(owner) = request.owner.as_ref().filter(|_| request.active)
            && let Some(count) = self.owners.get_mut(owner)
        {
            *count = count.saturating_sub(1);
            if *count <= 0 {
                self.owners.remove(owner);
            }
        }
    }

    /// How many pods of an owner are here.
    pub(crate) fn siblings(&self, owner: Option<&Arc<str>>) -> i64 {
        owner.and_then(|owner| self.owners.get(owner)).copied().unwrap_or(0)
    }
}

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodRequest {
    pub(crate) requested: Amounts,
    pub(crate) assumed: Amounts,
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) address: Option<Ipv4Addr>,
    /// It counts as one of its owner's.
    active: bool,
    ended: bool,
}

impl PodRequest {
    /// The same pod with an address.
    pub(crate) fn at(&self, address: Ipv4Addr) -> Self {
        Self { address: Some(address), ..self.clone() }
    }
}

impl PodRequest {
    pub(crate) fn new(pod: &PodView<'_>) -> Self {
        Self {
            requested: Amounts::requested(pod),
            assumed: Amounts::assumed(pod),
            owner: pod.controller_uid().map(Arc::from),
            address: pod.address(),
            active: pod.active(),
            ended: pod.terminal(),
        }
    }
}

impl Amounts {
    /// What a node offers.
    pub(crate) fn allocatable(node: &Node) -> Self {
        let offered = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        Self(offered.into_iter().flatten().filter_map(|(name, quantity)| amount(name, quantity)).collect())
    }

    /// What a pod asks for: its containers together, or one init container that wants more.
    pub(crate) fn requested(pod: &PodView<'_>) -> Self {
        let mut total = Self::default();
        let Some(spec) = &pod.spec else { return total };
        let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        let initial = spec.init_containers.as_deref().unwrap_or_default();
        for container in spec.containers.iter().chain(initial.iter().filter(sidecar)) {
            total.add(&Self::of_container(container));
        }
        for container in initial.iter().filter(|container| !sidecar(container)) {
            for (name, wanted) in Self::of_container(container).0 {
                let entry = total.0.entry(name).or_default();
                *entry = wanted.max(*entry);
            }
        }
        let overhead = spec.overhead.iter().flatten().filter_map(|(name, quantity)| amount(name, quantity));
        total.add(&Self(overhead.collect()));
        total.0.insert("pods".into(), 1);
        total
    }

    /// What a pod asks for, or is assumed to need.
    pub(crate) fn assumed(pod: &PodView<'_>) -> Self {
        let mut total = Self::requested(pod);
        for (name, assumed) in ASSUMED {
            let entry = total.0.entry(name.into()).or_default();
            if *entry == 0 {
                *entry = assumed;
            }
        }
        total
    }

    fn of_container(container: &Container) -> Self {
        let resources = container.resources.as_ref();
        // A limit without a request is a request; defaulting says so on pods, and we do not depend on it.
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        let all = limits.into_iter().flatten().chain(requests.into_iter().flatten());
        Self(all.filter_map(|(name, quantity)| amount(name, quantity)).collect())
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(Arc::clone(name)).or_default();
            *entry = entry.saturating_add(*amount);
        }
    }

    /// Undoes [`Amounts::add`].
    fn take_away(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(Arc::clone(name)).or_default();
            *entry = entry.saturating_sub(*amount);
            if *entry == 0 {
                self.0.remove(name);
            }
        }
    }

    fn of(&self, name: &str) -> i128 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The resources of which `used` leaves too little for this request.
    pub(crate) fn lacking<'a>(
        &'a self,
        used: &'a Self,
        allocatable: &'a Self,
    ) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, wanted)| {
                **wanted > 0 && used.of(name).saturating_add(**wanted) > allocatable.of(name)
            })
            .map(|(name, _)| &**name)
    }

    /// The most loaded of cpu, memory and pods, in millionths of what there is, when this much more is used.
    pub(crate) fn load(&self, more: &Self, allocatable: &Self) -> i64 {
        let part = |name: &str| {
            let used = self.of(name).saturating_add(more.of(name)).max(0);
            i64::try_from(used.saturating_mul(MILLION) / allocatable.of(name).max(1)).unwrap_or(i64::MAX / 4)
        };
        ["cpu", "memory", "pods"].into_iter().map(part).max().unwrap_or(0).min(i64::MAX / 4)
    }
}

/// A quantity in the unit of its resource, rounded up. What is no quantity counts as none; more than can be counted
/// is the most that can be, which no node has.
fn amount(name: &str, quantity: &Quantity) -> Option<(Arc<str>, i128)> {
    let parse = if name == "cpu" { quantity::cpu_millis } else { quantity::bytes };
    let amount = match parse(&quantity.0) {
        Ok(amount) => amount.max(0),
        Err(QuantityError::Range) if quantity.0.starts_with('-') => 0,
        Err(QuantityError::Range) => i64::MAX,
        Err(_) => return None,
    };
    Some((name.into(), i128::from(amount)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(pairs: &[(&str, &str)]) -> Amounts {
        Amounts(pairs.iter().filter_map(|(name, text)| amount(name, &Quantity((*text).to_owned()))).collect())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let all = amounts(&[("cpu", "2"), ("memory", "4Gi"), ("pods", "110")]);
        let used = amounts(&[("cpu", "1500m"), ("memory", "1Gi"), ("pods", "3")]);
        let lacking = |wanted: &Amounts| wanted.lacking(&used, &all).map(str::to_owned).collect::<Vec<_>>();
        assert!(lacking(&amounts(&[("cpu", "500m"), ("memory", "3Gi"), ("pods", "1")])).is_empty());
        assert_eq!(lacking(&amounts(&[("cpu", "501m"), ("memory", "3073Mi")])), ["cpu", "memory"]);
        assert_eq!(lacking(&amounts(&[("example.com/gpu", "1"), ("cpu", "nonsense")])), ["example.com/gpu"]);
    }

    #[test]
    fn more_than_can_be_counted_fits_nowhere() {
        let all = amounts(&[("cpu", "2"), ("memory", "4Gi"), ("pods", "110")]);
        let used = amounts(&[("memory", "9223372036854775807")]);
        for most in ["100E", "9223372036854775807", "170141183460469231731687303715884105727m", "1e999"] {
            let wanted = amounts(&[("cpu", most), ("memory", most)]);
            assert_eq!(wanted.lacking(&used, &all).collect::<Vec<_>>(), ["cpu", "memory"], "{most}");
            let mut sum = wanted.clone();
            (0..3).for_each(|_| sum.add(&wanted));
            assert!(sum.load(&Amounts::default(), &all) > 1_000_000, "{most}");
            assert!(amounts(&[("cpu", &format!("-{most}"))]).lacking(&used, &all).next().is_none(), "{most}");
        }
    }

    #[test]
    fn load_is_that_of_the_most_loaded_dimension() {
        let all = amounts(&[("cpu", "4"), ("memory", "8Gi"), ("pods", "100")]);
        let (none, one) = (Amounts::default(), amounts(&[("cpu", "1"), ("memory", "4Gi"), ("pods", "10")]));
        assert_eq!(one.load(&none, &all), 500_000);
        assert_eq!(amounts(&[("cpu", "0"), ("pods", "75")]).load(&none, &all), 750_000);
        assert_eq!(one.load(&one, &all), 1_000_000);
        let mut sum = one.clone();
        sum.add(&amounts(&[("cpu", "9223372036854775807")]));
        sum.take_away(&amounts(&[("cpu", "9223372036854775807")]));
        assert_eq!(sum, one, "what was added can be taken away");
    }
}
