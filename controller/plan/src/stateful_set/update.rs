//! Pods of another template are replaced, from the last ordinal on, while no more are unavailable than may be.

use super::draft::Draft;
use crate::outcome::Outcome;

/// A pod that is unavailable costs nothing when it goes: so a template that never works is mended by the next one. But
/// pods are replaced in order: not more at a time than may be unavailable, those that are on their way included.
pub(super) fn update(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) {
    let Some(rolling) = &draft.numbers.rolling else { return };
    let available = draft.wanted().filter(|(_, member)| member.available).count();
    let available = i64::try_from(available).unwrap_or(i64::MAX);
    let unavailable = draft.numbers.replicas.saturating_sub(available);
    let mut allowed = rolling.max_unavailable.saturating_sub(unavailable);
    let mut on_their_way: i64 = 0;
    for (_, member) in draft.wanted().rev().take_while(|(ordinal, _)| *ordinal >= rolling.from) {
        if on_their_way >= rolling.max_unavailable {
            return;
        }
        let is_old = !draft.is_updated(member) && !member.pod.deleting();
        if is_old && (!member.available || allowed > 0) {
            draft.delete(member, "it is of another template", outcome);
            allowed = allowed.saturating_sub(i64::from(member.available));
            on_their_way = on_their_way.saturating_add(1);
        } else if !member.available {
            on_their_way = on_their_way.saturating_add(1);
        }
    }
}
