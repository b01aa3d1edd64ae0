//! Who has to go so that a pod that matters more gets a place? On the node where that does the least harm: no budget is
//! broken if there is another way, then the victims matter as little as possible, then they are few and young.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use warren_state::{Key, Precondition, Transaction};

use super::{
    COMPONENT, Pass,
    budgets::Budgets,
    class::Class,
    filter,
    sacrifice::{Harm, Sacrifice},
    status::{self, Nomination},
    unavailable,
};
use crate::{
    events::{self, Event},
    garbage,
    indexes::PodRequest,
    object,
    outcome::Outcome,
    view::PodView,
};

const REASON: &str = "PreemptionByScheduler";
const NO_HELP: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NEVER: &str = "not eligible due to preemptionPolicy=Never.";
const VICTIMS_END: &str = "not eligible due to a terminating pod on the nominated node.";
/// How many nodes are looked at closely, at least, and which part of all: of those where it may do the least harm.
const CLOSELY: usize = 100;
const CLOSELY_PART: usize = 10;

/// Nodes where pods of a class can be given room, by the harm that it does, or did when it was looked at.
pub(super) struct Prospects {
    /// How many changes of the pass they know of.
    changes: usize,
    by_harm: BinaryHeap<Reverse<(Harm, usize)>>,
}

