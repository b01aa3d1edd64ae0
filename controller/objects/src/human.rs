//! Durations and ages as kubectl prints them.

use jiff::Timestamp;
use serde_json::Value;

/// Kubernetes' HumanDuration of whole seconds: `45s`, `2m3s`, `5h`, `3d4h`, `2y10d`.
pub(crate) fn duration(seconds: i64) -> String {
    // A clock that is slightly behind is not worth a complaint.
    match seconds {
        i64::MIN..=-2 => return "<invalid>".to_owned(),
        -1..=0 => return "0s".to_owned(),
        1..=119 => return format!("{seconds}s"),
        _ => {}
    }
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => pair(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

fn pair(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// A timestamp of an object.
pub(crate) fn timestamp(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// How long ago something happened; `<unknown>` when it is not said.
pub(crate) fn since(value: &Value, now: Timestamp) -> String {
    timestamp(value)
        .map_or_else(|| "<unknown>".to_owned(), |then| duration(now.as_second() - then.as_second()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (119, "119s"),
            (120, "2m"),
            (123, "2m3s"),
            (10 * MINUTE - 1, "9m59s"),
            (10 * MINUTE, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (5 * HOUR, "5h"),
            (5 * HOUR + 7 * MINUTE, "5h7m"),
            (8 * HOUR + 7 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY, "2d"),
            (3 * DAY + 4 * HOUR, "3d4h"),
            (8 * DAY + 4 * HOUR, "8d"),
            (729 * DAY, "729d"),
            (740 * DAY, "2y10d"),
            (730 * DAY, "2y"),
            (9 * 365 * DAY, "9y"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn ages() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        assert_eq!(since(&json!("2026-11-22T11:58:00Z"), now), "2m");
        assert_eq!(since(&json!("2026-11-22T11:58:00.123456Z"), now), "2m");
        assert_eq!(since(&json!(null), now), "<unknown>");
        assert_eq!(since(&json!("yesterday"), now), "<unknown>");
    }
}
