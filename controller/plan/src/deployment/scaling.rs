//! A new size while several sets have pods: each gets its share.

use std::cmp::Reverse;

use super::{DESIRED, MAXIMUM, draft::Draft, number};

/// Whether the deployment's size differs from what its sets were told.
pub(super) fn is_scaling(draft: &Draft<'_>) -> bool {
    let mut active = draft.sets.iter().filter(|set| set.replicas > 0);
    let different = active
        .clone()
        .any(|set| number(&set.value, DESIRED).is_some_and(|desired| desired != draft.numbers.replicas));
    // Recreate has nothing to share out: it ends the old sets first.
    different && (!draft.numbers.recreates || active.nth(1).is_none())
}

/// Brings the sets to the deployment's size without going on with a rollout.
pub(super) fn scale(draft: &mut Draft<'_>) {
    if let Some(only) = active_or_latest(draft) {
        draft.resize(only, draft.numbers.replicas);
        return;
    }
    if is_saturated(draft) {
        for index in draft.old().collect::<Vec<_>>() {
            if draft.sets[index].replicas > 0 {
                draft.resize(index, 0);
            }
        }
        if let Some(new) = draft.new {
            draft.resize(new, draft.numbers.replicas);
        }
        return;
    }
    if !draft.numbers.recreates {
        proportionally(draft);
    }
}

/// The only set with pods; without any, the new set, or else the latest.
fn active_or_latest(draft: &Draft<'_>) -> Option<usize> {
    let active: Vec<_> = (0..draft.sets.len()).filter(|index| draft.sets[*index].replicas > 0).collect();
    match active.as_slice() {
        [] => draft.new.or_else(|| draft.sets.len().checked_sub(1)),
        [only] => Some(*only),
        _ => None,
    }
}

/// The new set alone is all that is wanted.
fn is_saturated(draft: &Draft<'_>) -> bool {
    draft.new.is_some_and(|new| {
        let (set, wanted) = (&draft.sets[new], draft.numbers.replicas);
        set.replicas == wanted && number(&set.value, DESIRED) == Some(wanted) && set.available == wanted
    })
}

fn proportionally(draft: &mut Draft<'_>) {
    let numbers = draft.numbers;
    let allowed = if numbers.replicas > 0 { numbers.maximum() } else { 0 };
    let to_add = allowed - draft.total();
    let mut active: Vec<_> = (0..draft.sets.len()).filter(|index| draft.sets[*index].replicas > 0).collect();
    // The largest first; what is added goes to newer sets first, what is taken comes from older ones first.
    active.sort_by_key(|index| {
        let set = &draft.sets[*index];
        let age = i64::try_from(*index).unwrap_or(0);
        (Reverse(set.replicas), if to_add > 0 { -age } else { age })
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for index in &active {
        let share = share(draft, *index, to_add, added);
        added += share;
        sizes.push(draft.sets[*index].replicas + share);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + to_add - added).max(0);
    }
    for (index, size) in active.into_iter().zip(sizes) {
        draft.resize(index, size);
    }
}

/// A set's part of what is added or taken, in proportion to its size before.
fn share(draft: &Draft<'_>, index: usize, to_add: i64, added: i64) -> i64 {
    let set = &draft.sets[index];
    if to_add == 0 || to_add == added {
        return 0;
    }
    let wanted = if draft.numbers.replicas == 0 {
        -set.replicas
    } else {
        let reported = draft.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let before =
            number(&set.value, MAXIMUM).filter(|before| *before > 0).unwrap_or(i64::from(reported)).max(1);
        proportion(set.replicas, draft.numbers.maximum(), before).saturating_sub(set.replicas)
    };
    if to_add > 0 { wanted.min(to_add - added).max(0) } else { wanted.max(to_add - added).min(0) }
}

/// `part * now / before`, rounded to the nearest. `before` is an annotation, and may be any number.
fn proportion(part: i64, now: i64, before: i64) -> i64 {
    let (part, now, before) = (i128::from(part), i128::from(now), i128::from(before.max(1)));
    i64::try_from((2 * part * now + before) / (2 * before)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_and_never_overflows() {
        for (part, now, before, expected) in [
            (5, 13, 10, 7),
            (5, 8, 10, 4),
            (1, 1, 3, 0),
            (2_147_483_647, 2_147_483_647, i64::MAX, 0),
            (2_147_483_647, 2_147_483_647, 1, 4_611_686_014_132_420_609),
            (i64::MAX, i64::MAX, i64::MAX, i64::MAX),
            (i64::MAX, i64::MAX, 1, i64::MAX),
            (3, 3, i64::MIN, 9),
        ] {
            assert_eq!(proportion(part, now, before), expected, "{part} * {now} / {before}");
        }
    }
}
