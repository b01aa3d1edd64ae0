//! Sets of indexes as Jobs write them: "0,2-4".

/// First and last of each range, in order and below a bound; or what is wrong with the text.
pub(crate) fn parse(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = range(part, completions)?;
        if let Some((_, previous)) = ranges.last().filter(|(_, previous)| *previous >= first) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        ranges.push((first, last));
    }
    Ok(ranges)
}

fn range(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let ends: Vec<&str> = part.split('-').collect();
    if ends.len() > 2 {
        return Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        ));
    }
    let index = |text: &&str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    let numbers = ends.iter().map(index).collect::<Result<Vec<i64>, String>>()?;
    match numbers.as_slice() {
        [first, last] if first >= last => {
            Err(format!("non-increasing order, previous: {first}, current: {last}"))
        }
        [first, .., last] => Ok((*first, *last)),
        [index] => Ok((*index, *index)),
        [] => Err(format!("cannot convert string to integer for index: {part:?}")),
    }
}

/// How many there are.
pub(crate) fn count(ranges: &[(i64, i64)]) -> i64 {
    let sizes = ranges.iter().map(|(first, last)| last.saturating_sub(*first).saturating_add(1));
    sizes.fold(0, i64::saturating_add)
}

/// The first index that is in both.
pub(crate) fn shared(one: &[(i64, i64)], other: &[(i64, i64)]) -> Option<i64> {
    let (mut place, mut place_in_other) = (0_usize, 0_usize);
    while let (Some(left), Some(right)) = (one.get(place), other.get(place_in_other)) {
        if left.0 <= right.1 && right.0 <= left.1 {
            return Some(left.0.max(right.0));
        }
        if left.1 < right.1 {
            place = place.saturating_add(1);
        } else {
            place_in_other = place_in_other.saturating_add(1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_judged_in_the_words_of_kubernetes() {
        assert_eq!(parse("", 5), Ok(vec![]));
        assert_eq!(parse("0,2-4", 5), Ok(vec![(0, 0), (2, 4)]));
        for (text, fault) in [
            ("5", "too large index: \"5\""),
            ("1-9", "too large index: \"9\""),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            ("2,1", "non-increasing order, previous: 2, current: 1"),
            ("0-2,2", "non-increasing order, previous: 2, current: 2"),
            ("x", "cannot convert string to integer for index: \"x\""),
            ("1,", "cannot convert string to integer for index: \"\""),
            ("-1", "cannot convert string to integer for index: \"\""),
        ] {
            assert_eq!(parse(text, 5), Err(fault.to_owned()), "{text}");
        }
        assert!(parse("1-2-3", 5).is_err_and(|fault| fault.starts_with("the fragment \"1-2-3\" violates")));
    }

    #[test]
    fn what_two_sets_share() {
        let set = |text: &str| parse(text, 100).expect("good");
        assert_eq!(shared(&set("0-3,7"), &set("4-6,8")), None);
        assert_eq!(shared(&set("0,2-4"), &set("1,3")), Some(3));
        assert_eq!(shared(&set("0-50"), &set("9,60")), Some(9));
        assert_eq!(shared(&set(""), &set("1")), None);
        assert_eq!(count(&set("0-3,7")), 5);
    }
}
