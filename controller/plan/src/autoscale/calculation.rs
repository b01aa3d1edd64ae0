//! From what pods use, and should use, to how many of them there should be. All numbers are exact: amounts are
//! thousandths, ratios are fractions.

use std::cmp::Ordering;

use super::{
    limits::MOST,
    rules::Behavior,
    samples::{Sample, State},
};

/// What pods should use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// So many hundredths of what they request.
    Utilization(i128),
    /// So much each.
    Average(i128),
}

/// By how many thousandths a ratio may differ from 1 without a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    up: i128,
    down: i128,
}

impl Tolerance {
    pub(super) fn of(behavior: &Behavior) -> Self {
        Self { up: behavior.up.tolerance, down: behavior.down.tolerance }
    }
}

/// How much there is of what should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratio {
    now: i128,
    wanted: i128,
}

impl Ratio {
    pub(super) fn new(now: i128, wanted: i128) -> Self {
        let (now, wanted) = (now.max(0), wanted.max(1));
        // What a thousand times as much would overflow is told as exactly without its last bits.
        let bits = if now.max(wanted) > i128::MAX >> 16 { 16 } else { 0 };
        Self { now: now >> bits, wanted: (wanted >> bits).max(1) }
    }

    /// Too much or too little.
    pub(super) fn direction(self) -> Ordering {
        self.now.cmp(&self.wanted)
    }

    pub(super) fn is_within(self, tolerance: Tolerance) -> bool {
        let now = self.now.saturating_mul(1_000);
        let bound = |thousandths: i128| self.wanted.saturating_mul(thousandths);
        now >= bound(1_000_i128.saturating_sub(tolerance.down))
            && now <= bound(tolerance.up.saturating_add(1_000))
    }

    /// So many times the ratio, rounded up.
    pub(super) fn times(self, count: i64) -> i64 {
        let product = self.now.saturating_mul(i128::from(count.max(0)));
        let rounded = product.saturating_add(self.wanted - 1) / self.wanted;
        i64::try_from(rounded).unwrap_or(MOST).min(MOST)
    }
}

/// What pods use together, and how many of them there should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i64,
    /// Hundredths of what is requested, if that is the goal.
    pub(super) utilization: Option<i128>,
    pub(super) average: i128,
}

/// What some pods use, and what they request.
type Amounts = Vec<(i128, i128)>;

/// How many pods there should be by what they use; `None` when not one of them can be judged. Pods that are not known are
/// taken to use what speaks against a change, and so are those that are not ready when there should be more.
pub(super) fn of_pods(
    samples: &[Sample],
    goal: Goal,
    current: i64,
    tolerance: Tolerance,
) -> Option<Proposal> {
    let measured = |sample: &Sample| match sample.state {
        State::Measured(value) => Some((value, sample.request)),
        State::Unready | State::Missing => None,
    };
    let mut amounts: Amounts = samples.iter().filter_map(measured).collect();
    let (first, mut proposal) = goal.judge(&amounts)?;
    proposal.replicas = current;
    let has = |state: &State| samples.iter().any(|sample| sample.state == *state);
    let more = first.direction() == Ordering::Greater;
    let counts_unready = more && has(&State::Unready);
    if !counts_unready && !has(&State::Missing) {
        if !first.is_within(tolerance) {
            proposal.replicas = first.times(count(&amounts));
        }
        return Some(proposal);
    }
    for sample in samples {
        let assumed = match (&sample.state, first.direction()) {
            (State::Missing, Ordering::Less) => goal.full(sample.request),
            (State::Missing, Ordering::Greater) => 0,
            (State::Unready, _) if counts_unready => 0,
            _ => continue,
        };
        amounts.push((assumed, sample.request));
    }
    let (second, _) = goal.judge(&amounts)?;
    let turns = first.direction() != Ordering::Equal && second.direction() == first.direction().reverse();
    if turns || second.is_within(tolerance) {
        return Some(proposal);
    }
    let replicas = second.times(count(&amounts));
    proposal.replicas = match second.direction() {
        Ordering::Less => replicas.min(current),
        Ordering::Equal => current,
        Ordering::Greater => replicas.max(current),
    };
    Some(proposal)
}

fn count(amounts: &Amounts) -> i64 {
    i64::try_from(amounts.len()).unwrap_or(MOST)
}

impl Goal {
    /// What a pod that is not known uses at most, as far as anybody expects.
    fn full(self, request: i128) -> i128 {
        match self {
            Self::Utilization(percent) => request.saturating_mul(percent.max(100)) / 100,
            Self::Average(amount) => amount,
        }
    }

