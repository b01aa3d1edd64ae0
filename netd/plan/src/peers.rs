//! The device's peers, diffed: a session that works is never touched.
//!
//! WireGuard moves a peer's endpoint by itself when the peer roams. So an endpoint is written only when the
//! peer is new or when what the controller says changed since it was last written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use ipnet::Ipv4Net;
use warren_proto::vocabulary::WireGuardKey;

/// A peer as the device shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevicePeer {
    /// Where it was last seen, or was told to be.
    pub endpoint: Option<SocketAddr>,
    /// The networks behind it.
    pub allowed: BTreeSet<Ipv4Net>,
}

/// A peer as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPeer {
    /// The member's name, for people.
    pub name: String,
    /// Where the controller says it is.
    pub endpoint: Option<SocketAddr>,
    /// The networks behind it.
    pub allowed: BTreeSet<Ipv4Net>,
}

/// The endpoints that were last written, by key.
pub type Written = BTreeMap<WireGuardKey, SocketAddr>;

/// One step towards the desired peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerChange {
    /// A new peer.
    Add {
        /// Its key.
        key: WireGuardKey,
        /// The member's name.
        name: String,
        /// Where it is.
        endpoint: Option<SocketAddr>,
        /// The networks behind it.
        allowed: BTreeSet<Ipv4Net>,
    },
    /// Its place changed.
    SetEndpoint {
        /// Its key.
        key: WireGuardKey,
        /// The member's name.
        name: String,
        /// Where it is now.
        endpoint: SocketAddr,
    },
    /// The networks behind it changed.
    SetAllowed {
        /// Its key.
        key: WireGuardKey,
        /// The member's name.
        name: String,
        /// All networks behind it now.
        allowed: BTreeSet<Ipv4Net>,
    },
    /// No longer a member.
    Remove {
        /// Its key.
        key: WireGuardKey,
    },
}

impl PeerChange {
    /// The peer's key.
    pub fn key(&self) -> WireGuardKey {
        match self {
            Self::Add { key, .. }
            | Self::SetEndpoint { key, .. }
            | Self::SetAllowed { key, .. }
            | Self::Remove { key } => *key,
        }
    }

    /// Notes what this change wrote.
    pub fn remember(&self, written: &mut Written) {
        match self {
            Self::Add { key, endpoint: Some(endpoint), .. } | Self::SetEndpoint { key, endpoint, .. } => {
                written.insert(*key, *endpoint);
            }
            Self::Remove { key } => {
                written.remove(key);
            }
            Self::Add { .. } | Self::SetAllowed { .. } => {}
        }
    }
}

impl fmt::Display for PeerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { name, endpoint: Some(endpoint), .. } => write!(f, "add peer {name} at {endpoint}"),
            Self::Add { name, endpoint: None, .. } => write!(f, "add peer {name}, which will dial us"),
            Self::SetEndpoint { name, endpoint, .. } => write!(f, "peer {name} is at {endpoint} now"),
            Self::SetAllowed { name, allowed, .. } => {
                let networks: Vec<_> = allowed.iter().map(ToString::to_string).collect();
                write!(f, "peer {name} holds {} now", networks.join(", "))
            }
            Self::Remove { key } => write!(f, "remove peer {key}"),
        }
    }
}

/// What must change, in an order that is safe to apply one by one: a network leaves its old peer before it
/// is given to another.
pub fn plan(
    desired: &BTreeMap<WireGuardKey, DesiredPeer>,
    observed: &BTreeMap<WireGuardKey, DevicePeer>,
    written: &Written,
) -> Vec<PeerChange> {
    let orphans =
        observed.keys().filter(|key| !desired.contains_key(key)).map(|key| PeerChange::Remove { key: *key });
    let mut changes: Vec<_> = orphans.collect();
    let known = desired.iter().filter_map(|(key, wanted)| Some((*key, wanted, observed.get(key)?)));
    for (key, wanted, present) in known.clone() {
        if !present.allowed.is_subset(&wanted.allowed) {
            let allowed = present.allowed.intersection(&wanted.allowed).copied().collect();
            changes.push(PeerChange::SetAllowed { key, name: wanted.name.clone(), allowed });
        }
    }
    for (key, wanted, present) in known {
        if !wanted.allowed.is_subset(&present.allowed) {
            let (name, allowed) = (wanted.name.clone(), wanted.allowed.clone());
            changes.push(PeerChange::SetAllowed { key, name, allowed });
        }
        if let Some(endpoint) = endpoint_to_write(wanted, present, written.get(&key)) {
            changes.push(PeerChange::SetEndpoint { key, name: wanted.name.clone(), endpoint });
        }
    }
    for (key, wanted) in desired.iter().filter(|(key, _)| !observed.contains_key(key)) {
        let DesiredPeer { name, endpoint, allowed } = wanted.clone();
        changes.push(PeerChange::Add { key: *key, name, endpoint, allowed });
    }
    changes
}

