//! Kubernetes resource quantities ("100m", "1.5", "64Mi", "1e3") as exact numbers of thousandths.
//!
//! Thousandths (milli-units) are the finest grain anything here needs: processors are shared by the milli, memory by
//! the byte. Finer quantities ("1n", "1u") are rounded up, away from zero, as Kubernetes does.

use std::cmp::Ordering;

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form `<sign><number><suffix>`.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Syntax,
    /// The form is right, the number or its suffix is not ("1.2.3", "5Q").
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// Too large to be held.
    #[error("the quantity is out of range")]
    Range,
}

/// The quantity in thousandths: "1" is 1000, "100m" is 100, "1Ki" is 1 024 000.
pub fn parse(text: &str) -> Result<i128, QuantityError> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (mantissa, decimals) = mantissa(number)?;
    let (multiplier, exponent) = scale(suffix)?;
    let scaled = mantissa.checked_mul(multiplier).ok_or(QuantityError::Range)?;
    // The value in thousandths is scaled * 10^(exponent + 3 - decimals).
    let power = exponent + 3 - i32::try_from(decimals).map_err(|_| QuantityError::Range)?;
    let milli = shift(scaled, power)?;
    Ok(if negative { -milli } else { milli })
}

/// Digits without the point, and how many of them stood after it.
fn mantissa(number: &str) -> Result<(i128, usize), QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError::Syntax);
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok((0, 0));
    }
    Ok((digits.parse().map_err(|_| QuantityError::Range)?, fraction.len()))
}

/// A suffix as (binary multiplier, decimal exponent).
fn scale(suffix: &str) -> Result<(i128, i32), QuantityError> {
    Ok(match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        other => (1, decimal_exponent(other)?),
    })
}

/// The exponent of "e3", "E-2", "e+6".
fn decimal_exponent(suffix: &str) -> Result<i32, QuantityError> {
    let allowed = |c: char| c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c);
    if !suffix.chars().all(allowed) {
        return Err(QuantityError::Syntax);
    }
    let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Suffix);
    }
    let exponent: i32 = digits.parse().map_err(|_| QuantityError::Range)?;
    if exponent.abs() > 1000 { Err(QuantityError::Range) } else { Ok(exponent) }
}

/// `value * 10^power`, rounded up when digits are lost; `value` is not negative.
fn shift(value: i128, power: i32) -> Result<i128, QuantityError> {
    if value == 0 {
        return Ok(0);
    }
    if power >= 0 {
        let factor = 10i128.checked_pow(power.unsigned_abs()).ok_or(QuantityError::Range)?;
        return value.checked_mul(factor).ok_or(QuantityError::Range);
    }
    // A divisor that does not fit is larger than any value: a positive remainder rounds up to one.
    Ok(10i128.checked_pow(power.unsigned_abs()).map_or(1, |divisor| {
        let whole = value / divisor;
        if value % divisor == 0 { whole } else { whole + 1 }
    }))
}

/// Processor time in thousandths of a processor: "500m" is 500, "2" is 2000.
pub fn cpu_millis(text: &str) -> Result<i64, QuantityError> {
    i64::try_from(parse(text)?).map_err(|_| QuantityError::Range)
}

/// Bytes, rounded up: "1Ki" is 1024, "1.5k" is 1500.
pub fn bytes(text: &str) -> Result<i64, QuantityError> {
    let milli = parse(text)?;
    let whole = milli / 1000;
    let rounded = match milli % 1000 {
        0 => whole,
        rest => whole + rest.signum(),
    };
    i64::try_from(rounded).map_err(|_| QuantityError::Range)
}

/// Which of two quantities is the larger, by value and not by spelling ("1" equals "1000m").
pub fn compare(left: &str, right: &str) -> Result<Ordering, QuantityError> {
    Ok(parse(left)?.cmp(&parse(right)?))
}

/// A number of thousandths as Kubernetes writes it: with the largest suffix that leaves it whole.
pub fn written(milli: i128, binary: bool) -> String {
    // What is small is written as it is, and so are fractions, whose suffix is decimal.
    if binary && milli.unsigned_abs() >= 1_024_000 && milli % 1000 == 0 {
        return with_suffix(milli / 1000, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]);
    }
    with_suffix(milli, 1000, &["m", "", "k", "M", "G", "T", "P", "E"])
}

fn with_suffix(mut number: i128, step: i128, suffixes: &[&str]) -> String {
    let mut rest = suffixes.iter();
    let mut suffix = rest.next();
    while number % step == 0
        && let Some(larger) = rest.next()
    {
        number /= step;
        suffix = Some(larger);
    }
    if number == 0 { "0".to_owned() } else { format!("{number}{}", suffix.unwrap_or(&"")) }
}

/// A quantity as Kubernetes writes it: "0.5" is "500m". What is none stays as it is.
pub fn canonical(text: &str) -> String {
    parse(text).map_or_else(|_| text.to_owned(), |milli| written(milli, text.ends_with('i')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_quantity_is_written_in_one_way() {
        for (text, canonical_text) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("1000", "1k"),
            ("1024Ki", "1Mi"),
            ("1024", "1024"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("-2000", "-2k"),
            ("1e3", "1k"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(canonical(text), canonical_text, "{text}");
            assert_eq!(parse(&canonical(text)), parse(text), "{text}");
        }
    }

    #[test]
    fn spellings() {
        for (text, milli) in [
            ("0", 0),
            ("1", 1000),
            ("+1", 1000),
            ("-1", -1000),
            ("100m", 100),
            ("0.5", 500),
            (".5", 500),
            ("5.", 5000),
            ("1.001", 1001),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Ki", 1_536_000),
            ("1Mi", 1_048_576_000),
            ("1G", 1_000_000_000_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("12e-1", 1200),
            ("1u", 1),
            ("1n", 1),
            ("-1n", -1),
            ("1.0001m", 2),
            ("0.000000000000000000000000000001", 1),
            ("000.100", 100),
        ] {
            assert_eq!(parse(text), Ok(milli), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in
            ["", "-", ".", "abc", "1 Gi", "1.2.3", "1Q", "1e", "1e+", "1ee3", "--1", "1Kib", "1,5", "½", "1ü"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("1e999"), Err(QuantityError::Range));
        assert_eq!(parse("1e99999999999"), Err(QuantityError::Range));
        assert_eq!(bytes("100E"), Err(QuantityError::Range));
    }

    #[test]
    fn units() {
        assert_eq!(cpu_millis("1.5"), Ok(1500));
        assert_eq!(bytes("64Mi"), Ok(64 << 20));
        assert_eq!(bytes("1500m"), Ok(2));
        assert_eq!(compare("1", "1000m"), Ok(Ordering::Equal));
        assert_eq!(compare("1Gi", "1G"), Ok(Ordering::Greater));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,24}") {
            let _ = parse(&text);
            let _ = bytes(&text);
        }

        #[test]
        fn never_panics_near_the_grammar(text in "[+-]?[0-9.]{0,45}[eEinumkKMGTP]{0,2}[+-]?[0-9]{0,4}") {
            let _ = parse(&text);
        }

        #[test]
        fn milli_and_whole_agree(value in 0i64..1_000_000_000) {
            prop_assert_eq!(parse(&format!("{value}m")), Ok(i128::from(value)));
            prop_assert_eq!(parse(&value.to_string()), Ok(i128::from(value) * 1000));
            prop_assert_eq!(parse(&format!("{value}Ki")), Ok(i128::from(value) * 1_024_000));
            prop_assert_eq!(parse(&format!("{}.{:03}", value / 1000, value % 1000)), Ok(i128::from(value)));
        }
    }
}
