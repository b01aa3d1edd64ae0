//! Time for deadlines, delays and back-offs: it begins as the machine's and then only passes.
//!
//! A machine's clock is set: by NTP after a boot, by hand, after a suspended virtual machine wakes. No grace, no
//! back-off and no probe may take a day longer, or end at once, for that. What is said to people (when a container
//! began) stays in the words of the machine's clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A clock that nobody can set.
#[derive(Debug)]
pub(crate) struct Clock {
    at: Timestamp,
    begun: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { at: Timestamp::now(), begun: Instant::now() }
    }
}

impl Clock {
    /// The time now; the difference of two answers is what has truly passed.
    pub(crate) fn now(&self) -> Timestamp {
        self.at.checked_add(self.begun.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

/// When something happened, by a clock that shows `now` while the machine's shows `machine`, if the machine's
/// showed `said` then. Never in the future: that would be a machine's clock that was set back since.
pub(crate) fn moment(now: Timestamp, machine: Timestamp, said: Timestamp) -> Timestamp {
    let age = Duration::try_from(machine.duration_since(said)).unwrap_or_default();
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_moment_is_as_old_as_it_is_said_to_be_and_never_in_the_future() {
        assert_eq!(moment(at(1_000), at(1_000), at(990)), at(990));
        assert_eq!(moment(at(1_000), at(90_000), at(89_990)), at(990), "the machine's clock was set before");
        assert_eq!(moment(at(1_000), at(500), at(990)), at(1_000), "it was set back since");
    }

    #[test]
    fn it_passes() {
        let clock = Clock::default();
        let first = clock.now();
        std::thread::yield_now();
        assert!(clock.now() >= first && clock.now() < after_an_hour(first));
    }

    fn after_an_hour(moment: Timestamp) -> Timestamp {
        moment.checked_add(Duration::from_secs(3_600)).expect("in range")
    }
}