fn endpoint_to_write(
    wanted: &DesiredPeer,
    present: &DevicePeer,
    written: Option<&SocketAddr>,
) -> Option<SocketAddr> {
    let endpoint = wanted.endpoint?;
    (written != Some(&endpoint) || present.endpoint.is_none()).then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Device = BTreeMap<WireGuardKey, DevicePeer>;

    fn key(n: u8) -> WireGuardKey {
        WireGuardKey([n; 32])
    }
    fn net(n: u8) -> Ipv4Net {
        Ipv4Net::new_assert([10, 42, n, 0].into(), 24)
    }
    fn at(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 51_820).into()
    }

    /// A cluster: which key holds which networks; no network has two holders.
    fn world() -> impl Strategy<Value = BTreeMap<WireGuardKey, DesiredPeer>> {
        proptest::collection::btree_map(0u8..6, (0u8..5, proptest::option::of(0u8..4)), 0..6).prop_map(
            |holders| {
                let mut peers = BTreeMap::new();
                for (network, (holder, endpoint)) in holders {
                    let peer = peers.entry(key(holder)).or_insert_with(|| DesiredPeer {
                        name: format!("node-{holder}"),
                        endpoint: None,
                        allowed: BTreeSet::new(),
                    });
                    peer.allowed.insert(net(network));
                    peer.endpoint = endpoint.map(at);
                }
                peers
            },
        )
    }

    /// WireGuard's own rule: a network belongs to the peer that was given it last.
    fn apply(device: &mut Device, written: &mut Written, change: &PeerChange) {
        let take = |device: &mut Device, allowed: &BTreeSet<Ipv4Net>| {
            for peer in device.values_mut() {
                peer.allowed.retain(|net| !allowed.contains(net));
            }
        };
        match change {
            PeerChange::Add { key, endpoint, allowed, .. } => {
                take(device, allowed);
                device.insert(*key, DevicePeer { endpoint: *endpoint, allowed: allowed.clone() });
            }
            PeerChange::SetEndpoint { key, endpoint, .. } => {
                device.get_mut(key).expect("only known peers change").endpoint = Some(*endpoint);
            }
            PeerChange::SetAllowed { key, allowed, .. } => {
                take(device, allowed);
                device.get_mut(key).expect("only known peers change").allowed = allowed.clone();
            }
            PeerChange::Remove { key } => {
                device.remove(key);
            }
        }
        change.remember(written);
    }

    fn reach(desired: &BTreeMap<WireGuardKey, DesiredPeer>, device: &mut Device, written: &mut Written) {
        for change in plan(desired, device, written) {
            apply(device, written, &change);
        }
    }

    proptest! {
        #[test]
        fn converges_stably_from_every_prefix(first in world(), second in world(), stop in 0usize..16) {
            let (mut device, mut written) = (Device::new(), Written::new());
            reach(&first, &mut device, &mut written);
            for change in plan(&second, &device, &written).iter().take(stop) {
                apply(&mut device, &mut written, change);
            }
            reach(&second, &mut device, &mut written);
            prop_assert_eq!(plan(&second, &device, &written), vec![]);
            for (key, wanted) in &second {
                prop_assert_eq!(&device[key].allowed, &wanted.allowed);
                if wanted.endpoint.is_some() {
                    prop_assert_eq!(device[key].endpoint, wanted.endpoint);
                }
            }
            prop_assert_eq!(device.len(), second.len());
        }

        #[test]
        fn a_roamed_endpoint_is_left_alone(world in world(), roamed in 10u8..20) {
            let (mut device, mut written) = (Device::new(), Written::new());
            reach(&world, &mut device, &mut written);
            for peer in device.values_mut() {
                peer.endpoint = Some(at(roamed));
            }
            prop_assert_eq!(plan(&world, &device, &written), vec![]);
        }

        #[test]
        fn a_peer_that_did_not_change_is_not_touched(first in world(), second in world()) {
            let (mut device, mut written) = (Device::new(), Written::new());
            reach(&first, &mut device, &mut written);
            for change in plan(&second, &device, &written) {
                let key = change.key();
                prop_assert_ne!(first.get(&key), second.get(&key), "{}", change);
            }
        }
    }

    #[test]
    fn a_new_place_is_written_even_over_a_roamed_one() {
        let peer =
            |place| DesiredPeer { name: "b".into(), endpoint: Some(at(place)), allowed: [net(1)].into() };
        let (mut device, mut written) = (Device::new(), Written::new());
        reach(&BTreeMap::from([(key(1), peer(1))]), &mut device, &mut written);
        device.get_mut(&key(1)).expect("added").endpoint = Some(at(99));
        let moved = BTreeMap::from([(key(1), peer(2))]);
        let changes = plan(&moved, &device, &written);
        assert_eq!(changes, [PeerChange::SetEndpoint { key: key(1), name: "b".into(), endpoint: at(2) }]);
        assert_eq!(changes[0].to_string(), "peer b is at 192.0.2.2:51820 now");
    }
}
