//! A member that follows a feed, and a kernel that does as it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use warren_netd_plan::{
    members::{Members, Place},
    peers::{self, DevicePeer, PeerChange, Written},
    ports::Ports,
    reading::{Change, Reader},
    routes::{self, RouteChange, Via},
    services::{self, Tables},
    world::{Network, World},
    zone::{self, Zone},
};
use warren_proto::{
    control::{self, feed_item::Item},
    vocabulary::WireGuardKey,
};

pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);
const TUNNEL: u32 = 1;

/// The items of a feed.
pub(crate) type Items = BTreeMap<String, Item>;

/// What the kernel and the DNS server hold.
#[derive(Default)]
pub(crate) struct Kernel {
    device: BTreeMap<WireGuardKey, DevicePeer>,
    routes: BTreeSet<(Ipv4Net, Via)>,
    tables: Tables,
    zone: Option<Zone>,
}

/// What changes are planned from.
struct Settled {
    place: Place,
    members: Members,
    ports: Ports,
}

#[derive(Default)]
pub(crate) struct Member {
    reader: Reader,
    pub(crate) world: World,
    written: Written,
    settled: Option<Settled>,
    pub(crate) kernel: Kernel,
    /// How many changes were followed without a whole pass.
    pub(crate) followed: usize,
}

impl Member {
    /// Reads all, and plans for all.
    pub(crate) fn read(&mut self, items: &Items, pods: &BTreeMap<Ipv4Addr, u32>) {
        self.world = self.reader.read(items.iter()).0;
        self.enforce(pods);
    }

    /// Follows a change of some items, which `items` has taken in.
    pub(crate) fn follow(
        &mut self,
        changed: &Items,
        gone: &[String],
        items: &Items,
        pods: &BTreeMap<Ipv4Addr, u32>,
    ) {
        let changed: Vec<_> = changed
            .iter()
            .map(|(key, item)| (key, Some(item)))
            .chain(gone.iter().map(|key| (key, None)))
            .collect();
        let Some((change, _)) = self.reader.advance(&changed) else { return self.read(items, pods) };
        let before = self.world.apply(change);
        match self.settled.take().filter(|_| before.network.is_none()) {
            Some(settled) => self.follow_change(settled, &before, pods),
            None => self.enforce(pods),
        }
    }

    fn follow_change(&mut self, mut settled: Settled, before: &Change, pods: &BTreeMap<Ipv4Addr, u32>) {
        let turn = settled.members.advance(before, &self.world);
        self.change_peers(turn.peers(&self.written));
        let place = Place { pods: pods.clone(), ..settled.place.clone() };
        let routes = turn.routes(&settled.members, &settled.place, &place).expect("the same place");
        routes.into_iter().for_each(|change| self.kernel.change_route(change));
        settled.place = place;
        let tables = &mut self.kernel.tables;
        let mut changes = settled.ports.advance(before, &self.world, tables, DNS);
        changes.hairpin(tables, pods.keys().copied());
        tables.apply(&changes);
        let zone = self.kernel.zone.as_mut().expect("a settled member has one");
        for (name, service) in &before.services {
            zone.replace(name, service.as_ref(), self.world.services.get(name));
        }
        self.settled = Some(settled);
        self.followed += 1;
    }

    fn enforce(&mut self, pods: &BTreeMap<Ipv4Addr, u32>) {
        self.settled = None;
        let Some(network) = self.world.network.clone() else { return };
        let members = Members::of(&self.world);
        self.change_peers(peers::plan(&members.desired(), &self.kernel.device, &self.written));
        let desired = routes::desired(&network, TUNNEL, self.world.peers.values(), pods);
        for change in routes::plan(&desired, &self.kernel.routes) {
            self.kernel.change_route(change);
        }
        let tables = &mut self.kernel.tables;
        let desired = services::desired(self.world.services.values(), tables, pods.keys().copied(), DNS);
        tables.apply(&services::diff(tables, &desired));
        self.kernel.zone = Some(zone::plan(&network, &self.world.services));
        let ports = Ports::of(&self.world, tables, DNS);
        let place = Place { network, tunnel: TUNNEL, pods: pods.clone() };
        self.settled = Some(Settled { place, members, ports });
    }

    fn change_peers(&mut self, changes: Vec<PeerChange>) {
        let device = &mut self.kernel.device;
        for change in changes {
            match &change {
                PeerChange::Add { key, endpoint, allowed, .. } => {
                    device.insert(*key, DevicePeer { endpoint: *endpoint, allowed: allowed.clone() });
                }
                PeerChange::SetEndpoint { key, endpoint, .. } => {
                    device.get_mut(key).expect("only known peers change").endpoint = Some(*endpoint);
                }
                PeerChange::SetAllowed { key, allowed, .. } => {
                    device.get_mut(key).expect("only known peers change").allowed.clone_from(allowed);
                }
                PeerChange::Remove { key } => assert!(device.remove(key).is_some(), "removed twice"),
            }
            change.remember(&mut self.written);
        }
    }

    /// That all is as it would be if it had been read and planned afresh.
    pub(crate) fn check(&self, items: &Items, pods: &BTreeMap<Ipv4Addr, u32>) {
        let world = World::read(items).0;
        assert_eq!(self.world, world);
        let Some(network) = &world.network else { return };
        let settled = self.settled.as_ref().expect("a place is enough");
        let (kernel, members) = (&self.kernel, Members::of(&world));
        assert_eq!(settled.members, members);
        assert_eq!(peers::plan(&members.desired(), &kernel.device, &self.written), []);
        let desired = routes::desired(network, TUNNEL, world.peers.values(), pods);
        assert_eq!(routes::plan(&desired, &kernel.routes), []);
        let desired = services::desired(world.services.values(), &kernel.tables, pods.keys().copied(), DNS);
        assert_eq!(kernel.tables, desired);
        assert_eq!(settled.ports, Ports::of(&world, &desired, DNS));
        assert_eq!(kernel.zone, Some(zone::plan(network, &world.services)));
    }
}

impl Kernel {
    fn change_route(&mut self, change: RouteChange) {
        match change {
            RouteChange::Replace(destination, via) => {
                self.routes.retain(|(known, _)| *known != destination);
                self.routes.insert((destination, via));
            }
            RouteChange::Remove(destination, via) => {
                assert!(self.routes.remove(&(destination, via)), "{change}: there is none");
            }
        }
    }
}

pub(crate) fn network(domain: &str) -> Item {
    Item::Network(control::NetworkConfig {
        cluster_cidr: "10.42.0.0/16".into(),
        pod_cidr: "10.42.1.0/24".into(),
        service_cidr: "10.43.0.0/16".into(),
        address: "10.42.1.1".into(),
        dns_address: DNS.to_string(),
        cluster_domain: domain.into(),
    })
}

/// A member with this key, of this network, at this place; none where it is 0.
pub(crate) fn peer(name: &str, key: u16, network: u16, place: u8) -> Item {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&key.to_be_bytes());
    let [above, below] = network.to_be_bytes();
    Item::Peer(control::Peer {
        name: name.into(),
        public_key: WireGuardKey(bytes).to_string(),
        endpoint: if place == 0 { String::new() } else { format!("192.0.2.{place}:51820") },
        pod_cidr: format!("10.{}.{below}.0/24", 42 + above),
        address: format!("10.{}.{below}.1", 42 + above),
        ..control::Peer::default()
    })
}

pub(crate) fn network_of(world: &World) -> &Network {
    world.network.as_ref().expect("it has a place")
}
