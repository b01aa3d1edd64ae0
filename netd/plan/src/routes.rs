//! Routes into the overlay, recognised by a protocol number of their own.
//!
//! Every route names the member's overlay address as its preferred source: WireGuard drops what comes from
//! elsewhere. Cluster addresses that nobody holds are unreachable, so that they never leak to the underlay.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::world::{Network, Peer};

/// The route protocol number that marks a route as Warren's.
pub const PROTOCOL: u8 = 0x57;

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Out of a link, directly.
    Link {
        /// The link's index.
        index: u32,
        /// The preferred source.
        source: Option<Ipv4Addr>,
    },
    /// Nowhere: the sender is told.
    Unreachable,
}

/// Routes by destination.
pub type Routes = BTreeMap<Ipv4Net, Via>;

/// One step towards the desired routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteChange {
    /// Adds the route or replaces the one to the same destination.
    Replace(Ipv4Net, Via),
    /// Removes an orphan.
    Remove(Ipv4Net, Via),
}

impl RouteChange {
    /// Whether the change takes something away.
    pub fn is_removal(&self) -> bool {
        matches!(self, Self::Remove(..))
    }
}

impl fmt::Display for RouteChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replace(destination, Via::Link { index, .. }) => {
                write!(f, "route {destination} to link {index}")
            }
            Self::Replace(destination, Via::Unreachable) => write!(f, "make {destination} unreachable"),
            Self::Remove(destination, _) => write!(f, "remove the route to {destination}"),
        }
    }
}

/// The routes a member should have: cluster, services, peers, and its own pods by their links.
pub fn desired<'a>(
    network: &Network,
    tunnel: u32,
    peers: impl IntoIterator<Item = &'a Peer>,
    pods: &BTreeMap<Ipv4Addr, u32>,
) -> Routes {
    to(network, tunnel, peers.into_iter().map(|peer| peer.pod_cidr.network()), pods)
}

/// The same, by the peers' networks.
pub(crate) fn to(
    network: &Network,
    tunnel: u32,
    peers: impl IntoIterator<Item = Ipv4Net>,
    pods: &BTreeMap<Ipv4Addr, u32>,
) -> Routes {
    let overlay = |index| Via::Link { index, source: Some(network.address) };
    let mut routes =
        Routes::from([(network.cluster_cidr, Via::Unreachable), (network.service_cidr, overlay(tunnel))]);
    routes.extend(peers.into_iter().map(|peer| (peer, overlay(tunnel))));
    routes.extend(pods.iter().map(|(address, index)| (Ipv4Net::from(*address), overlay(*index))));
    routes
}

/// What must change. Replacements come first: a destination is never without a route in between.
pub fn plan(desired: &Routes, observed: &BTreeSet<(Ipv4Net, Via)>) -> Vec<RouteChange> {
    let missing = desired
        .iter()
        .filter(|(destination, via)| !observed.contains(&(**destination, **via)))
        .map(|(destination, via)| RouteChange::Replace(*destination, *via));
    // A route to a destination we want goes away by being replaced.
    let orphans = observed
        .iter()
        .filter(|(destination, _)| !desired.contains_key(destination))
        .map(|(destination, via)| RouteChange::Remove(*destination, *via));
    missing.chain(orphans).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn via() -> impl Strategy<Value = Via> {
        prop_oneof![
            Just(Via::Unreachable),
            (1u32..4, proptest::option::of(0u32..3))
                .prop_map(|(index, source)| Via::Link { index, source: source.map(Ipv4Addr::from) }),
        ]
    }

    fn routes() -> impl Strategy<Value = Routes> {
        let destination = (0u32..6).prop_map(|n| Ipv4Net::new_assert(Ipv4Addr::from(n << 8), 24));
        proptest::collection::btree_map(destination, via(), 0..6)
    }

    fn apply(observed: &mut BTreeSet<(Ipv4Net, Via)>, change: RouteChange) {
        match change {
            RouteChange::Replace(destination, via) => {
                observed.retain(|(known, _)| *known != destination);
                observed.insert((destination, via));
            }
            RouteChange::Remove(destination, via) => {
                observed.remove(&(destination, via));
            }
        }
    }

    proptest! {
        #[test]
        fn converges_stably_and_crash_safely(desired in routes(), start in routes(), stop in 0usize..12) {
            let mut observed: BTreeSet<_> = start.into_iter().collect();
            for change in plan(&desired, &observed).into_iter().take(stop) {
                apply(&mut observed, change);
            }
            for change in plan(&desired, &observed) {
                apply(&mut observed, change);
            }
            prop_assert_eq!(plan(&desired, &observed), vec![]);
            prop_assert_eq!(observed.into_iter().collect::<Routes>(), desired);
        }

        #[test]
        fn only_what_differs_is_touched(desired in routes(), start in routes()) {
            let observed: BTreeSet<_> = start.into_iter().collect();
            for change in plan(&desired, &observed) {
                match change {
                    RouteChange::Replace(destination, via) => prop_assert!(!observed.contains(&(destination, via))),
                    RouteChange::Remove(destination, _) => prop_assert!(!desired.contains_key(&destination)),
                }
            }
        }
    }

    #[test]
    fn every_overlay_route_names_the_own_address() {
        let network = Network {
            cluster_cidr: "10.42.0.0/16".parse().expect("net"),
            pod_cidr: "10.42.1.0/24".parse().expect("cidr"),
            service_cidr: "10.43.0.0/16".parse().expect("net"),
            address: Ipv4Addr::new(10, 42, 1, 1),
            dns_address: Ipv4Addr::new(10, 43, 0, 10),
            domain: "cluster.local".into(),
        };
        let pods = BTreeMap::from([(Ipv4Addr::new(10, 42, 1, 7), 9)]);
        let routes = desired(&network, 3, [], &pods);
        assert_eq!(routes[&network.cluster_cidr], Via::Unreachable);
        for (destination, via) in
            routes.iter().filter(|(destination, _)| **destination != network.cluster_cidr)
        {
            let Via::Link { source, .. } = via else { panic!("{destination} leads nowhere") };
            assert_eq!(*source, Some(network.address), "{destination}");
        }
    }
}
