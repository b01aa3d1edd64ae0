//! How a class of pods stands to others: whom it must or would like to be near or far from, and who it from them.
//!
//! Counts are kept by domain, and go on with what the pass binds. While a pass goes on, a node that pods must stay far from
//! does not become open again; one that is too full for an even spread, or has nobody yet whom they want to be near, may.

mod build;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use super::{
    filter::{self, Obstacle},
    leaning::{Curve, Leaning},
    spread::Spread,
    terms::{Pods, Term},
    topology::{Domains, Tally},
};
use crate::view::{PodView, View};
pub(super) use build::Census;

const NOT_NEAR: &str = "node(s) didn't match pod affinity rules";
const NOT_FAR: &str = "node(s) didn't match pod anti-affinity rules";
const AVOIDED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// A pod on a node, and what it wants of others.
pub(super) struct Placed<'a> {
    pub(super) node: usize,
    pub(super) pod: PodView<'a>,
    pub(super) terms: Vec<Arc<Term>>,
    /// Those of one kind are alike in namespace, labels, owner and wishes.
    kind: usize,
}

impl<'a> Placed<'a> {
    pub(super) fn new(node: usize, pod: &PodView<'a>, kind: usize) -> Self {
        Self { node, pod: pod.clone(), terms: Term::all(pod).into_iter().map(Arc::new).collect(), kind }
    }
}

/// All that a pod must have near it. Who counts is all of it at once.
struct Near {
    pods: Vec<Pods>,
    tallies: Vec<Tally>,
    /// How many pods count, in all domains together.
    total: i64,
    /// The first of its kind is near itself.
    itself: bool,
    grouped: bool,
    parked: BTreeSet<usize>,
}

impl Near {
    fn fits(&self, node: usize) -> bool {
        let counts = self.tallies.iter().map(|tally| tally.at(node));
        let Some(least) = counts.collect::<Option<Vec<_>>>().map(|counts| counts.into_iter().min()) else {
            return false;
        };
        least.is_some_and(|least| least > 0) || (self.total == 0 && self.itself)
    }
}

/// The pods of one owner, by node.
struct Siblings {
    owner: Arc<str>,
    counts: Vec<i32>,
}

impl Siblings {
    fn are(&self, placed: &Placed<'_>) -> bool {
        placed.pod.active() && placed.pod.controller_uid() == Some(&*self.owner)
    }
}

/// What a node is to a class, leaving aside what is the same for its whole cell.
pub(super) enum Standing {
    /// It may run a pod, and costs so much more.
    Open(i64),
    /// It may not now; it is remembered until it may.
    Parked,
    /// It may not any more.
    Closed,
}

#[derive(Default)]
pub(super) struct Relations {
    near: Option<Near>,
    /// Pods that it must be far from.
    far: Vec<(Pods, Tally)>,
    /// Pods that must be far from it, by the label of nodes.
    avoided: BTreeMap<String, Tally>,
    spread: Vec<Spread>,
    leanings: Vec<Leaning>,
    siblings: Option<Siblings>,
    /// How many of the pass's bindings are counted.
    seen: usize,
    /// Whether pods of a kind concern the class at all, as far as that is known.
    concerns: Vec<Option<bool>>,
    /// A pod was bound that it had no place for: it has to be made again.
    pub(super) stale: bool,
}

impl Relations {
    /// Counts what the pass has bound since, and notes nodes that are open again, or cost less.
    pub(super) fn catch_up(
        &mut self,
        view: &View<'_>,
        pod: &PodView<'_>,
        log: &[Placed<'_>],
        mut better: Option<&mut Vec<usize>>,
    ) {
        for placed in log.get(self.seen..).unwrap_or_default() {
            if self.is_concerned(view, pod, placed) {
                self.count(view, pod, placed, 1, better.as_deref_mut());
            }
        }
        self.seen = log.len();
    }

    /// Whether pods of this kind count for anything.
    fn is_concerned(&mut self, view: &View<'_>, pod: &PodView<'_>, placed: &Placed<'_>) -> bool {
        if let Some(Some(known)) = self.concerns.get(placed.kind) {
            return *known;
        }
        let counts = |pods: &Pods| pods.contains(view, &placed.pod);
        let concerned = self.near.as_ref().is_some_and(|near| near.pods.iter().all(counts))
            || self.far.iter().any(|(pods, _)| counts(pods))
            || self.spread.iter().any(|spread| counts(&spread.constraint.pods))
            || self.leanings.iter().any(|leaning| leaning.whom.are(view, placed))
            || self.siblings.as_ref().is_some_and(|siblings| siblings.are(placed))
            || placed.terms.iter().any(|term| term.pods.contains(view, pod));
        if self.concerns.len() <= placed.kind {
            self.concerns.resize(placed.kind.saturating_add(1), None);
        }
        self.concerns.get_mut(placed.kind).into_iter().for_each(|known| *known = Some(concerned));
        concerned
    }

    /// A pod more is on a node, or fewer.
    pub(super) fn count(
        &mut self,
        view: &View<'_>,
        pod: &PodView<'_>,
        placed: &Placed<'_>,
        more: i32,
        mut better: Option<&mut Vec<usize>>,
    ) {
        let mut note = |nodes: &[usize]| better.iter_mut().for_each(|better| better.extend(nodes));
        if let Some(near) = &mut self.near
            && near.pods.iter().all(|pods| pods.contains(view, &placed.pod))
        {
            note(&near.add(placed.node, more));
        }
        for (pods, tally) in &mut self.far {
            if pods.contains(view, &placed.pod) {
                tally.add(placed.node, more);
            }
        }
        for spread in &mut self.spread {
            let counts = spread.counts(placed.node) && !placed.pod.deleting();
            if counts && spread.constraint.pods.contains(view, &placed.pod) {
                note(&spread.add(placed.node, more));
            }
        }
        for leaning in &mut self.leanings {
            if leaning.whom.counts(placed.node)
                && leaning.whom.are(view, placed)
                && let Some(domain) = leaning.add(placed.node, more)
            {
                note(leaning.tally.domains.members(domain));
            }
        }
        if let Some(siblings) = self.siblings.as_mut().filter(|siblings| siblings.are(placed))
            && let Some(count) = siblings.counts.get_mut(placed.node)
        {
            *count = count.saturating_add(more);
        }
        for term in placed.terms.iter().filter(|term| term.pods.contains(view, pod)) {
            if Curve::of_others(term.wish).is_some() {
                self.stale |= more > 0 && !self.leanings.iter().any(|leaning| leaning.whom.wishes(term));
            } else if let Some(tally) = self.avoided.get_mut(&term.topology) {
                tally.add(placed.node, more);
            } else {
                self.stale |= more > 0;
            }
        }
    }

    /// What tells cells of nodes apart: what all nodes of a domain have in common, and may get better for all of them.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Rc<Domains>> {
        let near = self.near.iter().flat_map(|near| near.tallies.iter().map(|tally| &tally.domains));
        let spread = self.spread.iter().map(|spread| &spread.tally.domains);
        near.chain(spread).chain(self.leanings.iter().map(|leaning| &leaning.tally.domains))
    }