    fn judge(self, amounts: &Amounts) -> Option<(Ratio, Proposal)> {
        let sum = |values: &mut dyn Iterator<Item = i128>| values.fold(0_i128, i128::saturating_add);
        let used = sum(&mut amounts.iter().map(|(used, _)| *used));
        let requested = sum(&mut amounts.iter().map(|(_, requested)| *requested));
        let average = used.checked_div(i128::from(count(amounts)))?;
        Some(match self {
            Self::Utilization(wanted) => {
                let percent = used.saturating_mul(100).checked_div(requested)?;
                let utilization = Some(percent);
                (Ratio::new(percent, wanted), Proposal { replicas: 0, utilization, average })
            }
            Self::Average(wanted) => {
                (Ratio::new(average, wanted), Proposal { replicas: 0, utilization: None, average })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Tolerance = Tolerance { up: 100, down: 100 };

    fn samples(measured: &[i128], unready: usize, missing: usize) -> Vec<Sample> {
        let sample = |state| Sample { request: 1_000, state };
        let mut all: Vec<_> = measured.iter().map(|value| sample(State::Measured(*value))).collect();
        all.extend((0..unready).map(|_| sample(State::Unready)));
        all.extend((0..missing).map(|_| sample(State::Missing)));
        all
    }

    fn proposed(
        measured: &[i128],
        (unready, missing): (usize, usize),
        percent: i128,
        current: i64,
    ) -> Option<i64> {
        let all = samples(measured, unready, missing);
        of_pods(&all, Goal::Utilization(percent), current, USUAL).map(|proposal| proposal.replicas)
    }

    #[test]
    fn the_ratio_of_usage_to_target_says_how_many() {
        for (measured, percent, expected) in [
            (&[500, 500, 500][..], 50, 3),
            (&[900, 900, 900], 30, 9),
            (&[100, 100, 100, 100], 50, 1),
            (&[250, 250, 250, 250], 50, 2),
            // Within a tenth.
            (&[550, 550, 550], 50, 3),
            (&[450, 450, 450], 50, 3),
            (&[560, 560, 560], 50, 4),
            (&[0, 0], 50, 0),
        ] {
            let current = i64::try_from(measured.len()).expect("few");
            assert_eq!(proposed(measured, (0, 0), percent, current), Some(expected), "{measured:?}");
        }
    }

    #[test]
    fn pods_that_are_not_ready_or_not_known_dampen_a_change() {
        // 3 at 180 % of the target would be 6, as those that are not ready use nothing 5 with one of them.
        assert_eq!(proposed(&[900, 900, 900], (1, 0), 50, 4), Some(6));
        assert_eq!(proposed(&[900, 900], (2, 0), 50, 4), Some(4), "a change that turns round is none");
        assert_eq!(proposed(&[900, 900], (1, 0), 50, 3), Some(4));
        assert_eq!(proposed(&[100, 100], (2, 0), 50, 4), Some(1), "they hold no shrinking up");
        assert_eq!(proposed(&[900, 900, 900], (0, 1), 50, 4), Some(6));
        assert_eq!(proposed(&[100, 100, 100], (0, 1), 50, 4), Some(3), "as if it used all that it requests");
        assert_eq!(proposed(&[100, 100], (0, 2), 50, 4), Some(4), "it might need more");
        assert_eq!(proposed(&[], (2, 2), 50, 4), None);
    }

    #[test]
    fn an_average_needs_no_request() {
        let goal = Goal::Average(200);
        let of = |measured: &[i128], unready, missing| {
            of_pods(&samples(measured, unready, missing), goal, 4, USUAL).map(|proposal| proposal.replicas)
        };
        assert_eq!(of(&[400, 400, 400, 400], 0, 0), Some(8));
        assert_eq!(of(&[100, 100, 100, 100], 0, 0), Some(2));
        assert_eq!(of(&[100, 100, 100], 0, 1), Some(3));
        assert_eq!(of(&[190, 200, 210], 0, 1), Some(4), "what is as it should be stays");
    }

    #[test]
    fn nothing_overflows() {
        let most = i128::from(u64::MAX) * 1_000;
        for goal in [Goal::Utilization(1), Goal::Average(1)] {
            let all = samples(&[most; 8], 1, 1);
            assert_eq!(of_pods(&all, goal, 10, USUAL).map(|proposal| proposal.replicas), Some(MOST));
        }
        let free = [Sample { request: 0, state: State::Measured(5) }];
        assert_eq!(of_pods(&free, Goal::Utilization(50), 1, USUAL), None, "of nothing there is no share");
        assert_eq!(Ratio::new(i128::MAX, 1).times(i64::MAX), MOST);
        assert!(Ratio::new(0, most).is_within(Tolerance { up: 0, down: i128::MAX }));
    }
}
