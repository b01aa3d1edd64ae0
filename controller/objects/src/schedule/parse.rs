//! Reads schedules.

use jiff::SignedDuration;

use super::{Fields, Schedule};

/// The smallest and the largest value of each field, and names that stand for values.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

pub(super) fn schedule(text: &str) -> Result<Schedule, String> {
    if text.contains("TZ=") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    if let Some(descriptor) = text.strip_prefix('@') {
        if let Some(duration) = descriptor.strip_prefix("every ") {
            return every(duration).ok_or_else(|| {
                format!("failed to parse duration {text}: time: invalid duration \"{duration}\"")
            });
        }
        let known = DESCRIPTORS.iter().find(|(name, _)| *name == text);
        let (_, meaning) = known.ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
        return fields(meaning).map(Schedule::Fields);
    }
    fields(text).map(Schedule::Fields)
}

fn fields(text: &str) -> Result<Fields, String> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        let shown = format!("[{}]", parts.join(" "));
        return Err(format!("expected exactly 5 fields, found {}: {shown}", parts.len()));
    }
    let mut found = [Values::default(); FIELDS.len()];
    for ((values, part), (least, most, names)) in found.iter_mut().zip(parts).zip(FIELDS) {
        for part in part.split(',') {
            let more = range(part, least, most, names)?;
            values.bits |= more.bits;
            values.all |= more.all;
        }
    }
    let [minutes, hours, days, months, weekdays] = found;
    Ok(Fields {
        minutes: minutes.bits,
        hours: hours.bits,
        days: days.bits,
        months: months.bits,
        weekdays: weekdays.bits,
        both_days: days.all || weekdays.all,
    })
}

/// Which values a field has.
#[derive(Clone, Copy, Default)]
struct Values {
    bits: u64,
    /// It says nothing: `*` or `?`.
    all: bool,
}

/// A duration in Go's form, "1h30m", rounded down to seconds and at least one.
fn every(mut text: &str) -> Option<Schedule> {
    const UNITS: [(&str, i128); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut total: i128 = 0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let (_, size) = UNITS.iter().find(|(unit, _)| {
            rest.strip_prefix(unit)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()))
        })?;
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = format!("{whole}{fraction}");
        let places = u32::try_from(fraction.len()).ok()?;
        let amount = digits.parse::<i128>().ok()?.checked_mul(*size)? / 10_i128.checked_pow(places)?;
        total = total.checked_add(amount)?;
        text = rest.get(unit..)?;
    }
    // Go counts durations in nanoseconds of 64 bits.
    let nanoseconds = i64::try_from(total).ok()?;
    Some(Schedule::Every(SignedDuration::from_secs((nanoseconds / 1_000_000_000).max(1))))
}

/// `*`, `?`, `N`, `N-M`, each with an optional `/STEP`.
fn range(part: &str, least: u32, most: u32, names: &[&str]) -> Result<Values, String> {
    let pieces: Vec<&str> = part.split('/').collect();
    let (expression, step) = match pieces.as_slice() {
        [expression] => (*expression, None),
        [expression, step] => (*expression, Some(number(step, &[])?)),
        _ => return Err(format!("too many slashes: {part}")),
    };
    if step == Some(0) {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let all = ["*", "?"].contains(&expression);
    let ends: Vec<&str> = expression.split('-').collect();
    let value = |text: &str| number(text, names);
    let (start, end) = match ends.as_slice() {
        _ if all => (least, most),
        [one] => (value(one)?, if step.is_some() { most } else { value(one)? }),
        [first, last] => (value(first)?, value(last)?),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    if start < least {
        return Err(format!("beginning of range ({start}) below minimum ({least}): {part}"));
    }
    if end > most {
        return Err(format!("end of range ({end}) above maximum ({most}): {part}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    let step = step.unwrap_or(1);
    let chosen = (start..=end).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    // With a step it says something.
    Ok(Values { bits: chosen.fold(0, |bits, value| bits | 1_u64 << value), all: all && step == 1 })
}

/// A number, or a name that stands for one.
fn number(text: &str, names: &[&str]) -> Result<u32, String> {
    let known = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    if let Some(index) = known.and_then(|index| u32::try_from(index).ok()) {
        // Months are counted from 1, days of the week from 0.
        return Ok(if names.len() == 12 { index + 1 } else { index });
    }
    let parsed = text.strip_prefix('-').map_or_else(|| text.parse::<u32>(), |_| "x".parse());
    parsed.map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::super::faults;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 0-23/2 1,15 jan-Mar MON-fri",
            "0 0 ? * 0",
            "@hourly",
            "@every 1h30m",
            "@every 1.5h",
            "@every 90s500ms",
            "59 23 31 12 6",
            "5/15 * * * *",
            "*/4000000000 * * * *",
        ] {
            assert_eq!(faults(good), Vec::<String>::new(), "{good}");
        }
        for (bad, message) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("TZ=UTC 0 * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
        ] {
            assert_eq!(faults(bad), [message], "{bad}");
        }
        for strange in [
            "",
            "@",
            "@every ",
            "@every 1",
            "@every h",
            "@every 1.2.3h",
            "@every 1x",
            "@every 99999999999h",
            "- - - - -",
            "1-2-3 * * * *",
            "ü * * * *",
            "99999999999 * * * *",
        ] {
            assert_eq!(faults(strange).len(), 1, "{strange}");
        }
    }
}
