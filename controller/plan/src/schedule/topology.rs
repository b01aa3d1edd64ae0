//! Domains: nodes that have the same value of a label, and how many pods of some kind are in each.

use std::{collections::BTreeMap, rc::Rc};

use super::candidate::Candidate;

/// The domains of one label of nodes.
pub(super) struct Domains {
    of: Vec<Option<usize>>,
    members: Vec<Vec<usize>>,
}

impl Domains {
    pub(super) fn new(label: &str, candidates: &[Candidate<'_>]) -> Self {
        let mut domains = Self { of: Vec::with_capacity(candidates.len()), members: Vec::new() };
        let mut known = BTreeMap::<&str, usize>::new();
        for (node, candidate) in candidates.iter().enumerate() {
            let labels = candidate.node.metadata.labels.as_ref();
            let domain = labels.and_then(|labels| labels.get(label)).map(|value| {
                let next = known.len();
                *known.entry(value).or_insert(next)
            });
            domains.of.push(domain);
            if let Some(domain) = domain {
                if domain == domains.members.len() {
                    domains.members.push(Vec::new());
                }
                domains.members.get_mut(domain).into_iter().for_each(|members| members.push(node));
            }
        }
        domains
    }

    /// The domain of a node, if it has the label.
    pub(super) fn of(&self, node: usize) -> Option<usize> {
        self.of.get(node).copied().flatten()
    }

    /// The nodes of a domain.
    pub(super) fn members(&self, domain: usize) -> &[usize] {
        self.members.get(domain).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

/// How many pods of some kind are in each domain.
#[derive(Clone)]
pub(super) struct Tally {
    pub(super) domains: Rc<Domains>,
    counts: Vec<i32>,
}

impl Tally {
    pub(super) fn new(domains: Rc<Domains>) -> Self {
        Self { counts: vec![0; domains.len()], domains }
    }

    /// So many pods more, or fewer, are on a node: in which domain that is, and how many it had before.
    pub(super) fn add(&mut self, node: usize, more: i32) -> Option<(usize, i32)> {
        let domain = self.domains.of(node)?;
        let count = self.counts.get_mut(domain)?;
        let before = *count;
        *count = count.saturating_add(more);
        Some((domain, before))
    }

    /// How many are in the domain of a node, if it is in one.
    pub(super) fn at(&self, node: usize) -> Option<i32> {
        self.counts.get(self.domains.of(node)?).copied()
    }
}
