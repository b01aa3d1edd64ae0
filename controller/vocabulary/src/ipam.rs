//! Which address is next: for members, services and pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use warren_proto::vocabulary::PodCidr;

use crate::ClusterConfig;

/// The lowest free slice of the cluster network; its first one is left out.
pub fn next_pod_cidr(config: &ClusterConfig, taken: &BTreeSet<PodCidr>) -> Option<PodCidr> {
    let slices = config.cluster_cidr.subnets(config.node_prefix).ok()?;
    slices.skip(1).filter_map(|net| PodCidr::try_from(net).ok()).find(|cidr| !taken.contains(cidr))
}

/// The lowest free service address; network, broadcast, first host and the DNS address are left out.
pub fn next_service_address(config: &ClusterConfig, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let reserved = first_service_address(config);
    config
        .service_cidr
        .hosts()
        .find(|address| *address != reserved && *address != config.dns_address && !taken.contains(address))
}

/// The first host of the service network, reserved for the Kubernetes API.
pub fn first_service_address(config: &ClusterConfig) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(config.service_cidr.network()) + 1)
}

/// Whether an address may be given to a service that asks for it.
pub fn is_service_address(config: &ClusterConfig, address: Ipv4Addr) -> bool {
    let net: Ipv4Net = config.service_cidr;
    net.contains(&address) && address != net.network() && address != net.broadcast()
}

/// The addresses of a member's pods, and which is next.
///
/// Addresses that no pod has had come first, ascending from above the highest one known, so that an address
/// rests as long as possible; then the least recently released one, and only when every live consumer has
/// applied the removal of its last pod (`acknowledged`).
#[derive(Debug, Clone)]
pub struct PodAddresses {
    base: u32,
    /// Of all addresses of the slice, from the network's to the broadcast address.
    hosts: Vec<Host>,
    acknowledged: u64,
}

/// What is known of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Fresh,
    Used,
    /// At this revision, and not used since.
    Released(u64),
}

impl PodAddresses {
    /// Those of one slice: `in_use` and `released` may name others, too.
    pub fn new(
        cidr: PodCidr,
        in_use: impl IntoIterator<Item = Ipv4Addr>,
        released: &BTreeMap<Ipv4Addr, u64>,
        acknowledged: u64,
    ) -> Self {
        let net = cidr.network();
        // The network's and the broadcast address are no hosts.
        let size = net.hosts().count().saturating_add(2);
        let hosts = vec![Host::Fresh; size];
        let mut addresses = Self { base: u32::from(net.network()), hosts, acknowledged };
        for (address, revision) in released.range(net.network()..=net.broadcast()) {
            addresses.set(*address, Host::Released(*revision));
        }
        in_use.into_iter().for_each(|address| addresses.take(address));
        addresses
    }

    /// The address is in use from now on.
    pub fn take(&mut self, address: Ipv4Addr) {
        self.set(address, Host::Used);
    }

    fn set(&mut self, address: Ipv4Addr, host: Host) {
        let place = u32::from(address).checked_sub(self.base).and_then(|place| usize::try_from(place).ok());
        if let Some(slot) = place.and_then(|place| self.hosts.get_mut(place)) {
            *slot = host;
        }
    }

