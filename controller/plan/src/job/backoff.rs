//! When may pods that failed be replaced? Later with each failure in a row.

use jiff::Timestamp;
use serde_json::Value;
use warren_state::at;

use super::tally::{Member, State};
use crate::object;

/// How many seconds the first failure is waited after; twice as long after each further one.
const FIRST: i64 = 10;
/// The longest, in seconds.
pub(super) const LONGEST: i64 = 360;

/// How many seconds to wait after so many failures in a row.
fn pause(failures: i64) -> i64 {
    if failures <= 0 {
        return 0;
    }
    // No pause is doubled that often.
    let doublings = u32::try_from(failures.saturating_sub(1).min(30)).unwrap_or(30);
    FIRST.saturating_mul(2_i64.saturating_pow(doublings)).min(LONGEST)
}

/// When a pod ended: its last container, or else when it was said, or asked for.
fn ended_at(member: &Member<'_>) -> Timestamp {
    let value = &member.pod.object.value;
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let containers = at(value, "/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
    let stops = containers.filter_map(|container| time(at(container, "/state/terminated/finishedAt")?));
    let said = || {
        let ready = object::condition(value, "Ready").filter(|ready| ready["status"] != "True")?;
        time(&ready["lastTransitionTime"])
    };
    stops
        .max()
        .or_else(|| object::deletion_began(member.pod.object))
        .or_else(said)
        .unwrap_or_else(|| object::created_at(member.pod.object))
}

/// When pods may be made again, by those that have ended: after the failures since the last success. A pod of which
/// nothing is counted, because it was not needed, has not failed.
pub(super) fn due<'m>(members: impl Iterator<Item = &'m Member<'m>> + Clone) -> Option<Timestamp> {
    let succeeded = members.clone().filter(|member| member.state == State::Succeeded);
    let success = succeeded.map(ended_at).max();
    let is_failure =
        |member: &&Member<'_>| member.state == State::Failed && (member.tracked || !member.pod.deleting());
    let failures = members.filter(is_failure).map(ended_at);
    let failures = failures.filter(|at| success.is_none_or(|success| *at > success));
    let (count, last) = failures.fold((0_i64, None), |(count, last), at| {
        (count.saturating_add(1), Some(last.map_or(at, |last: Timestamp| last.max(at))))
    });
    last.map(|last| object::later(last, pause(count)))
}

/// When an index may be tried again whose pod failed, the last of so many.
pub(super) fn due_after(member: &Member<'_>, failures: i64) -> Timestamp {
    object::later(ended_at(member), pause(failures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_six_minutes() {
        let all: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 7, 99, i64::MAX].into_iter().map(pause).collect();
        assert_eq!(all, [0, 10, 20, 40, 80, 160, 320, 360, 360, 360]);
    }
}
