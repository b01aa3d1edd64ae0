//! When something that failed is tried again. Kubernetes' figures.

use std::time::Duration;

use warren_proto::control::RestartPolicy;

use super::model::{Instance, Kind};

/// The wait before the second restart in a row; it doubles from there.
pub const FIRST: Duration = Duration::from_secs(10);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran this long has recovered: its next crash counts as the first.
pub const RECOVERED: Duration = Duration::from_secs(600);

/// `first`, doubled `count - 1` times, at most `longest`. Nothing for a count of zero.
pub fn doubling(first: Duration, longest: Duration, count: u32) -> Duration {
    match count {
        0 => Duration::ZERO,
        count => first.saturating_mul(1_u32.checked_shl(count - 1).unwrap_or(u32::MAX)).min(longest),
    }
}

/// The wait before a container is started that follows `streak` crashes in a row: the first restart comes at once.
pub fn restart_delay(streak: u32) -> Duration {
    doubling(FIRST, LONGEST, streak.saturating_sub(1))
}

/// The wait after an image could not be fetched `count` times in a row.
pub fn pull_delay(count: u32) -> Duration {
    doubling(FIRST, LONGEST, count)
}

/// What follows after a container has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is not started again.
    Done,
    /// It is started again, after a wait.
    Restart {
        /// Crashes in a row, this one included.
        streak: u32,
        /// How long it waits after its end.
        delay: Duration,
    },
}

/// What follows after `dead` has ended. None when it has not.
pub fn next(dead: &Instance, image: &str, policy: RestartPolicy, sandbox: Option<&str>) -> Option<Next> {
    let exit = dead.exit()?;
    let same_sandbox = sandbox == Some(dead.sandbox.as_str());
    let done = match (dead.kind, exit.code) {
        // A new sandbox means that initialisation starts over.
        (Kind::Init, 0) if !same_sandbox => {
            return Some(Next::Restart { streak: 0, delay: Duration::ZERO });
        }
        (Kind::Init, 0) => true,
        (Kind::Init, _) => policy == RestartPolicy::Never,
        (_, code) => match policy {
            RestartPolicy::Always | RestartPolicy::Unspecified => false,
            RestartPolicy::OnFailure => code == 0,
            RestartPolicy::Never => true,
        },
    };
    if done {
        return Some(Next::Done);
    }
    let ran = exit.started.map_or(0, |started| exit.finished.duration_since(started).as_secs());
    let recovered = ran >= RECOVERED.as_secs() as i64;
    let streak = if recovered || dead.image != image { 1 } else { dead.streak.saturating_add(1) };
    Some(Next::Restart { streak, delay: restart_delay(streak) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_then_it_doubles_to_five_minutes() {
        let seconds: Vec<u64> = (0..9).map(|streak| restart_delay(streak).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(restart_delay(u32::MAX), LONGEST);
    }

    #[test]
    fn a_pull_waits_from_its_first_failure() {
        let seconds: Vec<u64> = (1..8).map(|count| pull_delay(count).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
    }
}
