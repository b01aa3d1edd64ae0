//! How much a pod asks for, and how much a node has.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Node},
    apimachinery::pkg::api::resource::Quantity,
};

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

    pub(super) fn without(&self, other: &Self) -> Self {
        let less = |(name, amount): (&String, &i64)| (name.clone(), amount - other.0.get(name).copied().unwrap_or(0));
        Self(self.0.iter().map(less).collect())
    }

    /// The resources of which `used` leaves too little for this request.
    pub(super) fn lacking<'a>(&'a self, used: &'a Self, allocatable: &'a Self) -> impl Iterator<Item = &'a str> {
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

/// A quantity in the unit of its resource, rounded up.
fn amount(name: &str, quantity: &Quantity) -> Option<(String, i64)> {
    let scale = if name == "cpu" { 1_000 } else { 1 };
    Some((name.to_owned(), parse(&quantity.0, scale)?))
}

/// `text` times `scale`, rounded up; `None` for what is no quantity or negative.
fn parse(text: &str, scale: i128) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => match exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()? {
            power @ 0..=18 => (10_i128.pow(power.unsigned_abs()), 1),
            power @ -18..0 => (1, 10_i128.pow(power.unsigned_abs())),
            _ => return None,
        },
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction: String = fraction.chars().take(9).collect();
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let below = denominator * 10_i128.pow(fraction.len().try_into().ok()?);
    let above = mantissa.checked_mul(numerator)?.checked_mul(scale)?;
    i64::try_from((above + below - 1) / below).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_their_unit() {
        for (text, scale, expected) in [
            ("1", 1_000, Some(1_000)),
            ("250m", 1_000, Some(250)),
            ("0.5", 1_000, Some(500)),
            ("1.5Gi", 1, Some(1_610_612_736)),
            ("128Mi", 1, Some(134_217_728)),
            ("1e3", 1, Some(1_000)),
            ("1E", 1, Some(1_000_000_000_000_000_000)),
            ("100u", 1_000, Some(1)),
            ("", 1, None),
            ("-1", 1, None),
            ("1x", 1, None),
        ] {
            assert_eq!(parse(text, scale), expected, "{text}");
        }
    }
}
