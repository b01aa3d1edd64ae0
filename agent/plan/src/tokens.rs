//! When a token is asked for anew: before it ends, and not for all pods at one moment.
//!
//! Source: <https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken> (at 80 % of its life, or
//! after a day).

use std::time::Duration;

use jiff::Timestamp;

use super::model::after;

/// No token lives shorter: Kubernetes' own bound.
const SHORTEST_LIFE: Duration = Duration::from_secs(600);
/// However long it lives, it is renewed after this time.
const LONGEST_USE: Duration = Duration::from_secs(24 * 3_600);
/// Tokens that are due together are asked for over this time, or a twentieth of their life.
const SPREAD: Duration = Duration::from_secs(10);

/// How long a token lives from the moment at which it came, by its own word (`expires`) and by what was asked for.
///
/// The controller's clock may differ from ours. A token that seems to live longer than what was asked for does not, and
/// one that seems to live shorter than any token may does not either.
pub fn life(came: Timestamp, expires: Timestamp, asked_seconds: i64) -> Duration {
    let asked = Duration::from_secs(u64::try_from(asked_seconds).unwrap_or_default()).max(SHORTEST_LIFE);
    let told = Duration::try_from(expires.duration_since(came)).unwrap_or_default();
    told.clamp(SHORTEST_LIFE, asked)
}

/// When a token of this pod is asked for anew that came at `came` and lives for `life`.
pub fn due(uid: &str, came: Timestamp, life: Duration) -> Timestamp {
    let use_for = (life / 5).saturating_mul(4).min(LONGEST_USE);
    let spread = SPREAD.min(life / 20);
    after(came, use_for.saturating_sub(spread.mul_f64(share(uid))))
}

/// A share of one that is the pod's own.
fn share(uid: &str) -> f64 {
    let sum = uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    f64::from(sum % 1_000) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn seconds(span: Duration) -> u64 {
        span.as_secs()
    }

    #[test]
    fn it_is_renewed_before_a_fifth_of_its_life_is_left_and_at_least_daily() {
        for uid in ["", "a", "0123abcd-0000-0000-0000-000000000000"] {
            let of = |life: u64| due(uid, at(1_000), Duration::from_secs(life)).as_second() - 1_000;
            assert!((470..=480).contains(&of(600)), "{uid}: {}", of(600));
            assert!((2_875..=2_885).contains(&of(3_607)), "{uid}: {}", of(3_607));
            assert!((86_390..=86_400).contains(&of(1 << 32)), "{uid}: {}", of(1 << 32));
        }
        assert!(due("a", Timestamp::MAX, Duration::MAX) <= Timestamp::MAX, "no clock overflows");
    }

    #[test]
    fn pods_do_not_ask_all_at_once() {
        let due = |pod: u32| due(&format!("pod-{pod}"), at(0), Duration::from_secs(3_607)).as_millisecond();
        let moments: std::collections::BTreeSet<i64> = (0..100).map(due).collect();
        assert!(moments.len() > 50, "{}", moments.len());
    }

    #[test]
    fn clocks_that_differ_change_little() {
        let life = |came: i64, expires: i64, asked: i64| seconds(life(at(came), at(expires), asked));
        assert_eq!(life(0, 3_607, 3_607), 3_607);
        assert_eq!(life(0, 1_800, 3_607), 1_800, "the controller gave less than was asked for");
        assert_eq!(life(0, 7_200, 3_607), 3_607, "its clock is ahead of ours");
        assert_eq!(life(7_200, 3_607, 3_607), 600, "it is behind");
        assert_eq!(life(0, 0, -5), 600);
        assert_eq!(life(0, i64::from(u32::MAX), i64::MAX), u64::from(u32::MAX));
    }
}
