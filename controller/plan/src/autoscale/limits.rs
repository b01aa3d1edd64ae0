//! From what the metrics propose to a size: recent recommendations, rates, and the fewest and most pods.

use jiff::Timestamp;

use super::{
    record::ScalingRecord,
    rules::{Amount, Behavior, Policy, Rules, Select},
};

/// The most pods that any object may ask for: numbers of the API have 32 bits.
pub(super) const MOST: i64 = i32::MAX as i64;

/// Between what a size must stay, and from where it starts.
pub(super) struct Limits<'a> {
    pub(super) least: i64,
    pub(super) most: i64,
    pub(super) current: i64,
    pub(super) now: Timestamp,
    pub(super) behavior: &'a Behavior,
}

/// A reason and a message.
type Said = (&'static str, &'static str);

/// A size that keeps the limits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i64,
    pub(super) stabilized: Said,
    pub(super) is_limited: bool,
    pub(super) limit: Said,
}

const READY: Said = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Said = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Said = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_LIMIT: Said =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Said =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Said =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Said = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const WITHIN: Said = ("DesiredWithinRange", "the desired count is within the acceptable range");

impl Limits<'_> {
    pub(super) fn apply(&self, proposed: i64, record: &ScalingRecord) -> Limited {
        let stable = self.stabilize(proposed, record);
        let stabilized = match stable {
            stable if stable == proposed => READY,
            _ if proposed >= self.current => UP_STABILIZED,
            _ => DOWN_STABILIZED,
        };
        let (replicas, limit) = self.rate(stable, record);
        Limited { replicas, stabilized, is_limited: replicas != stable, limit }
    }

    /// The size stays where it is as long as it lies between the lowest and the highest of what was recommended lately.
    fn stabilize(&self, proposed: i64, record: &ScalingRecord) -> i64 {
        let (up, down) = (self.behavior.up.window, self.behavior.down.window);
        let lowest = record.recommended(self.now, up).fold(proposed, i64::min);
        let highest = record.recommended(self.now, down).fold(proposed, i64::max);
        self.current.max(lowest).min(highest)
    }

    fn rate(&self, wanted: i64, record: &ScalingRecord) -> (i64, Said) {
        if wanted > self.current {
            let fastest = self.fastest(&self.behavior.up, record, true).max(self.current);
            let (most, said) = if fastest < self.most { (fastest, UP_LIMIT) } else { (self.most, TOO_MANY) };
            if wanted > most {
                return (most, said);
            }
        } else if wanted < self.current {
            let fastest = self.fastest(&self.behavior.down, record, false).min(self.current);
            let (least, said) =
                if fastest > self.least { (fastest, DOWN_LIMIT) } else { (self.least, TOO_FEW) };
            if wanted < least {
                return (least, said);
            }
        }
        (wanted, WITHIN)
    }

    /// How far the policies of a direction let the size go by now. Each counts from the size at the beginning of its
    /// period.
    fn fastest(&self, rules: &Rules, record: &ScalingRecord, up: bool) -> i64 {
        let reach = |policy: &Policy| {
            let start = self.current.saturating_sub(record.grown(self.now, policy.seconds)).clamp(0, MOST);
            match (policy.amount, up) {
                (Amount::Pods(pods), true) => start.saturating_add(pods).min(MOST),
                (Amount::Pods(pods), false) => start.saturating_sub(pods).max(0),
                // Rounded so that the size changes at all.
                (Amount::Percent(percent), true) => {
                    let grown = start.saturating_mul(percent.saturating_add(100));
                    (grown.saturating_add(99) / 100).min(MOST)
                }
                (Amount::Percent(percent), false) => {
                    start.saturating_mul(100_i64.saturating_sub(percent).max(0)) / 100
                }
            }
        };
        let all = rules.policies.iter().map(reach);
        let reached = match (rules.select, up) {
            (Select::Disabled, _) => None,
            (Select::Max, true) | (Select::Min, false) => all.max(),
            (Select::Min, true) | (Select::Max, false) => all.min(),
        };
        reached.unwrap_or(self.current)
    }
}
