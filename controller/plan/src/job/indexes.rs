//! Sets of indexes, as a job's status and its policies write them: "1,3-5,7".

use std::fmt;

/// Indexes from 0 up, as ranges: there may be two billion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes {
    /// First and last of each, in order and apart.
    ranges: Vec<(i64, i64)>,
}

impl Indexes {
    /// Reads what a status or a policy says, as far as it says anything, below a bound.
    pub(super) fn parse(text: &str, below: i64) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
            let last = i64::from(last).min(below.saturating_sub(1));
            (i64::from(first) <= last).then_some((i64::from(first), last))
        };
        Self::of(text.split(',').filter_map(range).collect())
    }

    fn of(mut all: Vec<(i64, i64)>) -> Self {
        all.sort_unstable();
        let mut ranges: Vec<(i64, i64)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    /// With more of them.
    pub(super) fn with(mut self, more: impl IntoIterator<Item = i64>) -> Self {
        self.ranges.extend(more.into_iter().map(|index| (index, index)));
        Self::of(self.ranges)
    }

    /// With those of another set.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.ranges.extend(&other.ranges);
        Self::of(self.ranges)
    }

    pub(super) fn contains(&self, index: i64) -> bool {
        let place = self.ranges.partition_point(|(_, last)| *last < index);
        self.ranges.get(place).is_some_and(|(first, _)| *first <= index)
    }

    pub(super) fn count(&self) -> i64 {
        let sizes = self.ranges.iter().map(|(first, last)| last.saturating_sub(*first).saturating_add(1));
        sizes.fold(0, i64::saturating_add)
    }

    /// How many are in another set, too.
    pub(super) fn count_within(&self, other: &Self) -> i64 {
        let all = self.clone().and(other).count();
        self.count().saturating_add(other.count()).saturating_sub(all)
    }

    /// Those that are not in the set, in order, below a bound.
    pub(super) fn missing(&self, below: i64) -> impl Iterator<Item = i64> {
        let begins = std::iter::once(0).chain(self.ranges.iter().map(|(_, last)| last.saturating_add(1)));
        let ends = self.ranges.iter().map(|(first, _)| *first).chain([below]);
        begins.zip(ends).flat_map(move |(begin, end)| begin..end.min(below))
    }
}

/// Two that follow each other are written one by one, more as a range.
impl fmt::Display for Indexes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match last.saturating_sub(*first) {
                0 => write!(formatter, "{comma}{first}")?,
                1 => write!(formatter, "{comma}{first},{last}")?,
                _ => write!(formatter, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written_as_kubernetes_does() {
        for (text, written, count) in [
            ("", "", 0),
            ("3", "3", 1),
            ("7,1,3-5", "1,3-5,7", 5),
            ("0-1", "0,1", 2),
            ("1,2,3", "1-3", 3),
            ("5-4,x,-1,99-4000000000,4294967296", "99-999", 901),
        ] {
            let set = Indexes::parse(text, 1_000);
            assert_eq!((set.to_string().as_str(), set.count()), (written, count), "{text}");
            assert_eq!(Indexes::parse(&set.to_string(), 1_000), set);
        }
    }

    #[test]
    fn what_is_in_and_what_is_missing() {
        let set = Indexes::parse("1,3-5", 100).with([0, 7, 4]);
        assert_eq!(set.to_string(), "0,1,3-5,7");
        assert_eq!(set.missing(10).collect::<Vec<_>>(), [2, 6, 8, 9]);
        assert_eq!(set.missing(5).collect::<Vec<_>>(), [2]);
        assert!(set.contains(4) && !set.contains(6) && !set.contains(-1) && !set.contains(8));
        assert_eq!(set.count_within(&Indexes::parse("2-4,7-9", 100)), 3);
        assert_eq!(Indexes::default().missing(i64::from(i32::MAX)).nth(1_000), Some(1_000));
    }
}