    /// These domains tell cells apart.
    pub(super) fn group(&mut self, grouped: &dyn Fn(&Rc<Domains>) -> bool) {
        if let Some(near) = &mut self.near {
            near.grouped = near.tallies.iter().all(|tally| grouped(&tally.domains));
        }
        self.spread.iter_mut().for_each(|spread| spread.grouped = grouped(&spread.tally.domains));
        self.leanings.iter_mut().for_each(|leaning| leaning.grouped = grouped(&leaning.tally.domains));
    }

    /// How much more all nodes of the cell cost that this one is in, if any may run a pod.
    pub(super) fn of_cell(&self, node: usize) -> Option<i64> {
        let open = self.near.as_ref().is_none_or(|near| !near.grouped || near.fits(node))
            && self.spread.iter().all(|spread| !spread.grouped || spread.fits(node));
        open.then(|| self.leaning(node, Some(true)))
    }

    /// What a node is, beside what its cell is.
    pub(super) fn of_node(&mut self, node: usize) -> Standing {
        if self.is_kept_far(node) {
            return Standing::Closed;
        }
        if let Some(near) = self.near.as_mut().filter(|near| !near.grouped && !near.fits(node)) {
            near.parked.insert(node);
            return Standing::Parked;
        }
        if let Some(spread) = self.spread.iter_mut().find(|spread| !spread.grouped && !spread.fits(node)) {
            spread.park(node);
            return Standing::Parked;
        }
        Standing::Open(self.leaning(node, Some(false)))
    }

    fn is_kept_far(&self, node: usize) -> bool {
        let has = |tally: &Tally| tally.at(node).is_some_and(|count| count > 0);
        self.far.iter().any(|(_, tally)| has(tally)) || self.avoided.values().any(has)
    }

    /// How much more a node costs: by its cell, by itself, or by both.
    pub(super) fn leaning(&self, node: usize, grouped: Option<bool>) -> i64 {
        let leanings = self.leanings.iter();
        let leanings = leanings.filter(|leaning| grouped.is_none_or(|grouped| leaning.grouped == grouped));
        leanings.map(|leaning| leaning.cost(node)).fold(0, i64::saturating_add)
    }

    /// The same by what it is for: an even spread, or the wish to be near or far.
    pub(super) fn leanings(&self, node: usize) -> (i64, i64) {
        let sum = |even: bool| {
            let leanings = self.leanings.iter().filter(|leaning| leaning.is_even() == even);
            leanings.map(|leaning| leaning.cost(node)).fold(0, i64::saturating_add)
        };
        (sum(true), sum(false))
    }

    /// How many pods of the same owner are on a node.
    pub(super) fn siblings(&self, node: usize) -> i64 {
        let count = self.siblings.as_ref().and_then(|siblings| siblings.counts.get(node));
        count.map_or(0, |count| i64::from(*count))
    }

    /// Why other pods keep a pod from a node, in Kubernetes' order.
    pub(super) fn obstacle(&self, node: usize) -> Option<Obstacle> {
        let has = |tally: &Tally| tally.at(node).is_some_and(|count| count > 0);
        if let Some(obstacle) = self.spread.iter().find_map(|spread| spread.obstacle(node)) {
            return Some(obstacle);
        }
        if self.near.as_ref().is_some_and(|near| !near.fits(node)) {
            return Some(Obstacle::lasting(filter::OTHER_PODS, NOT_NEAR));
        }
        if self.far.iter().any(|(_, tally)| has(tally)) {
            return Some(Obstacle::passing(filter::OTHER_PODS, NOT_FAR));
        }
        self.avoided.values().any(has).then(|| Obstacle::passing(filter::OTHER_PODS, AVOIDED))
    }
}

impl Near {
    /// So many more that count are on a node; who may be open by that.
    fn add(&mut self, node: usize, more: i32) -> Vec<usize> {
        let mut open = Vec::new();
        for tally in &mut self.tallies {
            let Some((domain, before)) = tally.add(node, more) else { continue };
            self.total = self.total.saturating_add(i64::from(more));
            if before == 0 && more > 0 && !self.parked.is_empty() {
                let waiting = tally.domains.members(domain).iter();
                open.extend(waiting.filter(|node| self.parked.remove(node)).copied());
            }
        }
        open
    }
}
