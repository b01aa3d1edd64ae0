//! How a new class of pods stands to those that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use super::{Near, Relations, Siblings};
use crate::{
    schedule::{
        Pass,
        leaning::{Curve, Leaning, Whom},
        spread::{Constraint, Spread},
        terms::{Pods, Term, Wish},
        topology::{Domains, Tally},
    },
    view::PodView,
};

/// The label of zones: where there are several, pods of one owner are spread over them though nobody asks for it.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Pods of some kind on one node: all, and those that are not on their way out.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::schedule) struct Crowd {
    node: usize,
    all: i32,
    living: i32,
}

/// What was counted of the state, once for all classes of a pass.
pub(in crate::schedule) type Census = BTreeMap<Pods, Rc<Vec<Crowd>>>;

impl<'a> Pass<'_, 'a> {
    /// How many of some pods are on which nodes, in the state that the pass began with.
    fn census(&mut self, pods: &Pods) -> Rc<Vec<Crowd>> {
        if let Some(known) = self.census.get(pods) {
            return Rc::clone(known);
        }
        let placed = pods.placed(self.view);
        self.looks = self.looks.saturating_add(placed.len());
        let crowds = Rc::new(self.crowds(placed.iter()));
        self.census.insert(pods.clone(), Rc::clone(&crowds));
        crowds
    }

    fn crowds<'p>(&self, pods: impl Iterator<Item = &'p PodView<'a>>) -> Vec<Crowd>
    where
        'a: 'p,
    {
        let mut crowds = BTreeMap::<usize, Crowd>::new();
        for pod in pods {
            let Some(node) = self.node_of(pod) else { continue };
            let crowd = crowds.entry(node).or_insert(Crowd { node, all: 0, living: 0 });
            crowd.all = crowd.all.saturating_add(1);
            crowd.living = crowd.living.saturating_add(i32::from(!pod.deleting()));
        }
        crowds.into_values().collect()
    }
}

impl Relations {
    pub(in crate::schedule) fn new<'a>(
        pass: &mut Pass<'_, 'a>,
        pod: &PodView<'a>,
        owner: Option<&Arc<str>>,
    ) -> Self {
        let mut relations = Self::default();
        relations.own(pass, pod);
        relations.constraints(pass, pod);
        relations.standing(pass, pod);
        relations.expect(pass, pod);
        owner.into_iter().for_each(|owner| relations.family(pass, owner));
        let log = std::mem::take(&mut pass.log);
        relations.catch_up(pass.view, pod, &log, None);
        pass.log = log;
        relations
    }

    /// Where the pods of the same owner are. They are spread over zones, too, if the pod does not say how itself.
    fn family(&mut self, pass: &mut Pass<'_, '_>, owner: &Arc<str>) {
        let mut counts = vec![0_i32; pass.candidates.len()];
        for pod in pass.view.pods_of(owner) {
            pass.looks = pass.looks.saturating_add(1);
            let node = pass.node_of(&pod).filter(|_| pod.active());
            let count = node.and_then(|node| counts.get_mut(node));
            count.into_iter().for_each(|count| *count = count.saturating_add(1));
        }
        if self.spread.is_empty() && !self.leanings.iter().any(Leaning::is_even) {
            let domains = pass.domains(ZONE_LABEL);
            if domains.len() > 1 {
                let mut tally = Tally::new(domains);
                for (node, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    tally.add(node, *count);
                }
                self.leanings.push(Leaning::new(Curve::Zones, tally, Whom::Siblings(Arc::clone(owner))));
            }
        }
        self.siblings = Some(Siblings { owner: Arc::clone(owner), counts });
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
                    for crowd in pass.census(&term.pods).iter() {
                        tally.add(crowd.node, crowd.all);
                    }
                    self.far.push((term.pods, tally));
                    continue;
                }
                Wish::LikesNear(weight) => Curve::near(weight),
                Wish::LikesFar(weight) => Curve::far(weight),
            };
            let mut leaning = Leaning::new(curve, Tally::new(domains), Whom::Pods(term.pods.clone()));
            for crowd in pass.census(&term.pods).iter() {
                leaning.tally.add(crowd.node, crowd.all);
            }
            self.leanings.push(leaning);
        }
        let Some((first, _)) = near.first() else { return };
        let crowds = match near.len() {
            1 => pass.census(first),
            _ => {
                let all = first.placed(view);
                let counts = |pod: &&PodView<'_>| near.iter().all(|(pods, _)| pods.contains(view, pod));
                Rc::new(pass.crowds(all.iter().filter(counts)))
            }
        };
        let (pods, tallies): (Vec<_>, Vec<_>) = near.into_iter().unzip();
        let itself = pods.iter().all(|pods| pods.contains(view, pod));
        let mut near = Near { pods, tallies, total: 0, itself, grouped: false, parked: BTreeSet::new() };
        for crowd in crowds.iter() {
            drop(near.add(crowd.node, crowd.all));
        }
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
                let crowds = pass.census(&constraint.pods);
                if hard {
                    let mut spread = Spread::new(constraint.clone(), domains, counted);
                    for crowd in crowds.iter().filter(|crowd| crowd.living > 0) {
                        if spread.counts(crowd.node) {
                            drop(spread.add(crowd.node, crowd.living));
                        }
                    }
                    self.spread.push(spread);
                } else {
                    let whom = Whom::Living(constraint.pods.clone(), counted);
                    let curve = Curve::even(constraint.skew);
                    let mut leaning = Leaning::new(curve, Tally::new(domains), whom);
                    for crowd in crowds.iter().filter(|crowd| leaning.whom.counts(crowd.node)) {
                        leaning.tally.add(crowd.node, crowd.living);
                    }
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

    /// There is a place for what pods that the pass has bound, or binds next, want of this one.
    fn expect(&mut self, pass: &mut Pass<'_, '_>, pod: &PodView<'_>) {
        let view = pass.view;
        let all = Term::all(pod).into_iter().map(Arc::new).chain(pass.wishes.iter().cloned());
        let wishes: BTreeSet<_> = all.filter(|term| term.pods.contains(view, pod)).collect();
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
}
