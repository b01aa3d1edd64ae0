//! Which endpoints share a slice? Those whose addresses are near: the space of addresses is halved until no part has more
//! than a slice may hold. So it depends on the endpoints alone, and one that comes or goes changes one slice, or, where a
//! part gets too full, cuts one in two.

use std::ops::Range;

/// How many endpoints a slice holds.
const SIZE: usize = 100;
/// What Kubernetes allows.
const MOST: usize = 1_000;

/// How many endpoints a slice may hold, of so many in at most so many slices: each repeats the service's ports.
pub(super) fn size(endpoints: usize, slices: usize) -> usize {
    // Halving fills a slice to a half at least, on an average.
    let needed = endpoints.saturating_mul(2).div_ceil(slices.max(1));
    needed.clamp(SIZE, MOST)
}

/// The parts of a sorted list of addresses, each with a name that stays the same as long as the part does. The whole has
/// an empty one.
pub(super) fn cut(addresses: &[u32], size: usize) -> Vec<(String, Range<usize>)> {
    let mut parts = Vec::new();
    let mut open = vec![(String::new(), 0..addresses.len(), u32::BITS)];
    while let Some((name, range, bits)) = open.pop() {
        let within = &addresses[range.clone()];
        if within.len() <= size {
            parts.push((name, range));
            continue;
        }
        let Some(bit) = bits.checked_sub(1) else {
            parts.extend(of_one_address(&name, range, size));
            continue;
        };
        let ones = within.partition_point(|address| address >> bit & 1 == 0);
        let middle = range.start + ones;
        for (digit, half) in [('1', middle..range.end), ('0', range.start..middle)] {
            if !half.is_empty() {
                open.push((format!("{name}{digit}"), half, bit));
            }
        }
    }
    parts
}

/// Pods in the network of their node have one address together.
fn of_one_address(
    name: &str,
    range: Range<usize>,
    size: usize,
) -> impl Iterator<Item = (String, Range<usize>)> {
    range.clone().step_by(size.max(1)).enumerate().map(move |(index, start)| {
        let end = start.saturating_add(size).min(range.end);
        (format!("{name}.{index}"), start..end)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_endpoints_are_one_slice() {
        assert_eq!(cut(&[], SIZE), [(String::new(), 0..0)]);
        let hundred: Vec<u32> = (0..100).collect();
        assert_eq!(cut(&hundred, SIZE), [(String::new(), 0..100)]);
        assert_eq!(cut(&[7; 250], SIZE).len(), 3, "pods that share an address");
        assert_eq!(
            [size(0, 20_000), size(50_000, 20_000), size(50_000, 200), size(50_000, 1)],
            [100, 100, 500, MOST]
        );
    }

    #[test]
    fn slices_of_a_cluster_that_is_filled_evenly_are_not_small() {
        let addresses: Vec<u32> =
            (0..5_000_u32).map(|pod| (10 << 24) + ((pod / 10) << 8) + 2 + pod % 10).collect();
        let parts = cut(&addresses, SIZE);
        assert!(parts.len() <= 2 * addresses.len() / SIZE, "{}", parts.len());
    }

    proptest! {
        /// Every endpoint is in one slice, none is too large, and one more endpoint changes few of them.
        #[test]
        fn one_endpoint_changes_one_slice(
            addresses in prop::collection::btree_set(0u32..4_000, 0..600),
            more in 0u32..4_000,
        ) {
            let named = |addresses: &BTreeSet<u32>| {
                let list: Vec<u32> = addresses.iter().copied().collect();
                let parts = cut(&list, SIZE).into_iter();
                let parts: BTreeSet<(String, Vec<u32>)> = parts.map(|(name, range)| (name, list[range].to_vec())).collect();
                parts
            };
            let before = named(&addresses);
            prop_assert!(before.iter().all(|(_, part)| part.len() <= SIZE));
            let all: Vec<u32> = addresses.iter().copied().collect();
            let mut held: Vec<u32> = before.iter().flat_map(|(_, part)| part.clone()).collect();
            held.sort_unstable();
            prop_assert_eq!(held, all);
            let mut grown = addresses.clone();
            grown.insert(more);
            let after = named(&grown);
            prop_assert!(before.difference(&after).count() <= 1);
            let parents = before.difference(&after).map(|(name, _)| name.len()).next().unwrap_or(0);
            prop_assert!(after.difference(&before).all(|(name, _)| name.len() >= parents));
        }
    }
}
