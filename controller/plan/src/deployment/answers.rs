//! Whether the pods of a new revision answer worse than those of the one that it follows, as the gateways see it.
//!
//! Only windows in which a gateway saw both count: what both suffer from (a database that is away) is no fault of the new
//! one. Of these, the last minute's:
//!
//! * each revision was sent at least [`LEAST_REQUESTS`];
//! * the new one failed more of them than the old one by at least [`MARGIN_PERCENT`] of a hundred;
//! * and at least [`TIMES`] times as large a part.

use super::{draft::Draft, trouble::Cause};
use crate::usage::{Answered, maker_of};

/// Fewer requests say nothing.
const LEAST_REQUESTS: u64 = 50;
/// By how much of a hundred the new revision's part of failures is to be above the old one's.
const MARGIN_PERCENT: u128 = 10;
/// How many times as large it is to be.
const TIMES: u128 = 3;

const REASON: &str = "ErrorRateRegressed";

/// Compares the new set with the one that would come back.
pub(super) fn compare(draft: &Draft<'_>, good: usize) -> Option<Cause> {
    let [new, old] = [draft.new?, good].map(|index| &draft.sets[index].key);
    let [of_new, of_old] = [new, old].map(|set| maker_of(&set.namespace, &set.name));
    // When something is told of them, or was too long ago, the deployment is looked at again.
    for maker in [&of_new, &of_old] {
        draft.view.read(maker);
    }
    let both = draft.view.world.usage.windows.iter();
    let both = both.filter_map(|window| Some((*window.get(&of_new)?, *window.get(&of_old)?)));
    let both = both.filter(|(of_new, of_old)| of_new.requests > 0 && of_old.requests > 0);
    let none = (Answered::default(), Answered::default());
    let (of_new, of_old) = both.fold(none, |sum, window| (sum.0.and(window.0), sum.1.and(window.1)));
    regresses(of_new, of_old).then(|| Cause {
        reason: REASON,
        message: format!(
            "Pods of ReplicaSet \"{}\" failed {} that gateways sent them, those of \"{}\" {} in the same time.",
            new.name,
            words(of_new),
            old.name,
            words(of_old)
        ),
    })
}

fn regresses(new: Answered, old: Answered) -> bool {
    if new.requests < LEAST_REQUESTS || old.requests < LEAST_REQUESTS {
        return false;
    }
    // Both over the same denominator.
    let part = |one: Answered, other: Answered| {
        u128::from(one.failures.min(one.requests)).saturating_mul(other.requests.into())
    };
    let (of_new, of_old) = (part(new, old), part(old, new));
    let whole = u128::from(new.requests).saturating_mul(old.requests.into());
    // In hundreds, rounded up, so that nothing overflows.
    let margin = whole.div_ceil(100).saturating_mul(MARGIN_PERCENT);
    of_new >= of_old.saturating_add(margin) && of_new >= of_old.saturating_mul(TIMES)
}

/// "57 of 120 requests (47.5%)".
fn words(answered: Answered) -> String {
    let Answered { requests, failures } = answered;
    let thousandths = u128::from(failures).saturating_mul(1_000).checked_div(requests.into()).unwrap_or(0);
    format!("{failures} of {requests} requests ({}.{}%)", thousandths / 10, thousandths % 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answered((failures, requests): (u64, u64)) -> Answered {
        Answered { requests, failures }
    }

    #[test]
    fn the_rule_in_examples() {
        for (new, old, expected) in [
            ((50, 50), (0, 50), true),
            ((5, 50), (0, 50), true),
            ((4, 50), (0, 50), false),
            ((49, 49), (0, 5_000), false),
            ((5_000, 5_000), (0, 49), false),
            ((30, 100), (10, 100), true),
            ((29, 100), (10, 100), false),
            ((14, 100), (4, 100), true),
            ((13, 100), (4, 100), false),
            ((100, 100), (100, 100), false),
            ((100, 100), (34, 100), false),
            ((100, 100), (33, 100), true),
            ((0, 100), (0, 100), false),
            ((u64::MAX, u64::MAX), (0, u64::MAX), true),
            ((u64::MAX, u64::MAX), (u64::MAX, u64::MAX), false),
            ((u64::MAX, 50), (u64::MAX, 50), false),
        ] {
            assert_eq!(regresses(answered(new), answered(old)), expected, "{new:?} beside {old:?}");
        }
    }

    #[test]
    fn figures_are_told_with_one_decimal() {
        assert_eq!(words(answered((57, 120))), "57 of 120 requests (47.5%)");
        assert_eq!(words(answered((1, 240))), "1 of 240 requests (0.4%)");
        assert_eq!(words(answered((0, 0))), "0 of 0 requests (0.0%)");
    }

    proptest! {
        #[test]
        fn worse_never_looks_better(
            new in (0..2_000_u64, 0..2_000_u64),
            old in (0..2_000_u64, 0..2_000_u64),
        ) {
            let (new, old) = (answered(new), answered(old));
            if regresses(new, old) {
                let worse = Answered { failures: new.failures.saturating_add(1), ..new };
                let better = Answered { failures: old.failures.saturating_sub(1), ..old };
                prop_assert!(regresses(worse, old) && regresses(new, better));
                prop_assert!(!regresses(old, new), "not each than the other");
            }
            prop_assert!(!regresses(new, new));
        }

        #[test]
        fn any_numbers_are_borne(new in any::<(u64, u64)>(), old in any::<(u64, u64)>()) {
            let (new, old) = (answered(new), answered(old));
            prop_assert!(!(regresses(new, old) && regresses(old, new)));
            prop_assert!(!words(new).is_empty());
        }
    }
}
