//! Who has to go from a node so that a pod that matters more gets room there, and how much harm that does.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::Timestamp;
use warren_state::Key;

use super::{
    Pass,
    candidate::{Candidate, Taken},
    class::Class,
    filter,
    relations::{Placed, Relations},
};
use crate::{
    indexes::{By, PodRequest},
    view::{PodView, Typed, View},
};

/// How much harm it does that some pods go; less is better.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Harm {
    /// How many of them break a budget.
    broken: usize,
    highest: Option<i32>,
    /// The sum of their priorities, all taken as positive, so that each one counts.
    sum: i64,
    count: usize,
    /// When those of the highest priority have started.
    since: Reverse<Timestamp>,
}

/// Who goes from a node.
pub(super) struct Sacrifice<'a> {
    pub(super) victims: Vec<PodView<'a>>,
    pub(super) harm: Harm,
}

/// A pod that matters less.
struct Occupant<'a> {
    placed: Placed<'a>,
    request: PodRequest,
    /// It goes anyway.
    leaves: bool,
}

impl Occupant<'_> {
    fn key(&self) -> &Key {
        &self.placed.pod.object.key
    }
}

/// What would be if some of a node's pods were gone.
struct Trial<'t, 'a> {
    view: &'t View<'a>,
    candidate: &'t Candidate<'a>,
    occupants: &'t [Occupant<'a>],
    taken: Taken<'t>,
    /// Of the class of this pod.
    relations: &'t mut Relations,
    pod: &'t PodView<'a>,
    /// Who is gone.
    gone: BTreeSet<usize>,
    /// Nodes that were open again in between.
    better: Vec<usize>,
}

impl Trial<'_, '_> {
    fn take_out(&mut self, place: usize) {
        let Some(occupant) = self.occupants.get(place) else { return };
        self.taken.release(&occupant.request);
        self.relations.count(self.view, self.pod, &occupant.placed, -1, None);
        self.gone.insert(place);
    }

    fn put_back(&mut self, place: usize) {
        let Some(occupant) = self.occupants.get(place) else { return };
        self.taken.add(&occupant.request);
        self.relations.count(self.view, self.pod, &occupant.placed, 1, Some(&mut self.better));
        self.gone.remove(&place);
    }

    /// Whether there is room for a pod now.
    fn fits(&self, node: usize, pod: &PodView<'_>, request: &PodRequest) -> bool {
        filter::obstacles(self.candidate, &self.taken, pod, request).is_empty()
            && self.relations.obstacle(node).is_none()
    }
}

impl<'a> Pass<'_, 'a> {
    /// Pods of a node that matter less.
    pub(super) fn lesser<'s>(
        &'s self,
        candidate: &Candidate<'a>,
        priority: i32,
    ) -> impl Iterator<Item = PodView<'a>> + use<'s, 'a> {
        let pods = self.view.indexes.of(By::PodNode, candidate.node.name());
        let pods = pods.filter_map(|object| Typed::of(object).ok());
        pods.filter(move |pod: &PodView<'_>| !pod.terminal() && pod.priority() < priority)
    }

    /// Who has to go from a node. All who matter less, but for those that there is room for beside the pod: those who
    /// would break a budget stay first, then those who matter most.
    pub(super) fn sacrifice(
        &mut self,
        class: &mut Class<'a>,
        index: usize,
        pod: &PodView<'a>,
        request: &PodRequest,
    ) -> Option<Sacrifice<'a>> {
        let candidate = self.candidates.get(index)?;
        let mut occupants: Vec<Occupant<'a>> = self
            .lesser(candidate, request.priority)
            .map(|pod| Occupant {
                request: PodRequest::new(&pod),
                leaves: pod.deleting() || self.leaving.contains(&pod.object.key),
                placed: Placed::new(index, &pod, 0),
            })
            .collect();
        self.looks = self.looks.saturating_add(occupants.len());
        occupants.sort_by_cached_key(|occupant| importance(occupant, self.view.now));
        let staying = || occupants.iter().enumerate().filter(|(_, occupant)| !occupant.leaves);
        let broken = self.budgets.as_ref()?.broken_by(staying().map(|(_, occupant)| &occupant.placed.pod));
        let mut trial = Trial {
            view: self.view,
            candidate,
            occupants: &occupants,
            taken: candidate.taken(request, &pod.object.key),
            relations: &mut class.relations,
            pod: &class.pod,
            gone: BTreeSet::new(),
            better: Vec::new(),
        };
        (0..occupants.len()).for_each(|place| trial.take_out(place));
        let helps = trial.fits(index, pod, request);
        if helps {
            let breaks = |(_, occupant): &(usize, &Occupant<'a>)| broken.contains(occupant.key());
            let (first, then): (Vec<_>, Vec<_>) = staying().partition(breaks);
            for (place, _) in first.into_iter().chain(then) {
                trial.put_back(place);
                if !trial.fits(index, pod, request) {
                    trial.take_out(place);
                }
            }
        }
        let gone = trial.gone.clone();
        gone.iter().for_each(|place| trial.put_back(*place));
        let better = std::mem::take(&mut trial.better);
        let victims: Vec<_> =
            staying().filter(|(place, _)| gone.contains(place)).map(|(_, victim)| victim).collect();
        let count = victims.iter().filter(|victim| broken.contains(victim.key())).count();
        let sacrifice = helps.then(|| Sacrifice {
            harm: harm(count, &victims, self.view.now),
            victims: victims.iter().map(|victim| victim.placed.pod.clone()).collect(),
        });
        class.take_back(self, better);
        sacrifice
    }
}

/// Who matters most comes first: by priority, then who has run for longer.
fn importance(occupant: &Occupant<'_>, now: Timestamp) -> (Reverse<i32>, Timestamp, Key) {
    (
        Reverse(occupant.request.priority),
        since(&occupant.placed.pod, now),
        occupant.placed.pod.object.key.clone(),
    )
}

fn since(pod: &PodView<'_>, now: Timestamp) -> Timestamp {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0)
}

fn harm(broken: usize, victims: &[&Occupant<'_>], now: Timestamp) -> Harm {
    let highest = victims.iter().map(|victim| victim.request.priority).max();
    let positive = |victim: &&Occupant<'_>| i64::from(victim.request.priority) - i64::from(i32::MIN);
    let of_highest = victims.iter().filter(|victim| Some(victim.request.priority) == highest);
    Harm {
        broken,
        highest,
        sum: victims.iter().map(positive).fold(0, i64::saturating_add),
        count: victims.len(),
        since: Reverse(
            of_highest.map(|victim| since(&victim.placed.pod, now)).min().unwrap_or(Timestamp::MAX),
        ),
    }
}
