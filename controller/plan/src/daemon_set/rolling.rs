//! Pods of another template are replaced, node by node.

use super::{
    draft::{Candidate, Draft, Strategy},
    pods::Changes,
};
use crate::{outcome::Outcome, view::PodView};

/// The pods of a node that live on: of the present template, and of another one.
struct Pair<'d, 'a> {
    new: Option<&'d PodView<'a>>,
    old: Option<&'d PodView<'a>>,
}

pub(super) fn update<'d, 'a>(
    draft: &'d Draft<'d, 'a>,
    changes: &mut Changes<'d, 'a>,
    outcome: &mut Outcome<'_>,
) {
    match draft.strategy {
        Strategy::OnDelete => {}
        Strategy::Unavailable(most) => delete_first(draft, most, changes, outcome),
        Strategy::Surge(most) => create_first(draft, most, changes, outcome),
    }
}

/// Nodes that should have a pod, where nothing else is done. The others count as unavailable, or on their way.
fn nodes<'d, 'a>(
    draft: &'d Draft<'d, 'a>,
    changes: &Changes<'d, 'a>,
) -> Vec<(&'d Candidate<'a>, Option<Pair<'d, 'a>>)> {
    let pair = |candidate: &'d Candidate<'a>| {
        let new = candidate.active().find(|pod| draft.is_updated(pod));
        let old = candidate.active().find(|pod| !draft.is_updated(pod));
        (!changes.is_busy(candidate)).then_some(Pair { new, old })
    };
    draft
        .candidates
        .iter()
        .filter(|candidate| candidate.fit.runs)
        .map(|candidate| (candidate, pair(candidate)))
        .collect()
}

fn delete_first<'d, 'a>(
    draft: &'d Draft<'d, 'a>,
    most: i64,
    changes: &mut Changes<'d, 'a>,
    outcome: &mut Outcome<'_>,
) {
    let mut unavailable: i64 = 0;
    let mut available = Vec::new();
    for (candidate, pair) in nodes(draft, changes) {
        let Some(pair) = pair else {
            unavailable = unavailable.saturating_add(1);
            continue;
        };
        match pair.new.or(pair.old) {
            Some(pod) if draft.is_available(pod, outcome) => {
                available.extend(pair.old.map(|pod| (candidate, pod)))
            }
            _ => {
                unavailable = unavailable.saturating_add(1);
                // One that serves nobody costs nothing when it goes.
                pair.old
                    .into_iter()
                    .for_each(|pod| changes.delete(candidate, pod, "it is of another template"));
            }
        }
    }
    let allowed = usize::try_from(most.saturating_sub(unavailable)).unwrap_or(0);
    for (candidate, pod) in available.into_iter().take(allowed) {
        changes.delete(candidate, pod, "it is of another template");
    }
}

fn create_first<'d, 'a>(
    draft: &'d Draft<'d, 'a>,
    most: i64,
    changes: &mut Changes<'d, 'a>,
    outcome: &mut Outcome<'_>,
) {
    let mut on_their_way: i64 = 0;
    let mut next = Vec::new();
    for (candidate, pair) in nodes(draft, changes) {
        match pair {
            None => on_their_way = on_their_way.saturating_add(1),
            Some(Pair { old: None, .. }) => {}
            Some(Pair { new: Some(new), old: Some(old) }) => {
                if draft.is_available(new, outcome) {
                    changes.delete(candidate, old, "it is of another template");
                } else {
                    on_their_way = on_their_way.saturating_add(1);
                }
            }
            // One that serves nobody needs no other beside it first.
            Some(Pair { new: None, old: Some(old) }) if !draft.is_available(old, outcome) => {
                changes.create(candidate);
            }
            Some(Pair { new: None, old: Some(_) }) => next.push(candidate),
        }
    }
    let allowed = usize::try_from(most.saturating_sub(on_their_way)).unwrap_or(0);
    next.into_iter().take(allowed).for_each(|candidate| changes.create(candidate));
}