    /// The address that the next pod gets.
    pub fn next(&self) -> Option<Ipv4Addr> {
        // As `PodCidr::pod_addresses`: neither the network, nor the member itself, nor the broadcast address.
        let pods = || (0u32..).zip(&self.hosts).take(self.hosts.len().saturating_sub(1)).skip(2);
        let fresh = |(_, host): &(u32, &Host)| **host == Host::Fresh;
        let highest = pods().filter(|pod| !fresh(pod)).last().map_or(0, |(place, _)| place);
        let first = pods().filter(fresh).find(|(place, _)| *place > highest).or_else(|| pods().find(fresh));
        let rested = || {
            let rested = pods().filter_map(|(place, host)| match host {
                Host::Released(at) if *at <= self.acknowledged => Some((*at, place)),
                _ => None,
            });
            rested.min()
        };
        let place = first.map(|(place, _)| place).or_else(|| rested().map(|(_, place)| place))?;
        Some(Ipv4Addr::from(self.base + place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Networks;
    use proptest::prelude::*;

    fn next_pod_address(
        cidr: PodCidr,
        in_use: &BTreeSet<Ipv4Addr>,
        released: &BTreeMap<Ipv4Addr, u64>,
        acknowledged: u64,
    ) -> Option<Ipv4Addr> {
        PodAddresses::new(cidr, in_use.iter().copied(), released, acknowledged).next()
    }
    fn cidr() -> PodCidr {
        "10.42.1.0/24".parse().expect("valid")
    }
    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 42, 1, last)
    }

    fn all_slices(networks: Networks) -> Vec<PodCidr> {
        let config = ClusterConfig::of(networks);
        let mut taken = BTreeSet::new();
        while let Some(next) = next_pod_cidr(&config, &taken) {
            assert!(taken.last().is_none_or(|last| *last < next) && taken.insert(next));
        }
        taken.into_iter().collect()
    }

    #[test]
    fn members_get_ascending_slices() {
        let slices = all_slices(Networks::default());
        let [first, second, ..] = &slices[..] else { panic!("{slices:?}") };
        assert_eq!((first.to_string(), second.to_string()), ("10.42.1.0/24".into(), "10.42.2.0/24".into()));
        assert_eq!(slices.len(), 255);
    }

    #[test]
    fn slices_have_the_size_that_the_cluster_was_founded_with() {
        let net = |text: &str| text.parse().expect("a network");
        for (cluster, prefix, first, last, count) in [
            ("10.42.0.0/16", 20, "10.42.16.0/20", "10.42.240.0/20", 15),
            ("10.42.0.0/18", 25, "10.42.0.128/25", "10.42.63.128/25", 127),
            ("10.42.0.0/22", 28, "10.42.0.16/28", "10.42.3.240/28", 63),
        ] {
            let networks = Networks::new(net(cluster), net("10.43.0.0/16"), prefix).expect("fit");
            let slices = all_slices(networks);
            assert_eq!((slices.len(), networks.members()), (count, u32::try_from(count).expect("few")));
            assert_eq!(slices.first().map(ToString::to_string).as_deref(), Some(first));
            assert_eq!(slices.last().map(ToString::to_string).as_deref(), Some(last));
        }
    }

    #[test]
    fn services_skip_reserved_addresses() {
        let config = ClusterConfig::default();
        let taken = (2..10).map(|last| Ipv4Addr::new(10, 43, 0, last)).collect();
        assert_eq!(next_service_address(&config, &BTreeSet::new()), Some(Ipv4Addr::new(10, 43, 0, 2)));
        assert_eq!(next_service_address(&config, &taken), Some(Ipv4Addr::new(10, 43, 0, 11)));
        assert!(!is_service_address(&config, Ipv4Addr::new(10, 42, 0, 3)));
    }

    #[test]
    fn fresh_addresses_come_before_released_ones() {
        let in_use = BTreeSet::from([address(2), address(4)]);
        let released = BTreeMap::from([(address(5), 3)]);
        assert_eq!(next_pod_address(cidr(), &in_use, &released, 100), Some(address(6)));
        assert_eq!(next_pod_address(cidr(), &BTreeSet::new(), &BTreeMap::new(), 0), Some(address(2)));
        let top = BTreeSet::from([address(254)]);
        assert_eq!(next_pod_address(cidr(), &top, &BTreeMap::new(), 0), Some(address(2)));
    }

    #[test]
    fn a_released_address_waits_for_the_acknowledgement() {
        let in_use: BTreeSet<_> = (2..253).map(address).collect();
        let released = BTreeMap::from([(address(253), 20), (address(254), 10)]);
        assert_eq!(next_pod_address(cidr(), &in_use, &released, 9), None);
        assert_eq!(next_pod_address(cidr(), &in_use, &released, 10), Some(address(254)));
        assert_eq!(next_pod_address(cidr(), &in_use, &released, 30), Some(address(254)));
    }

    proptest! {
        #[test]
        fn an_address_in_use_or_resting_is_never_given(
            used in proptest::collection::btree_set(2u8..255, 0..253),
            gone in proptest::collection::btree_map(2u8..255, 0u64..100, 0..253),
            acknowledged in 0u64..100,
        ) {
            let in_use: BTreeSet<_> = used.into_iter().map(address).collect();
            let released: BTreeMap<_, _> = gone.into_iter().map(|(last, at)| (address(last), at)).collect();
            match next_pod_address(cidr(), &in_use, &released, acknowledged) {
                Some(next) => {
                    prop_assert!(!in_use.contains(&next));
                    prop_assert!(released.get(&next).is_none_or(|at| *at <= acknowledged));
                }
                None => {
                    let taken = |a| in_use.contains(&a) || released.get(&a).is_some_and(|at| *at > acknowledged);
                    prop_assert!(cidr().pod_addresses().all(taken));
                }
            }
        }
    }
}
