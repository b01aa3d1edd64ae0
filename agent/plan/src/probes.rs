//! What probe answers mean: thresholds, delays, periods. The asking is done elsewhere.

use std::time::Duration;

use jiff::Timestamp;
use warren_proto::control::{Container, Probe};

use super::model::after;

/// What a probe decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// Whether the container has come up; the others wait for it.
    Startup,
    /// Whether it must be restarted.
    Liveness,
    /// Whether it gets traffic.
    Readiness,
}

impl ProbeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The word in Kubernetes' messages.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
    /// The container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        let probe = match self {
            Self::Startup => container.startup.as_ref(),
            Self::Liveness => container.liveness.as_ref(),
            Self::Readiness => container.readiness.as_ref(),
        };
        probe.filter(|probe| probe.handler.is_some())
    }
}

/// What the answers so far amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracker {
    /// The verdict; none before a threshold was reached for the first time.
    pub verdict: Option<bool>,
    /// Equal answers in a row.
    pub run: u32,
    /// The last answer.
    pub last: Option<bool>,
    /// When it was last asked.
    pub asked_at: Option<Timestamp>,
}

impl Tracker {
    /// A tracker that takes over a verdict from before a restart of the agent.
    pub fn resumed(verdict: bool) -> Self {
        Self { verdict: Some(verdict), ..Self::default() }
    }

    /// When to ask next.
    pub fn due_at(&self, probe: &Probe, started: Timestamp) -> Timestamp {
        match self.asked_at {
            Some(asked) => after(asked, Duration::from_secs(or(probe.period_seconds, 10).into())),
            None => after(started, Duration::from_secs(probe.initial_delay_seconds.into())),
        }
    }

    /// Takes an answer in. True when the verdict changed.
    pub fn record(&mut self, probe: &Probe, answer: bool) -> bool {
        self.run = if self.last == Some(answer) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(answer);
        let threshold = if answer { or(probe.success_threshold, 1) } else { or(probe.failure_threshold, 3) };
        if self.run < threshold || self.verdict == Some(answer) {
            return false;
        }
        self.verdict = Some(answer);
        true
    }
}

/// The time-out of a probe.
pub fn timeout(probe: &Probe) -> Duration {
    Duration::from_secs(or(probe.timeout_seconds, 1).into())
}

/// Zero on the wire means that nothing was said: Kubernetes' default applies.
fn or(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(success: u32, failure: u32) -> Probe {
        Probe { success_threshold: success, failure_threshold: failure, ..Probe::default() }
    }

    #[test]
    fn a_verdict_needs_its_threshold_in_a_row() {
        let (spec, mut tracker) = (probe(2, 3), Tracker::default());
        let answers = [true, false, true, true, false, false, true, false, false, false, true];
        let verdicts: Vec<Option<bool>> = answers
            .into_iter()
            .map(|answer| {
                tracker.record(&spec, answer);
                tracker.verdict
            })
            .collect();
        let (n, t, f) = (None, Some(true), Some(false));
        assert_eq!(verdicts, [n, n, n, t, t, t, t, t, t, f, f]);
    }

    #[test]
    fn it_is_asked_after_the_initial_delay_and_then_each_period() {
        let spec = Probe { initial_delay_seconds: 5, period_seconds: 7, ..Probe::default() };
        let started = Timestamp::UNIX_EPOCH;
        let mut tracker = Tracker::default();
        assert_eq!(tracker.due_at(&spec, started).as_second(), 5);
        tracker.asked_at = Some(after(started, Duration::from_secs(6)));
        assert_eq!(tracker.due_at(&spec, started).as_second(), 13);
    }

    #[test]
    fn silence_on_the_wire_means_the_defaults_of_kubernetes() {
        let spec = Probe::default();
        let tracker = Tracker { asked_at: Some(Timestamp::UNIX_EPOCH), ..Tracker::default() };
        assert_eq!(tracker.due_at(&spec, Timestamp::UNIX_EPOCH).as_second(), 10);
        assert_eq!(timeout(&spec), Duration::from_secs(1));
    }
}
