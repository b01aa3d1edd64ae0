//! `behavior`: how fast the target may grow and shrink.

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use warren_objects::quantity;

/// Thousandths by which a ratio may differ from 1 without a change.
const TOLERANCE: i128 = 100;
/// For how long the highest recommendation counts when the target shrinks.
const DOWN_WINDOW: i64 = 300;
/// The longest window and the longest period that the API takes.
const LONGEST_WINDOW: i64 = 3_600;
const LONGEST_PERIOD: i64 = 1_800;

/// Both directions.
pub(super) struct Behavior {
    pub(super) up: Rules,
    pub(super) down: Rules,
}

/// One direction.
pub(super) struct Rules {
    /// For how many seconds recommendations count.
    pub(super) window: i64,
    /// Thousandths.
    pub(super) tolerance: i128,
    pub(super) select: Select,
    pub(super) policies: Vec<Policy>,
}

/// Which of several policies is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Select {
    /// That which allows the largest change.
    Max,
    /// That which allows the smallest one.
    Min,
    /// None: there is no change.
    Disabled,
}

/// By how much the target may change in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) amount: Amount,
    pub(super) seconds: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Pods(i64),
    Percent(i64),
}

impl Behavior {
    pub(super) fn of(behavior: Option<&HorizontalPodAutoscalerBehavior>) -> Self {
        let every = |amount| Policy { amount, seconds: 15 };
        let (pods, percent) = (every(Amount::Pods(4)), every(Amount::Percent(100)));
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
        let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
        Self { up: Rules::of(up, 0, &[pods, percent]), down: Rules::of(down, DOWN_WINDOW, &[percent]) }
    }

    /// The longest window and the longest period, in seconds.
    pub(super) fn longest(&self) -> (i64, i64) {
        let both = [&self.up, &self.down];
        let window = both.iter().map(|rules| rules.window).max();
        let period = both.iter().flat_map(|rules| &rules.policies).map(|policy| policy.seconds).max();
        (window.unwrap_or(0), period.unwrap_or(0))
    }
}

impl Rules {
    fn of(given: Option<&HPAScalingRules>, window: i64, policies: &[Policy]) -> Self {
        let window = given.and_then(|given| given.stabilization_window_seconds).map_or(window, i64::from);
        let tolerance = given.and_then(|given| quantity::parse(&given.tolerance.as_ref()?.0).ok());
        let select = match given.and_then(|given| given.select_policy.as_deref()) {
            Some("Min") => Select::Min,
            Some("Disabled") => Select::Disabled,
            _ => Select::Max,
        };
        let given = given.and_then(|given| given.policies.as_ref()).filter(|given| !given.is_empty());
        let policies = given.map_or_else(
            || policies.to_vec(),
            |given| {
                let policy = |policy: &k8s_openapi::api::autoscaling::v2::HPAScalingPolicy| {
                    let value = i64::from(policy.value).max(0);
                    let percent = policy.type_ == "Percent";
                    Policy {
                        amount: if percent { Amount::Percent(value) } else { Amount::Pods(value) },
                        seconds: i64::from(policy.period_seconds).clamp(0, LONGEST_PERIOD),
                    }
                };
                given.iter().map(policy).collect()
            },
        );
        Self {
            window: window.clamp(0, LONGEST_WINDOW),
            tolerance: tolerance.unwrap_or(TOLERANCE).max(0),
            select,
            policies,
        }
    }
}
