//! Types whose JSON is not that of their fields.

use jiff::{SignedDuration, civil};
use serde_json::Value;

use super::{Fault, wire::Reader};
use crate::text;

/// Seconds and nanoseconds of a `Timestamp`; `None` for Go's zero time, which is written as nothing.
fn timestamp(data: &[u8]) -> Result<Option<(i64, i32)>, Fault> {
    if data.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => seconds = payload.varint()? as i64,
            2 => nanos = payload.varint()? as i32,
            _ => {}
        }
    }
    Ok(Some((seconds, nanos)))
}

/// RFC 3339 has four digits for the year. (`jiff::Timestamp` ends a day before the year 9999 does.)
fn moment(seconds: i64, micros: i64) -> Result<civil::DateTime, Fault> {
    let range = || Fault::Range(format!("{seconds} s is not a time between the years 0 and 9999"));
    let since = SignedDuration::from_secs(seconds).checked_add(SignedDuration::from_micros(micros));
    let epoch = civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let moment = since.and_then(|since| epoch.checked_add(since).ok()).ok_or_else(range)?;
    if moment.year() < 0 { Err(range()) } else { Ok(moment) }
}

/// `2026-01-02T03:04:05Z`. Fractions are dropped, as everywhere in Kubernetes.
pub(super) fn time(data: &[u8]) -> Result<Option<String>, Fault> {
    let Some((seconds, _)) = timestamp(data)? else { return Ok(None) };
    Ok(Some(format!("{}Z", seconds_text(moment(seconds, 0)?))))
}

/// `2026-01-02T03:04:05.000006Z`.
pub(super) fn micro_time(data: &[u8]) -> Result<Option<String>, Fault> {
    let Some((seconds, nanos)) = timestamp(data)? else { return Ok(None) };
    let moment = moment(seconds, i64::from(nanos / 1000))?;
    let micros = moment.subsec_nanosecond() / 1000;
    Ok(Some(format!("{}.{micros:06}Z", seconds_text(moment))))
}

fn seconds_text(at: civil::DateTime) -> String {
    let (year, month, day) = (at.year(), at.month(), at.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

/// The first field of a message, a number.
fn first_number(data: &[u8]) -> Result<i64, Fault> {
    let mut value = 0;
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        if number == 1 {
            value = payload.varint()? as i64;
        }
    }
    Ok(value)
}

/// The first field of a message, a text.
fn first_bytes(data: &[u8]) -> Result<&[u8], Fault> {
    let mut value: &[u8] = &[];
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        if number == 1 {
            value = payload.bytes()?;
        }
    }
    Ok(value)
}

/// Nanoseconds in Go's spelling: the largest units first, fractions of the last without trailing zeros.
pub(super) fn duration(data: &[u8]) -> Result<String, Fault> {
    let nanos = first_number(data)?;
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let text = match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{size}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(size, 1_000_000)),
        _ => {
            let minutes = size / 60_000_000_000;
            let seconds = fraction(size % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    Ok(format!("{sign}{text}"))
}

/// `size / unit` as a decimal number without trailing zeros; `unit` is a power of ten.
fn fraction(size: u64, unit: u64) -> String {
    let (whole, rest) = (size / unit, size % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let rest = format!("{rest:0digits$}");
    format!("{whole}.{}", rest.trim_end_matches('0'))
}

/// The client's spelling.
pub(super) fn quantity(data: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(first_bytes(data)?).map_err(|_| Fault::NotUtf8)?;
    Ok(if text.is_empty() { "0" } else { text })
}

/// Field 1 says which of the others counts.
pub(super) fn int_or_string(data: &[u8]) -> Result<Value, Fault> {
    let (mut which, mut number, mut text) = (0, 0, "");
    let mut reader = Reader::new(data);
    while let Some((field, payload)) = reader.field()? {
        match field {
            1 => which = payload.varint()?,
            2 => number = payload.varint()? as i32,
            3 => text = payload.text()?,
            _ => {}
        }
    }
    match which {
        0 => Ok(Value::from(number)),
        1 => Ok(Value::from(text)),
        other => Err(Fault::Range(format!("{other} is neither 0 (a number) nor 1 (a text)"))),
    }
}

/// JSON that travels as it is; `None` when there is none, or null.
pub(super) fn json(data: &[u8]) -> Result<Option<Value>, Fault> {
    let bytes = first_bytes(data)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let read = text::json(bytes).map_err(|fault| match fault {
        text::Fault::Syntax(why) => Fault::NotJson(why),
        text::Fault::TooLarge(_) => Fault::TooLarge,
    })?;
    Ok(Some(read.value).filter(|value| !value.is_null()))
}

/// How many values are in a value; `None` when it has more than so many levels.
pub(super) fn size(value: &Value, levels: usize) -> Option<usize> {
    let mut total = 1;
    let (map, list) = (value.as_object(), value.as_array());
    for below in map.into_iter().flat_map(|map| map.values()).chain(list.into_iter().flatten()) {
        total += size(below, levels.checked_sub(1)?)?;
    }
    Some(total)
}
