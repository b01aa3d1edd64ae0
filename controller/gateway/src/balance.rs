//! Which endpoint gets a request: the less busy one of two random choices. Pure.

use std::{net::SocketAddr, sync::Arc};

use crate::endpoint::Endpoint;

/// Chooses among `endpoints`, never one that was `tried`, and an ejected one only when all others are
/// ejected or tried too. `None` when every endpoint was tried, or there is none.
pub fn pick<'a>(
    endpoints: &'a [Arc<Endpoint>],
    tried: &[SocketAddr],
    now: u64,
    random: u64,
) -> Option<&'a Arc<Endpoint>> {
    let count = endpoints.len();
    if count == 0 {
        return None;
    }
    // Two different positions, from the two halves of the random number.
    let first = (random as u32 as usize) % count;
    let second = if count > 1 { (first + 1 + (random >> 32) as usize % (count - 1)) % count } else { first };
    let untried = |endpoint: &Endpoint| !tried.contains(&endpoint.address());
    let good = |endpoint: &Endpoint| !endpoint.is_ejected(now) && untried(endpoint);
    let (one, other) = (&endpoints[first], &endpoints[second]);
    if good(one) && good(other) {
        return Some(less_busy(one, other));
    }
    // Seldom: walk round from the random position, so that the neighbours of a bad endpoint share its load.
    let round = || endpoints[first..].iter().chain(&endpoints[..first]);
    choose(round().filter(|endpoint| good(endpoint)), random)
        .or_else(|| choose(round().filter(|endpoint| untried(endpoint)), random))
}

fn less_busy<'a>(one: &'a Arc<Endpoint>, other: &'a Arc<Endpoint>) -> &'a Arc<Endpoint> {
    if one.in_flight() <= other.in_flight() { one } else { other }
}

/// Power of two choices among the few that are left.
fn choose<'a>(candidates: impl Iterator<Item = &'a Arc<Endpoint>>, random: u64) -> Option<&'a Arc<Endpoint>> {
    let candidates: Vec<_> = candidates.collect();
    let count = candidates.len();
    match count {
        0 => None,
        1 => Some(candidates[0]),
        _ => {
            let first = (random >> 16) as usize % count;
            let second = (first + 1 + (random >> 40) as usize % (count - 1)) % count;
            Some(less_busy(candidates[first], candidates[second]))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::InFlight;

    fn endpoints(count: u8) -> Vec<Arc<Endpoint>> {
        (0..count).map(|last| Endpoint::new(([10, 42, 0, last], 80).into())).collect()
    }

    #[test]
    fn the_less_busy_of_two_is_chosen() {
        let endpoints = endpoints(2);
        let _load = InFlight::new(endpoints[0].clone());
        for random in [0, 1, u64::MAX, 7 << 32] {
            assert_eq!(pick(&endpoints, &[], 1, random).expect("one").address(), endpoints[1].address());
        }
    }

    #[test]
    fn ejected_endpoints_are_avoided_but_never_all() {
        let endpoints = endpoints(3);
        endpoints[0].failed(1);
        endpoints[1].failed(1);
        for random in 0..100 {
            assert_eq!(pick(&endpoints, &[], 2, random).expect("one").address(), endpoints[2].address());
        }
        endpoints[2].failed(1);
        assert!(pick(&endpoints, &[], 2, 5).is_some());
    }

    proptest! {
        #[test]
        fn a_choice_was_not_tried_and_is_not_worse_than_it_must_be(
            count in 0u8..8,
            ejected in prop::collection::btree_set(0u8..8, 0..8),
            tried in prop::collection::btree_set(0u8..8, 0..8),
            random: u64,
        ) {
            let endpoints = endpoints(count);
            for index in ejected.iter().filter(|index| **index < count) {
                endpoints[usize::from(*index)].failed(1);
            }
            let tried: Vec<SocketAddr> = tried.iter().map(|last| ([10, 42, 0, *last], 80).into()).collect();
            let left: Vec<_> = endpoints.iter().filter(|endpoint| !tried.contains(&endpoint.address())).collect();
            match pick(&endpoints, &tried, 2, random) {
                None => prop_assert!(left.is_empty()),
                Some(chosen) => {
                    prop_assert!(left.iter().any(|endpoint| Arc::ptr_eq(endpoint, chosen)));
                    prop_assert!(!chosen.is_ejected(2) || left.iter().all(|endpoint| endpoint.is_ejected(2)));
                }
            }
        }

        #[test]
        fn every_endpoint_gets_its_share(count in 2u8..7, seed: u64) {
            let endpoints = endpoints(count);
            let mut seen = BTreeSet::new();
            let mut random = seed | 1;
            for _ in 0..400 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                seen.insert(pick(&endpoints, &[], 1, random).expect("one").address());
            }
            prop_assert_eq!(seen.len(), usize::from(count));
        }
    }
}
