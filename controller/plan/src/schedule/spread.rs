//! Topology spread: pods of a kind are to be spread over the domains of a label.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>.

use std::{collections::BTreeMap, rc::Rc};

use k8s_openapi::api::core::v1::{PodSpec, TopologySpreadConstraint};

use super::{
    candidate::Candidate,
    filter::{self, Obstacle},
    terms::{Pods, narrow},
    topology::{Domains, Tally},
};
use crate::{selector::Chooser, view::PodView};

const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const NO_DOMAIN: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constraint {
    pub(super) topology: String,
    pub(super) pods: Pods,
    /// The pod counts itself.
    pub(super) itself: bool,
    /// By how many pods a domain may be ahead of the one with the fewest.
    pub(super) skew: i32,
    /// With fewer domains than this, the fewest counts as none.
    domains: usize,
    /// A pod that would break it waits.
    pub(super) hard: bool,
    /// Nodes that the pod may not run on by its selectors, or by their taints, do not count.
    selected: bool,
    tolerated: bool,
}

impl Constraint {
    pub(super) fn all(pod: &PodView<'_>) -> Vec<Self> {
        let constraints = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_ref());
        constraints.into_iter().flatten().map(|constraint| Self::new(pod, constraint)).collect()
    }

    fn new(pod: &PodView<'_>, constraint: &TopologySpreadConstraint) -> Self {
        let mut labels = Chooser::of(constraint.label_selector.as_ref());
        narrow(&mut labels, constraint.match_label_keys.as_deref(), pod.labels(), true);
        // One that says nothing counts nobody.
        let labels = if labels.is_empty() { Chooser::of(None) } else { labels };
        Self {
            topology: constraint.topology_key.clone(),
            itself: labels.matches(pod.labels()),
            pods: Pods::within(pod.namespace(), labels),
            skew: constraint.max_skew.max(1),
            domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            hard: constraint.when_unsatisfiable != "ScheduleAnyway",
            selected: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            tolerated: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// Which nodes count; nothing if all do. All domains that the pod's constraints are about must be known of them.
    pub(super) fn counted(
        &self,
        pod: &PodView<'_>,
        candidates: &[Candidate<'_>],
        all: &[Rc<Domains>],
    ) -> Option<Rc<Vec<bool>>> {
        let spec = pod.spec.as_ref()?;
        let counted = |(node, candidate): (usize, &Candidate<'_>)| {
            (!self.selected || filter::selected(&candidate.node, spec))
                && (!self.tolerated || filter::untolerated(candidate, filter::tolerations(pod)).is_none())
                && all.iter().all(|domains| domains.of(node).is_some())
        };
        let counted: Vec<bool> = candidates.iter().enumerate().map(counted).collect();
        counted.contains(&false).then(|| Rc::new(counted))
    }
}

/// Whether a pod has any constraint.
pub(super) fn asks(spec: &PodSpec) -> bool {
    spec.topology_spread_constraints.as_ref().is_some_and(|constraints| !constraints.is_empty())
}

/// A constraint that pods wait for, and how matters stand.
pub(super) struct Spread {
    pub(super) constraint: Constraint,
    pub(super) tally: Tally,
    counted: Option<Rc<Vec<bool>>>,
    /// How many domains have how many pods, of those that count.
    levels: BTreeMap<i32, usize>,
    /// Its domains tell cells of nodes apart.
    pub(super) grouped: bool,
    /// Nodes that wait until the domain with the fewest pods has so many.
    parked: BTreeMap<i32, Vec<usize>>,
}

impl Spread {
    pub(super) fn new(constraint: Constraint, domains: Rc<Domains>, counted: Option<Rc<Vec<bool>>>) -> Self {
        let counts = |domain: &usize| {
            counted.as_ref().is_none_or(|counted| {
                domains.members(*domain).iter().any(|node| counted.get(*node) == Some(&true))
            })
        };
        let all = (0..domains.len()).filter(counts).count();
        let levels = if all == 0 { BTreeMap::new() } else { BTreeMap::from([(0, all)]) };
        let tally = Tally::new(domains);
        Self { constraint, tally, counted, levels, grouped: false, parked: BTreeMap::new() }
    }

    /// Whether pods of a node count.
    pub(super) fn counts(&self, node: usize) -> bool {
        counts(self.counted.as_ref(), node)
    }

    /// So many pods more, or fewer, are on a node, which counts; who needs to wait no longer.
    pub(super) fn add(&mut self, node: usize, more: i32) -> Vec<usize> {
        let Some((_, before)) = self.tally.add(node, more) else { return Vec::new() };
        if let Some(domains) = self.levels.get_mut(&before) {
            *domains = domains.saturating_sub(1);
            if *domains == 0 {
                self.levels.remove(&before);
            }
        }
        *self.levels.entry(before.saturating_add(more)).or_default() += 1;
        let fewest = self.fewest();
        if self.parked.first_key_value().is_none_or(|(level, _)| *level > fewest) {
            return Vec::new();
        }
        let rest = self.parked.split_off(&fewest.saturating_add(1));
        std::mem::replace(&mut self.parked, rest).into_values().flatten().collect()
    }

    fn fewest(&self) -> i32 {
        let all = self.levels.values().fold(0_usize, |sum, domains| sum.saturating_add(*domains));
        let fewest = self.levels.first_key_value().map_or(0, |(fewest, _)| *fewest);
        if all < self.constraint.domains { 0 } else { fewest }
    }

    /// How many pods the domain with the fewest must have for one more pod here; nothing where there is no domain.
    fn needed(&self, node: usize) -> Option<i32> {
        let here = self.tally.at(node)?;
        Some(here.saturating_add(i32::from(self.constraint.itself)).saturating_sub(self.constraint.skew))
    }

    pub(super) fn fits(&self, node: usize) -> bool {
        self.needed(node).is_some_and(|needed| needed <= self.fewest())
    }

    /// A node that does not fit now waits until it does.
    pub(super) fn park(&mut self, node: usize) {
        if let Some(needed) = self.needed(node) {
            self.parked.entry(needed).or_default().push(node);
        }
    }

    pub(super) fn obstacle(&self, node: usize) -> Option<Obstacle> {
        match self.needed(node) {
            None => Some(Obstacle::lasting(filter::SPREAD, NO_DOMAIN)),
            Some(needed) => (needed > self.fewest()).then(|| Obstacle::passing(filter::SPREAD, UNEVEN)),
        }
    }
}

/// Whether pods of a node count.
pub(super) fn counts(counted: Option<&Rc<Vec<bool>>>, node: usize) -> bool {
    counted.is_none_or(|counted| counted.get(node) == Some(&true))
}
