//! What a scalar of YAML is: the core schema of YAML 1.2 (<https://yaml.org/spec/1.2.2/#103-core-schema>).

use serde_json::{Number, Value};

/// A plain scalar without a tag.
pub(super) fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(number) = whole(text) {
        return Ok(Value::Number(number));
    }
    fraction(text).map(|number| number.map_or_else(|| Value::from(text), Value::Number))
}

/// A whole number of 64 bits; one that begins with a zero that it does not need is a text, as YAML 1.2 has it.
fn whole(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ => (digits, 10),
    };
    let padded = radix == 10 && digits.len() > 1 && digits.starts_with('0');
    // The parser of numbers would take a second sign.
    if padded || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0_i64.checked_sub_unsigned(size).map(Number::from) } else { Some(size.into()) }
}

/// Any other number. What JSON has no number for is refused.
fn fraction(text: &str) -> Result<Option<Number>, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err(format!("{text} is no number that JSON has: put it in quotes if it is a text"));
    }
    let form = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let digits = unsigned.bytes().filter(u8::is_ascii_digit).count();
    let padded = digits == unsigned.len() && unsigned.len() > 1 && unsigned.starts_with('0');
    if !form || digits == 0 || padded || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(None);
    }
    Ok(text.parse().ok().and_then(Number::from_f64))
}
