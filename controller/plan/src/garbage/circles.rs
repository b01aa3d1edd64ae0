//! Who waits for himself? Owners that are deleted in the foreground wait for their dependents; in a circle of them
//! nobody would ever be the first to go.

use std::collections::{BTreeMap, BTreeSet};

/// Who waits, and for whom.
pub(crate) type Waits<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Everyone who lies on a circle, or between two of them. Linear, and without recursion: users tie the knots.
pub(crate) fn of<'a>(waits: &Waits<'a>) -> BTreeSet<&'a str> {
    let ahead = without_ends(waits);
    without_ends(&reversed(&ahead)).into_keys().collect()
}

/// Leaves out everyone who waits for nobody that is left.
fn without_ends<'a>(waits: &Waits<'a>) -> Waits<'a> {
    let waiters = reversed(waits);
    let within = |others: &BTreeSet<&str>| others.iter().filter(|other| waits.contains_key(**other)).count();
    let mut open: BTreeMap<&str, usize> =
        waits.iter().map(|(name, others)| (*name, within(others))).collect();
    let mut ends: Vec<&str> = open.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(end) = ends.pop() {
        open.remove(end);
        for waiter in waiters.get(end).into_iter().flatten() {
            if let Some(count) = open.get_mut(waiter) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ends.push(waiter);
                }
            }
        }
    }
    let left = |others: &BTreeSet<&'a str>| {
        others.iter().filter(|other| open.contains_key(**other)).copied().collect()
    };
    let kept = waits.iter().filter(|(name, _)| open.contains_key(**name));
    kept.map(|(name, others)| (*name, left(others))).collect()
}

/// Who is waited for, and by whom; those who wait are all in it.
fn reversed<'a>(waits: &Waits<'a>) -> Waits<'a> {
    let mut reversed: Waits<'a> = waits.keys().map(|name| (*name, BTreeSet::new())).collect();
    for (name, others) in waits {
        for other in others {
            if let Some(waiters) = reversed.get_mut(other) {
                waiters.insert(name);
            }
        }
    }
    reversed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(waits: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        let mut all = Waits::new();
        for (name, others) in waits {
            all.insert(name, others.split_whitespace().collect());
        }
        of(&all).into_iter().collect()
    }

    #[test]
    fn only_who_waits_for_himself_is_in_a_circle() {
        assert!(circles(&[]).is_empty());
        assert!(circles(&[("a", "b"), ("b", "c"), ("c", "absent")]).is_empty());
        assert_eq!(circles(&[("a", "a b"), ("b", "")]), ["a"]);
        assert_eq!(
            circles(&[("a", "c"), ("b", "a"), ("c", "b"), ("before", "a"), ("after", "")]),
            ["a", "b", "c"]
        );
        assert_eq!(
            circles(&[("a", "b"), ("b", "a"), ("x", "y"), ("y", "x"), ("z", "x a")]),
            ["a", "b", "x", "y"]
        );
    }

    #[test]
    fn a_long_chain_costs_no_stack() {
        let names: Vec<String> = (0..50_000).map(|index| index.to_string()).collect();
        let next = |index: usize| names.get(index + 1).map(String::as_str).into_iter().collect();
        let chain: Waits<'_> = names.iter().enumerate().map(|(i, name)| (name.as_str(), next(i))).collect();
        assert!(of(&chain).is_empty());
        let mut ring = chain;
        ring.insert(&names[49_999], BTreeSet::from([names[0].as_str()]));
        assert_eq!(of(&ring).len(), 50_000);
    }
}
