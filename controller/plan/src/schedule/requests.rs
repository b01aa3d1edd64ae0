//! How much a pod asks for, and how much a node has.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Node},
    apimachinery::pkg::api::resource::Quantity,
};

use warren_objects::quantity::{self, QuantityError};

use crate::view::PodView;

/// What a pod that requests nothing is assumed to need, as Kubernetes does: a tenth of a core, 200 MB.
const ASSUMED: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024)];
/// Full, in the unit of [`Amounts::load`].
const MILLION: i128 = 1_000_000;

/// Amounts by resource: thousandths of a core, else whole units. "pods" counts pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// What a node offers.
    pub(super) fn allocatable(node: &Node) -> Self {
        let offered = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        Self(offered.into_iter().flatten().filter_map(|(name, quantity)| amount(name, quantity)).collect())
    }

    /// What a pod asks for: its containers together, or one init container that wants more.
    pub(super) fn requested(pod: &PodView<'_>) -> Self {
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
        total.0.insert("pods".to_owned(), 1);
        total
    }

    /// What a pod asks for, or is assumed to need.
    pub(super) fn assumed(pod: &PodView<'_>) -> Self {
        let mut total = Self::requested(pod);
        for (name, assumed) in ASSUMED {
            let entry = total.0.entry(name.to_owned()).or_default();
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

    pub(super) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_default();
            *entry = entry.saturating_add(*amount);
        }
    }

    /// The resources of which `used` leaves too little for this request.
    pub(super) fn lacking<'a>(
        &'a self,
        used: &'a Self,
        allocatable: &'a Self,
    ) -> impl Iterator<Item = &'a str> {
        let of = |amounts: &Self, name: &str| amounts.0.get(name).copied().unwrap_or(0);
        self.0
            .iter()
            .filter(move |(name, wanted)| {
                **wanted > 0 && of(used, name).saturating_add(**wanted) > of(allocatable, name)
            })
            .map(|(name, _)| name.as_str())
    }

    /// The most loaded of cpu, memory and pods, in millionths of what there is.
    pub(super) fn load(&self, allocatable: &Self) -> i64 {
        let part = |name: &str| {
            let all = allocatable.0.get(name).copied().unwrap_or(0).max(1);
            let used = self.0.get(name).copied().unwrap_or(0).max(0);
            i64::try_from(i128::from(used) * MILLION / i128::from(all)).unwrap_or(i64::MAX / 4)
        };
        ["cpu", "memory", "pods"].into_iter().map(part).max().unwrap_or(0).min(i64::MAX / 4)
    }
}

/// A quantity in the unit of its resource, rounded up. What is no quantity counts as none; more than can be counted
/// is the most that can be, which no node has.
fn amount(name: &str, quantity: &Quantity) -> Option<(String, i64)> {
    let parse = if name == "cpu" { quantity::cpu_millis } else { quantity::bytes };
    let amount = match parse(&quantity.0) {
        Ok(amount) => amount.max(0),
        Err(QuantityError::Range) if quantity.0.starts_with('-') => 0,
        Err(QuantityError::Range) => i64::MAX,
        Err(_) => return None,
    };
    Some((name.to_owned(), amount))
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
            assert!(sum.load(&all) > 1_000_000, "{most}");
            assert!(amounts(&[("cpu", &format!("-{most}"))]).lacking(&used, &all).next().is_none(), "{most}");
        }
    }

    #[test]
    fn load_is_that_of_the_most_loaded_dimension() {
        let all = amounts(&[("cpu", "4"), ("memory", "8Gi"), ("pods", "100")]);
        assert_eq!(amounts(&[("cpu", "1"), ("memory", "4Gi"), ("pods", "10")]).load(&all), 500_000);
        assert_eq!(amounts(&[("cpu", "0"), ("pods", "75")]).load(&all), 750_000);
    }
}
