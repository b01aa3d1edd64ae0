//! How a class of pods stands to others: whom it must or would like to be near or far from, and who it from them.
//!
//! Counts are kept by domain, and go on with what the pass binds. While a pass goes on, a node that pods must stay far from
//! does not become open again; one that is too full for an even spread, or has nobody yet whom they want to be near, may.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use super::{
    Pass,
    filter::{self, Obstacle},
    leaning::{Curve, Leaning, Whom},
    spread::{Constraint, Spread},
    terms::{Pods, Term, Wish},
    topology::{Domains, Tally},
};
use crate::view::{PodView, View};

const NOT_NEAR: &str = "node(s) didn't match pod affinity rules";
const NOT_FAR: &str = "node(s) didn't match pod anti-affinity rules";
const AVOIDED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// A pod on a node, and what it wants of others.
pub(super) struct Placed<'a> {
    pub(super) node: usize,
    pub(super) pod: PodView<'a>,
    pub(super) terms: Vec<Arc<Term>>,
}

impl<'a> Placed<'a> {
    pub(super) fn new(node: usize, pod: &PodView<'a>) -> Self {
        Self { node, pod: pod.clone(), terms: Term::all(pod).into_iter().map(Arc::new).collect() }
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
    /// How many of the pass's bindings are counted.
    seen: usize,
    /// A pod was bound that it had no place for: it has to be made again.
    pub(super) stale: bool,
}

impl Relations {
    pub(super) fn new<'a>(pass: &mut Pass<'_, 'a>, pod: &PodView<'a>, owner: Option<&Arc<str>>) -> Self {
        let mut relations = Self::default();
        relations.own(pass, pod);
        relations.constraints(pass, pod);
        relations.standing(pass, pod);
        relations.expect(pass, pod);
        let log = std::mem::take(&mut pass.log);
        relations.catch_up(pass.view, pod, &log, None);
        pass.log = log;
        if relations.spread.is_empty() && !relations.leanings.iter().any(Leaning::is_even) {
            relations.leanings.extend(Leaning::over_zones(pass, owner));
        }
        relations
    }

    /// What the pod wants of others.
    fn own(&mut self, pass: &mut Pass<'_, '_>, pod: &PodView<'_>) {
        let view = pass.view;
        let mut near = Vec::new();
        for term in Term::all(pod) {
            let domains = pass.domains(&term.topology);
            let curve = match term.wish {
                Wish::MustBeNear => {
                    near.push((term.pods, Tally::new(domains)));
                    continue;
                }
                Wish::MustBeFar => {
                    let mut tally = Tally::new(domains);
                    count(pass, &term.pods, |node| {
                        tally.add(node, 1);
                    });
                    self.far.push((term.pods, tally));
                    continue;
                }
                Wish::LikesNear(weight) => Curve::near(weight),
                Wish::LikesFar(weight) => Curve::far(weight),
            };
            let mut leaning = Leaning::new(curve, Tally::new(domains), Whom::Pods(term.pods.clone()));
            count(pass, &term.pods, |node| {
                leaning.tally.add(node, 1);
            });
            self.leanings.push(leaning);
        }
        let Some((first, _)) = near.first() else { return };
        let placed = first.placed(view);
        let (pods, tallies): (Vec<_>, Vec<_>) = near.into_iter().unzip();
        let itself = pods.iter().all(|pods| pods.contains(view, pod));
        let mut near = Near { pods, tallies, total: 0, itself, grouped: false, parked: BTreeSet::new() };
        let counts = |pod: &&PodView<'_>| near.pods.iter().all(|pods| pods.contains(view, pod));
        let nodes: Vec<_> = placed.iter().filter(counts).filter_map(|pod| pass.node_of(pod)).collect();
        nodes.into_iter().for_each(|node| {
            near.add(node, 1);
        });
        self.near = Some(near);
    }

