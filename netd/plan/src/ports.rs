//! Which services want which addresses and ports: what changes of a few services is planned without a look at the
//! others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use crate::{
    reading::Change,
    services::{self, Changes, ServiceKey, Spread, Tables},
    world::{Service, ServiceName, World},
};

/// Who wants which address and port, and how many services spread their connections by each chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// In the order in which they are considered: the first that leads somewhere gets it.
    wanted: BTreeMap<ServiceKey, BTreeSet<(ServiceName, usize)>>,
    chains: BTreeMap<Spread, usize>,
}

impl Ports {
    /// What all services want, and how they are spread in `tables`. What is at `reserved` is nobody's.
    pub fn of(world: &World, tables: &Tables, reserved: Ipv4Addr) -> Self {
        let mut ports = Self::default();
        for (name, service) in &world.services {
            for (key, index) in keys(service, reserved) {
                ports.wanted.entry(key).or_default().insert((name.clone(), index));
            }
        }
        for spread in tables.counts.values().filter(|spread| spread.remembers()) {
            *ports.chains.entry(*spread).or_default() += 1;
        }
        ports
    }

    /// Takes in what `world` says of the services that `before` names, which says what they were. Returns what must
    /// change of `tables`, which hold what was desired before.
    pub fn advance(
        &mut self,
        before: &Change,
        world: &World,
        tables: &Tables,
        reserved: Ipv4Addr,
    ) -> Changes {
        let mut touched = BTreeSet::new();
        for (name, service) in &before.services {
            for (key, index) in service.iter().flat_map(|service| keys(service, reserved)) {
                touched.insert(key);
                if let Some(wanted) = self.wanted.get_mut(&key) {
                    wanted.remove(&(name.clone(), index));
                    if wanted.is_empty() {
                        self.wanted.remove(&key);
                    }
                }
            }
            for (key, index) in world.services.get(name).into_iter().flat_map(|it| keys(it, reserved)) {
                touched.insert(key);
                self.wanted.entry(key).or_default().insert((name.clone(), index));
            }
        }
        let (mut old, mut new) = (Tables::default(), Tables::default());
        for key in touched {
            old.counts.extend(tables.counts.get(&key).map(|spread| (key, *spread)));
            old.slots.extend(tables.slots_of(key).map(|(slot, target)| ((key, slot), target)));
            for (name, index) in self.wanted.get(&key).into_iter().flatten() {
                let Some(service) = world.services.get(name) else { continue };
                if let Some(port) = service.ports.get(*index) {
                    services::place(&mut new, tables, key, port, service.affinity_seconds);
                }
            }
        }
        let mut changes = services::diff(&old, &new);
        self.spread(&old, &new, &mut changes);
        changes
    }

    /// Chains come with the first service that is spread so, and go with the last.
    fn spread(&mut self, old: &Tables, new: &Tables, changes: &mut Changes) {
        let remembering =
            |tables: &Tables| tables.counts.values().copied().filter(|it| it.remembers()).collect::<Vec<_>>();
        let (old, new) = (remembering(old), remembering(new));
        let touched: BTreeSet<_> = old.iter().chain(&new).copied().collect();
        let before: BTreeSet<_> =
            touched.iter().copied().filter(|spread| self.chains.contains_key(spread)).collect();
        for spread in new {
            *self.chains.entry(spread).or_default() += 1;
        }
        for spread in old {
            if let Some(count) = self.chains.get_mut(&spread) {
                *count -= 1;
                if *count == 0 {
                    self.chains.remove(&spread);
                }
            }
        }
        let after = |spread: &Spread| self.chains.contains_key(spread);
        changes.chains_new = touched.iter().copied().filter(|it| after(it) && !before.contains(it)).collect();
        changes.chains_gone = before.into_iter().filter(|spread| !after(spread)).collect();
    }
}

/// The addresses and ports that a service wants, and which of its ports wants them.
fn keys(service: &Service, reserved: Ipv4Addr) -> impl Iterator<Item = (ServiceKey, usize)> {
    let address = service.address.filter(|address| *address != reserved);
    address.into_iter().flat_map(|address| {
        let ports = service.ports.iter().enumerate();
        ports.map(move |(index, port)| {
            (ServiceKey { address, protocol: port.protocol, port: port.port }, index)
        })
    })
}