/// Whether others make room for a pod.
pub(super) enum Room<'a> {
    Made(usize, Sacrifice<'a>),
    /// There is nobody who could.
    Nobody(String),
    /// It is not asked for; why.
    Waits(&'static str),
}

impl<'a> Pass<'_, 'a> {
    /// Looks for the node where others can make room for a pod.
    pub(super) fn make_room(
        &mut self,
        class: &mut Class<'a>,
        pod: &PodView<'a>,
        request: &PodRequest,
    ) -> Room<'a> {
        if pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
            return Room::Waits(NEVER);
        }
        if self.victims_end(pod, request) {
            return Room::Waits(VICTIMS_END);
        }
        if self.budgets.is_none() {
            self.budgets = Some(Budgets::of(self.view));
        }
        if let Some(mut known) = class.prospects.take().filter(|known| known.changes == self.changes)
            && let Some((index, sacrifice)) = self.least_harm(&mut known, class, pod, request)
        {
            class.prospects = Some(known);
            return Room::Made(index, sacrifice);
        }
        let mut prospects = match self.prospects(class, pod, request) {
            Ok(prospects) => prospects,
            Err(reasons) => return Room::Nobody(reasons),
        };
        match self.least_harm(&mut prospects, class, pod, request) {
            Some((index, sacrifice)) => {
                class.prospects = Some(prospects);
                Room::Made(index, sacrifice)
            }
            None => Room::Nobody(unavailable(
                self.candidates.len(),
                &format!("{} {NO_HELP}", self.candidates.len()),
            )),
        }
    }

    /// The node where the least harm is done. While a pass goes on, budgets are used up: what was noted is not too much.
    fn least_harm(
        &mut self,
        prospects: &mut Prospects,
        class: &mut Class<'a>,
        pod: &PodView<'a>,
        request: &PodRequest,
    ) -> Option<(usize, Sacrifice<'a>)> {
        while let Some(Reverse((noted, index))) = prospects.by_harm.pop() {
            let Some(sacrifice) = self.sacrifice(class, index, pod, request) else { continue };
            if sacrifice.harm == noted {
                return Some((index, sacrifice));
            }
            prospects.by_harm.push(Reverse((sacrifice.harm, index)));
        }
        None
    }

    /// Whether others make room for the pod already, and have not ended yet.
    fn victims_end(&self, pod: &PodView<'_>, request: &PodRequest) -> bool {
        let Some(index) = pod.nominated().and_then(|node| self.by_node.get(node)) else { return false };
        let Some(candidate) = self.candidates.get(*index) else { return false };
        let obstacles =
            filter::obstacles(candidate, &candidate.taken(request, &pod.object.key), pod, request);
        let ends = |pod: &PodView<'_>| {
            let disrupted = object::condition(&pod.object.value, "DisruptionTarget");
            pod.deleting() && disrupted.is_some_and(|disrupted| disrupted["reason"] == REASON)
        };
        !obstacles.iter().any(|obstacle| obstacle.stays)
            && self.lesser(candidate, request.priority).any(|pod| ends(&pod))
    }

    /// Looks at all nodes roughly, and at the best ones closely; or why others' going helps nowhere.
    fn prospects(
        &mut self,
        class: &mut Class<'a>,
        pod: &PodView<'a>,
        request: &PodRequest,
    ) -> Result<Prospects, String> {
        let range = self.eligible(pod);
        let nodes = self.candidates.len();
        self.looks = self.looks.saturating_add(range.len());
        let mut reasons = BTreeMap::<String, usize>::new();
        reasons.insert(NO_HELP.to_owned(), nodes.saturating_sub(range.len()));
        let mut rough = Vec::new();
        for index in range {
            match self.rough(class, index, pod, request) {
                Ok(priority) => rough.push((priority, index)),
                Err(reason) => *reasons.entry(reason).or_default() += 1,
            }
        }
        rough.sort_unstable();
        let mut by_harm = BinaryHeap::new();
        for (_, index) in rough.into_iter().take(CLOSELY.max(nodes / CLOSELY_PART)) {
            match self.sacrifice(class, index, pod, request) {
                Some(sacrifice) => by_harm.push(Reverse((sacrifice.harm, index))),
                None => *reasons.entry(NO_VICTIMS.to_owned()).or_default() += 1,
            }
        }
        if by_harm.is_empty() {
            reasons.retain(|_, count| *count > 0);
            return Err(unavailable(nodes, &super::listed(&reasons)));
        }
        Ok(Prospects { changes: self.changes, by_harm })
    }

    /// Up to which priority pods of a node would have to go, going by amounts alone; or why nobody's going helps.
    fn rough(
        &self,
        class: &Class<'a>,
        index: usize,
        pod: &PodView<'_>,
        request: &PodRequest,
    ) -> Result<i32, String> {
        let candidate = self.candidates.get(index).ok_or_else(|| NO_HELP.to_owned())?;
        let mut taken = candidate.taken(request, &pod.object.key);
        let obstacles = self.obstacles(class, index, &taken, pod, request);
        if obstacles.is_empty() || obstacles.iter().any(|obstacle| obstacle.stays) {
            return Err(NO_HELP.to_owned());
        }
        let mut lesser = candidate.info.by_priority.range(..request.priority).peekable();
        if lesser.peek().is_none() {
            return Err(NO_VICTIMS.to_owned());
        }
        for (priority, used) in lesser {
            taken.amounts.to_mut().take_away(used);
            if request.requested.fits(&taken.amounts, &candidate.info.allocatable) {
                return Ok(*priority);
            }
        }
        let left = filter::obstacles(candidate, &taken, pod, request).into_iter().next();
        Err(left.map_or_else(|| NO_HELP.to_owned(), |obstacle| obstacle.reason.into_owned()))
    }

    /// Lets the victims go, and keeps their room free for the pod.
    pub(super) fn sacrifice_for(
        &mut self,
        (index, sacrifice): (usize, Sacrifice<'a>),
        class: &mut Class<'a>,
        (pod, request): (&PodView<'a>, &PodRequest),
        message: &str,
        outcome: &mut Outcome<'_>,
    ) {
        let Some(candidate) = self.candidates.get(index) else { return };
        let node = candidate.node.name();
        let told = status::refusal(self.view, pod, message, Nomination::Give(node));
        if told.is_none() && sacrifice.victims.is_empty() {
            return;
        }
        let mut transaction = told.unwrap_or_else(|| {
            let mut transaction = Transaction::new();
            let unchanged = Precondition::Revision(pod.object.key.clone(), pod.object.revision);
            transaction.preconditions.push(unchanged);
            transaction
        });
        let beaten = candidate.awaited.iter().filter(|(_, other)| other.priority < request.priority);
        let beaten: Vec<Key> = beaten.map(|(key, _)| key.clone()).collect();
        for other in beaten.iter().filter_map(|key| self.view.typed(key)) {
            forget(&other, &mut transaction);
        }
        for victim in &sacrifice.victims {
            self.dismiss(victim, pod, node, &mut transaction);
        }
        let names: Vec<_> = sacrifice.victims.iter().map(|victim| victim.object.key.to_string()).collect();
        let why = format!("make room for {} on {node}: {}", pod.object.key, names.join(", "));
        if !outcome.step(why, transaction) {
            return;
        }
        self.changes = self.changes.saturating_add(1);
        self.bindings = self.bindings.saturating_add(1).saturating_add(names.len());
        for victim in sacrifice.victims {
            self.budgets.iter_mut().for_each(|budgets| budgets.spend(&victim));
            self.leaving.insert(victim.object.key.clone());
        }
        self.forget_nomination(pod);
        if let Some(candidate) = self.candidates.get_mut(index) {
            candidate.awaited.retain(|(key, _)| !beaten.contains(key));
            candidate.awaited.push((pod.object.key.clone(), request.clone()));
        }
        // What this class knew of other nodes is still true.
        let harm = self.sacrifice(class, index, pod, request).map(|next| next.harm);
        if let Some(prospects) = &mut class.prospects {
            prospects.changes = self.changes;
            prospects.by_harm.extend(harm.map(|harm| Reverse((harm, index))));
        }
    }

    fn dismiss(&self, victim: &PodView<'_>, pod: &PodView<'_>, node: &str, transaction: &mut Transaction) {
        let view = self.view;
        let mut value = victim.object.value.clone();
        let message = format!("{COMPONENT}: preempting to accommodate a higher priority pod");
        object::set_condition(&mut value, &garbage::disruption(REASON, &message), view.now);
        object::mark_deleted(&mut value, view.now, object::grace(victim.object));
        replace(transaction, victim, value);
        let message = format!("Preempted by pod {} on node {node}", pod.uid());
        let (about, reason) = (victim.object, "Preempted");
        let event = Event { about, component: COMPONENT, reason, message, warning: false };
        events::record(view, transaction, &event);
    }
}

/// A pod that matters less loses the place that was kept free for it, and looks for another one.
fn forget(pod: &PodView<'_>, transaction: &mut Transaction) {
    let value = object::edited_within(pod.object, &["status"], |value| {
        object::object_at(value, &["status"]).remove("nominatedNodeName");
    });
    if let Some(value) = value {
        replace(transaction, pod, value);
    }
}

fn replace(transaction: &mut Transaction, pod: &PodView<'_>, value: serde_json::Value) {
    let change = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
    transaction.preconditions.extend(change.preconditions);
    transaction.writes.extend(change.writes);
}
