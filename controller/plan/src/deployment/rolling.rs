//! From the old sets to the new one, without too many pods and without too few.

use super::{draft::Draft, revision, rollback, status};

/// Grows the new set as far as the surge allows, else shrinks the old ones as far as availability allows.
pub(super) fn roll(draft: &mut Draft<'_>) {
    revision::make(draft);
    let Some(new) = draft.new else { return };
    let size = if draft.sets[new].replicas > draft.numbers.replicas {
        draft.numbers.replicas
    } else {
        new_size(draft)
    };
    if draft.sets[new].replicas != size {
        draft.resize(new, size);
        return;
    }
    if !shrink_old(draft, new) && status::is_complete(draft) {
        rollback::note_complete(draft);
        revision::clean(draft);
    }
}

/// How many pods the new set may have now.
pub(super) fn new_size(draft: &Draft<'_>) -> i64 {
    let numbers = draft.numbers;
    let current = draft.new.map_or(0, |new| draft.sets[new].replicas);
    if numbers.recreates {
        return numbers.replicas;
    }
    // Pods that a set has beyond its size are still there, so they count.
    let total: i64 = draft.sets.iter().map(|set| set.replicas.max(set.live)).sum();
    let room = numbers.maximum() - total;
    if room <= 0 { current } else { current + room.min(numbers.replicas - current).max(0) }
}

/// Takes pods from the old sets: first those that are not available anyway, then as many as may be missed.
fn shrink_old(draft: &mut Draft<'_>, new: usize) -> bool {
    let old: Vec<_> = draft.old().filter(|index| draft.sets[*index].replicas > 0).collect();
    let unavailable = draft.sets[new].replicas - draft.sets[new].dependable();
    let spare = draft.total() - draft.numbers.minimum() - unavailable;
    if old.is_empty() || spare <= 0 {
        return false;
    }
    let mut shrunk = 0;
    for index in &old {
        let set = &draft.sets[*index];
        let useless = (set.replicas - set.dependable()).min(spare - shrunk);
        if useless > 0 {
            draft.resize(*index, draft.sets[*index].replicas - useless);
            shrunk += useless;
        }
    }
    let dependable: i64 = draft.sets.iter().map(super::draft::Set::dependable).sum();
    let mut surplus = dependable - draft.numbers.minimum();
    for index in &old {
        let taken = draft.sets[*index].replicas.min(surplus);
        if taken > 0 {
            draft.resize(*index, draft.sets[*index].replicas - taken);
            surplus -= taken;
            shrunk += taken;
        }
    }
    shrunk > 0
}

/// Ends all old pods, waits until they are gone, then starts the new ones.
pub(super) fn recreate(draft: &mut Draft<'_>) {
    let old: Vec<_> = draft.old().collect();
    let mut shrunk = false;
    for index in &old {
        if draft.sets[*index].replicas > 0 {
            draft.resize(*index, 0);
            shrunk = true;
        }
    }
    if shrunk || old.iter().any(|index| draft.sets[*index].running > 0) {
        return;
    }
    revision::make(draft);
    if let Some(new) = draft.new {
        draft.resize(new, draft.numbers.replicas);
    }
    if status::is_complete(draft) {
        rollback::note_complete(draft);
        revision::clean(draft);
    }
}
