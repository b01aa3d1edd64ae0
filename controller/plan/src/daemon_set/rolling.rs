//! Pods of another template are replaced, node by node.

use super::{
    draft::{Draft, Seat, Strategy},
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
) -> Vec<(&'d Seat<'a>, Option<Pair<'d, 'a>>)> {
    let pair = |seat: &'d Seat<'a>| {
        let new = seat.active().find(|pod| draft.is_updated(pod));
        let old = seat.active().find(|pod| !draft.is_updated(pod));
        (!changes.is_busy(seat)).then_some(Pair { new, old })
    };
    draft.seats.iter().filter(|seat| seat.fit.runs).map(|seat| (seat, pair(seat))).collect()
}

fn delete_first<'d, 'a>(
    draft: &'d Draft<'d, 'a>,
    most: i64,
    changes: &mut Changes<'d, 'a>,
    outcome: &mut Outcome<'_>,
) {
    let mut unavailable: i64 = 0;
    let mut available = Vec::new();
    for (seat, pair) in nodes(draft, changes) {
        let Some(pair) = pair else {
            unavailable = unavailable.saturating_add(1);
            continue;
        };
        match pair.new.or(pair.old) {
            Some(pod) if draft.is_available(pod, outcome) => {
                available.extend(pair.old.map(|pod| (seat, pod)))
            }
            _ => {
                unavailable = unavailable.saturating_add(1);
                // One that serves nobody costs nothing when it goes.
                pair.old.into_iter().for_each(|pod| changes.delete(seat, pod, "it is of another template"));
            }
        }
    }
    let allowed = usize::try_from(most.saturating_sub(unavailable)).unwrap_or(0);
    for (seat, pod) in available.into_iter().take(allowed) {
        changes.delete(seat, pod, "it is of another template");
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
    for (seat, pair) in nodes(draft, changes) {
        match pair {
            None => on_their_way = on_their_way.saturating_add(1),
            Some(Pair { old: None, .. }) => {}
            Some(Pair { new: Some(new), old: Some(old) }) => {
                if draft.is_available(new, outcome) {
                    changes.delete(seat, old, "it is of another template");
                } else {
                    on_their_way = on_their_way.saturating_add(1);
                }
            }
            // One that serves nobody needs no other beside it first.
            Some(Pair { new: None, old: Some(old) }) if !draft.is_available(old, outcome) => {
                changes.create(seat);
            }
            Some(Pair { new: None, old: Some(_) }) => next.push(seat),
        }
    }
    let allowed = usize::try_from(most.saturating_sub(on_their_way)).unwrap_or(0);
    next.into_iter().take(allowed).for_each(|seat| changes.create(seat));
}