    /// How the pod is to be spread.
    fn constraints(&mut self, pass: &mut Pass<'_, '_>, pod: &PodView<'_>) {
        let constraints = Constraint::all(pod);
        for hard in [true, false] {
            let these = || constraints.iter().filter(|constraint| constraint.hard == hard);
            let all: Vec<Rc<Domains>> =
                these().map(|constraint| pass.domains(&constraint.topology)).collect();
            for constraint in these() {
                let domains = pass.domains(&constraint.topology);
                let counted = constraint.counted(pod, &pass.candidates, &all);
                if hard {
                    let mut spread = Spread::new(constraint.clone(), domains, counted);
                    count_living(pass, &constraint.pods, |node| {
                        if spread.counts(node) {
                            drop(spread.add(node, 1));
                        }
                    });
                    self.spread.push(spread);
                } else {
                    let whom = Whom::Living(constraint.pods.clone(), counted);
                    let curve = Curve::even(constraint.skew);
                    let mut leaning = Leaning::new(curve, Tally::new(domains), whom);
                    count_living(pass, &constraint.pods, |node| {
                        if leaning.whom.counts(node) {
                            leaning.tally.add(node, 1);
                        }
                    });
                    self.leanings.push(leaning);
                }
            }
        }
    }

    /// What the pods on nodes want of this one.
    fn standing(&mut self, pass: &mut Pass<'_, '_>, pod: &PodView<'_>) {
        let view = pass.view;
        for (term, wishers) in view.indexes.terms.about(pod.namespace(), pod.labels()) {
            if !term.pods.contains(view, pod) {
                continue;
            }
            let domains = pass.domains(&term.topology);
            let nodes = wishers.iter().filter_map(|(node, count)| {
                Some((*pass.by_node.get(&**node)?, i32::try_from(*count).unwrap_or(i32::MAX)))
            });
            match Curve::of_others(term.wish) {
                None => {
                    let tally = self.avoided.entry(term.topology.clone());
                    let tally = tally.or_insert_with(|| Tally::new(domains));
                    nodes.for_each(|(node, count)| {
                        tally.add(node, count);
                    });
                }
                Some(curve) => {
                    let mut leaning =
                        Leaning::new(curve, Tally::new(domains), Whom::Wishers(Arc::clone(term)));
                    nodes.for_each(|(node, count)| {
                        leaning.tally.add(node, count);
                    });
                    self.leanings.push(leaning);
                }
            }
        }
    }

    /// There is a place for what pods that the pass has bound want of this one.
    fn expect(&mut self, pass: &mut Pass<'_, '_>, pod: &PodView<'_>) {
        let wishes: Vec<_> =
            pass.wishes.iter().filter(|term| term.pods.contains(pass.view, pod)).cloned().collect();
        for term in wishes {
            let domains = pass.domains(&term.topology);
            match Curve::of_others(term.wish) {
                None => {
                    let tally = self.avoided.entry(term.topology.clone());
                    tally.or_insert_with(|| Tally::new(domains));
                }
                Some(_) if self.leanings.iter().any(|leaning| leaning.whom.wishes(&term)) => {}
                Some(curve) => {
                    self.leanings.push(Leaning::new(curve, Tally::new(domains), Whom::Wishers(term)));
                }
            }
        }
    }

    /// Counts what the pass has bound since, and notes nodes that are open again, or cost less.
    pub(super) fn catch_up(
        &mut self,
        view: &View<'_>,
        pod: &PodView<'_>,
        log: &[Placed<'_>],
        mut better: Option<&mut Vec<usize>>,
    ) {
        for placed in log.get(self.seen..).unwrap_or_default() {
            self.count(view, pod, placed, 1, better.as_deref_mut());
        }
        self.seen = log.len();
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
            if leaning.whom.is(view, placed)
                && let Some(domain) = leaning.add(placed.node, more)
            {
                note(leaning.tally.domains.members(domain));
            }
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

fn count(pass: &Pass<'_, '_>, pods: &Pods, mut found: impl FnMut(usize)) {
    for node in pods.placed(pass.view).iter().filter_map(|pod| pass.node_of(pod)) {
        found(node);
    }
}

fn count_living(pass: &Pass<'_, '_>, pods: &Pods, mut found: impl FnMut(usize)) {
    let placed = pods.placed(pass.view);
    for node in placed.iter().filter(|pod| !pod.deleting()).filter_map(|pod| pass.node_of(pod)) {
        found(node);
    }
}
