//! The form of a CronJob's schedule: five fields, or a descriptor.

/// The smallest and the largest value of each field, and names that stand for values.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule, in the words of the parser that Kubernetes uses.
pub(crate) fn schedule(text: &str) -> Vec<String> {
    judge(text.trim()).err().into_iter().collect()
}

fn judge(text: &str) -> Result<(), String> {
    if text.contains("TZ=") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    if let Some(descriptor) = text.strip_prefix('@') {
        return match descriptor.strip_prefix("every ") {
            Some(duration) => every(duration, text),
            None if DESCRIPTORS.contains(&text) => Ok(()),
            None => Err(format!("unrecognized descriptor: {text}")),
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let shown = format!("[{}]", fields.join(" "));
        return Err(format!("expected exactly 5 fields, found {}: {shown}", fields.len()));
    }
    for (field, (least, most, names)) in fields.iter().zip(FIELDS) {
        for part in field.split(',') {
            range(part, least, most, names)?;
        }
    }
    Ok(())
}

/// A duration of whole units: "1h30m".
fn every(duration: &str, text: &str) -> Result<(), String> {
    let good = !duration.is_empty()
        && duration.ends_with(['h', 'm', 's'])
        && duration.starts_with(|c: char| c.is_ascii_digit())
        && duration.chars().all(|c| c.is_ascii_digit() || ".hms".contains(c));
    if good {
        Ok(())
    } else {
        Err(format!("failed to parse duration {text}: time: invalid duration \"{duration}\""))
    }
}

/// `*`, `?`, `N`, `N-M`, each with an optional `/STEP`.
fn range(part: &str, least: u32, most: u32, names: &[&str]) -> Result<(), String> {
    let pieces: Vec<&str> = part.split('/').collect();
    let (expression, step) = match pieces.as_slice() {
        [expression] => (*expression, None),
        [expression, step] => (*expression, Some(*step)),
        _ => return Err(format!("too many slashes: {part}")),
    };
    if let Some(step) = step
        && number(step, &[])? == 0
    {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if ["*", "?"].contains(&expression) {
        return Ok(());
    }
    let ends: Vec<&str> = expression.split('-').collect();
    let value = |text: &str| number(text, names);
    let (start, end) = match ends.as_slice() {
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
    Ok(())
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
    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 0-23/2 1,15 jan-Mar MON-fri",
            "0 0 ? * 0",
            "@hourly",
            "@every 1h30m",
            "59 23 31 12 6",
            "5/15 * * * *",
        ] {
            assert_eq!(schedule(good), Vec::<String>::new(), "{good}");
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
            assert_eq!(schedule(bad), [message], "{bad}");
        }
        for strange in ["", "@", "@every ", "- - - - -", "1-2-3 * * * *", "ü * * * *", "99999999999 * * * *"]
        {
            assert_eq!(schedule(strange).len(), 1, "{strange}");
        }
    }
}
