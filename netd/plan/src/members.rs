//! Other members, by what the kernel knows them by: their keys and their networks. What changes of a few of them is
//! planned without a look at the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use ipnet::Ipv4Net;
use warren_proto::vocabulary::{NodeName, WireGuardKey};

use crate::{
    peers::{self, DesiredPeer, DevicePeer, PeerChange, Written},
    reading::Change,
    routes::{self, RouteChange, Routes},
    world::{Network, Peer, World},
};

/// Other members, by key and by network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Members that share a key are a fault of somebody's; the last one counts.
    keys: BTreeMap<WireGuardKey, BTreeMap<NodeName, DesiredPeer>>,
    networks: BTreeMap<Ipv4Net, usize>,
}

/// What changed of the members: what the kernel was told, and what it is to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    before: BTreeMap<WireGuardKey, DesiredPeer>,
    after: BTreeMap<WireGuardKey, DesiredPeer>,
    networks_gone: BTreeSet<Ipv4Net>,
    networks_new: BTreeSet<Ipv4Net>,
}

/// Where routes lead besides to other members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The member's own place.
    pub network: Network,
    /// The tunnel's link.
    pub tunnel: u32,
    /// The member's own pods, and their links.
    pub pods: BTreeMap<Ipv4Addr, u32>,
}

impl Members {
    /// All members of a world.
    pub fn of(world: &World) -> Self {
        let mut members = Self::default();
        for (name, peer) in &world.peers {
            members.insert(name, peer);
        }
        members
    }

    /// The peers that the tunnel should have.
    pub fn desired(&self) -> BTreeMap<WireGuardKey, DesiredPeer> {
        self.keys.keys().filter_map(|key| Some((*key, self.peer(key)?.clone()))).collect()
    }

    /// Takes in what `world` says of the members that `before` names, which says what they were.
    pub fn advance(&mut self, before: &Change, world: &World) -> Turn {
        let now = |name: &NodeName| world.peers.get(name);
        let old = before.peers.iter().filter_map(|(name, peer)| Some((name, peer.as_ref()?)));
        let new = before.peers.keys().filter_map(|name| Some((name, now(name)?)));
        let touched = || old.clone().chain(new.clone()).map(|(_, peer)| peer);
        let select = |members: &Self| -> BTreeMap<_, _> {
            touched().filter_map(|peer| Some((peer.key, members.peer(&peer.key)?.clone()))).collect()
        };
        let networks = |members: &Self| -> BTreeSet<_> {
            touched()
                .map(|peer| peer.pod_cidr.network())
                .filter(|net| members.networks.contains_key(net))
                .collect()
        };
        let (peers_before, networks_before) = (select(self), networks(self));
        old.clone().for_each(|(name, peer)| self.remove(name, peer));
        new.clone().for_each(|(name, peer)| self.insert(name, peer));
        let networks_after = networks(self);
        Turn {
            before: peers_before,
            after: select(self),
            networks_gone: networks_before.difference(&networks_after).copied().collect(),
            networks_new: networks_after.difference(&networks_before).copied().collect(),
        }
    }

    fn peer(&self, key: &WireGuardKey) -> Option<&DesiredPeer> {
        self.keys.get(key)?.values().next_back()
    }

    fn insert(&mut self, name: &NodeName, peer: &Peer) {
        let network = peer.pod_cidr.network();
        let desired = DesiredPeer {
            name: name.to_string(),
            endpoint: peer.endpoint,
            allowed: BTreeSet::from([network]),
        };
        self.keys.entry(peer.key).or_default().insert(name.clone(), desired);
        *self.networks.entry(network).or_default() += 1;
    }

    fn remove(&mut self, name: &NodeName, peer: &Peer) {
        if let Some(holders) = self.keys.get_mut(&peer.key) {
            holders.remove(name);
            if holders.is_empty() {
                self.keys.remove(&peer.key);
            }
        }
        let network = peer.pod_cidr.network();
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

impl Turn {
    /// What must change of the tunnel, when it holds what was desired before.
    pub fn peers(&self, written: &Written) -> Vec<PeerChange> {
        let held = |(key, peer): (&WireGuardKey, &DesiredPeer)| {
            // Where a peer went by itself is the tunnel's own; that it has some place is what counts.
            let endpoint: Option<SocketAddr> = written.get(key).copied().or(peer.endpoint);
            (*key, DevicePeer { endpoint, allowed: peer.allowed.clone() })
        };
        peers::plan(&self.after, &self.before.iter().map(held).collect(), written)
    }

    /// What must change of the routes, when they are as they were desired before, at `old`; members' networks come and
    /// go as this says, pods as the two places say. Nothing when all routes have to be looked at.
    pub fn routes(&self, members: &Members, old: &Place, new: &Place) -> Option<Vec<RouteChange>> {
        if (&old.network, old.tunnel) != (&new.network, new.tunnel) {
            return None;
        }
        let pods_differ =
            |(address, index): &(&Ipv4Addr, &u32), other: &Place| other.pods.get(*address) != Some(*index);
        let gone = old.pods.iter().filter(|pod| pods_differ(pod, new)).map(|(address, _)| *address);
        let come = new.pods.iter().filter(|pod| pods_differ(pod, old)).map(|(address, _)| *address);
        let pods = gone.chain(come).map(Ipv4Net::from);
        let touched: BTreeSet<_> =
            self.networks_gone.iter().chain(&self.networks_new).copied().chain(pods).collect();
        let was_member = |net: &Ipv4Net| {
            let is = members.networks.contains_key(net);
            (is || self.networks_gone.contains(net)) && !self.networks_new.contains(net)
        };
        let is_member = |net: &Ipv4Net| members.networks.contains_key(net);
        let before = select(&touched, old, was_member).into_iter().collect();
        Some(routes::plan(&select(&touched, new, is_member), &before))
    }
}

/// The routes to some destinations.
fn select(touched: &BTreeSet<Ipv4Net>, place: &Place, is_member: impl Fn(&Ipv4Net) -> bool) -> Routes {
    // The same function that says all routes says those to a few.
    let peers = touched.iter().copied().filter(|net| is_member(net));
    let pods = touched.iter().filter_map(|net| {
        let address = net.addr();
        let index = place.pods.get(&address).filter(|_| *net == Ipv4Net::from(address))?;
        Some((address, *index))
    });
    routes::to(&place.network, place.tunnel, peers, &pods.collect())
}
