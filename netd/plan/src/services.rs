//! Service addresses as map elements: the ruleset is constant, only its data changes.
//!
//! `counts` says by which chain a service's connections are spread; that chain draws a slot at random, and
//! `slots` says which pod holds it. Slots keep their pods across changes, so one endpoint more or less is a
//! handful of elements. Where clients keep their pods, the chain asks `clients` first, which the kernel itself
//! fills: who was sent where, until that client was idle for as long as its service says, or the pod leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    time::Duration,
};

use crate::world::{Port, Protocol, Service, Target};

/// Up to this many endpoints each has exactly one slot.
pub const EXACT: u32 = 64;
/// More endpoints share one of these numbers of slots: at most a quarter unevenly, up to 512 endpoints.
pub const SHARED: [u32; 3] = [512, 1024, 2048];
/// More endpoints than this are not used: one service must fit into one transaction.
pub const MOST_ENDPOINTS: usize = 2048;

/// A service's address, protocol and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The service's address.
    pub address: Ipv4Addr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.address, self.port, self.protocol.label())
    }
}

/// How connections choose a slot. Each value names a chain: those of `Random` are constant, those of `Client` are
/// made when a service wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spread {
    /// At random, among this many slots.
    Random(u32),
    /// As the client was sent before; at random when it was not.
    Client {
        /// The number of slots.
        slots: u32,
        /// For how many seconds without a new connection the client's pod is remembered.
        seconds: u32,
    },
}

impl Spread {
    /// The number of slots.
    pub fn slots(self) -> u32 {
        match self {
            Self::Random(slots) | Self::Client { slots, .. } => slots,
        }
    }
    /// The chain that spreads so.
    pub fn chain(self) -> String {
        match self {
            Self::Random(slots) => format!("n{slots}"),
            Self::Client { slots, seconds } => format!("h{slots}s{seconds}"),
        }
    }
    /// The spread of a chain.
    pub fn of_chain(name: &str) -> Option<Self> {
        let numbers = name.get(1..)?;
        match name.as_bytes()[0] {
            b'n' => Some(Self::Random(numbers.parse().ok()?)),
            b'h' => {
                let (slots, seconds) = numbers.split_once('s')?;
                Some(Self::Client { slots: slots.parse().ok()?, seconds: seconds.parse().ok()? })
            }
            _ => None,
        }
    }
    /// Every spread there always is a chain for.
    pub fn constant() -> impl Iterator<Item = Self> {
        (1..=EXACT).chain(SHARED).map(Self::Random)
    }
    /// Whether clients keep their pods.
    pub fn remembers(self) -> bool {
        matches!(self, Self::Client { .. })
    }
}

/// A client that the kernel remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// What it addressed.
    pub service: ServiceKey,
    /// Who it is.
    pub address: Ipv4Addr,
    /// Where it was sent.
    pub target: Target,
    /// How long it is remembered after its last connection.
    pub timeout: Duration,
    /// How long it is remembered from now on.
    pub left: Duration,
}

/// What becomes of a remembered client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Stays,
    /// Its pod left the service, or the service does not ask for it any more.
    Goes,
    /// Its service shortened the time: so much of it is left.
    Shortened(Duration),
}

/// Whether a client still belongs where it was sent. A service that lengthened its time is obeyed at the client's
/// next connection.
pub fn fate(
    client: &Client,
    counts: &BTreeMap<ServiceKey, Spread>,
    targets: &BTreeMap<ServiceKey, BTreeSet<Target>>,
) -> Fate {
    let Some(Spread::Client { seconds, .. }) = counts.get(&client.service) else { return Fate::Goes };
    if !targets.get(&client.service).is_some_and(|targets| targets.contains(&client.target)) {
        return Fate::Goes;
    }
    let wanted = Duration::from_secs(u64::from(*seconds));
    if client.timeout <= wanted {
        return Fate::Stays;
    }
    let idle = client.timeout.saturating_sub(client.left);
    match wanted.checked_sub(idle).filter(|left| !left.is_zero()) {
        Some(left) => Fate::Shortened(left),
        None => Fate::Goes,
    }
}

/// The data of the ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// How each service's connections are spread; a service without endpoints is absent, and refused.
    pub counts: BTreeMap<ServiceKey, Spread>,
    /// Which pod holds which slot.
    pub slots: BTreeMap<(ServiceKey, u32), Target>,
    /// Local pods: what one sends to itself by a service address needs another source.
    pub hairpin: BTreeSet<Ipv4Addr>,
    /// The chains of clients that keep their pods.
    pub chains: BTreeSet<Spread>,
}

/// The elements to delete and to add, in one transaction. A changed element is in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Elements of `counts` to delete.
    pub counts_gone: BTreeSet<ServiceKey>,
    /// Elements of `counts` to add.
    pub counts_new: BTreeMap<ServiceKey, Spread>,
    /// Elements of `slots` to delete.
    pub slots_gone: BTreeSet<(ServiceKey, u32)>,
    /// Elements of `slots` to add.
    pub slots_new: BTreeMap<(ServiceKey, u32), Target>,
    /// Elements of `hairpin` to delete.
    pub hairpin_gone: BTreeSet<Ipv4Addr>,
    /// Elements of `hairpin` to add.
    pub hairpin_new: BTreeSet<Ipv4Addr>,
    /// Chains to make, before anything leads to them.
    pub chains_new: BTreeSet<Spread>,
    /// Chains to remove, when nothing leads to them any more.
    pub chains_gone: BTreeSet<Spread>,
}

/// Who may have been sent to a pod that leaves its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Flows of UDP, which never end by themselves.
    pub flows: bool,
    /// Clients that the kernel remembers.
    pub clients: bool,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The number of elements and chains to send.
    pub fn len(&self) -> usize {
        self.counts_gone.len()
            + self.counts_new.len()
            + self.slots_gone.len()
            + self.slots_new.len()
            + self.hairpin_gone.len()
            + self.hairpin_new.len()
            + self.chains_new.len()
            + self.chains_gone.len()
    }
    /// Adds what must change for these pods to be the local ones.
    pub fn hairpin(&mut self, old: &Tables, pods: impl IntoIterator<Item = Ipv4Addr>) {
        let pods: BTreeSet<_> = pods.into_iter().collect();
        self.hairpin_gone = old.hairpin.difference(&pods).copied().collect();
        self.hairpin_new = pods.difference(&old.hairpin).copied().collect();
    }
    /// Of what kinds those are that may have been sent to a pod that leaves its service. `old` is what it is left from.
    pub fn left(&self, old: &Tables) -> Left {
        let services = || self.slots_gone.iter().map(|(key, _)| key).chain(&self.counts_gone);
        Left {
            flows: self.slots_gone.iter().any(|(key, _)| key.protocol == Protocol::Udp),
            clients: services().any(|key| old.counts.get(key).is_some_and(|spread| spread.remembers())),
        }
    }
    /// Cuts into parts of about `most` elements that are each safe on their own: a service is never cut.
    pub fn parts(self, most: usize) -> Vec<Self> {
        let mut services: BTreeMap<ServiceKey, Self> = BTreeMap::new();
        for key in self.counts_gone {
            services.entry(key).or_default().counts_gone.insert(key);
        }
        for (key, spread) in self.counts_new {
            services.entry(key).or_default().counts_new.insert(key, spread);
        }
        for slot in self.slots_gone {
            services.entry(slot.0).or_default().slots_gone.insert(slot);
        }
        for (slot, target) in self.slots_new {
            services.entry(slot.0).or_default().slots_new.insert(slot, target);
        }
        let first = Self {
            hairpin_gone: self.hairpin_gone,
            hairpin_new: self.hairpin_new,
            chains_new: self.chains_new,
            ..Self::default()
        };
        let mut parts = vec![first];
        for service in services.into_values() {
            match parts.last_mut() {
                Some(part) if part.len() + service.len() <= most => part.absorb(service),
                _ => parts.push(service),
            }
        }
        if let Some(last) = parts.last_mut() {
            last.chains_gone = self.chains_gone;
        }
        parts.retain(|part| !part.is_empty());
        parts
    }
    fn absorb(&mut self, other: Self) {
        self.counts_gone.extend(other.counts_gone);
        self.counts_new.extend(other.counts_new);
        self.slots_gone.extend(other.slots_gone);
        self.slots_new.extend(other.slots_new);
    }
}

impl Tables {
    /// The state after `changes`.
    pub fn apply(&mut self, changes: &Changes) {
        changes.counts_gone.iter().for_each(|key| _ = self.counts.remove(key));
        self.counts.extend(&changes.counts_new);
        changes.slots_gone.iter().for_each(|slot| _ = self.slots.remove(slot));
        self.slots.extend(&changes.slots_new);
        changes.hairpin_gone.iter().for_each(|pod| _ = self.hairpin.remove(pod));
        self.hairpin.extend(&changes.hairpin_new);
        changes.chains_gone.iter().for_each(|chain| _ = self.chains.remove(chain));
        self.chains.extend(&changes.chains_new);
    }

    /// Which pod holds which slot of one service.
    pub fn slots_of(&self, key: ServiceKey) -> impl Iterator<Item = (u32, Target)> {
        self.slots.range((key, 0)..=(key, u32::MAX)).map(|((_, slot), target)| (*slot, *target))
    }

    /// Where each of these services leads, without slots; one that leads nowhere is absent.
    pub fn targets(
        &self,
        services: impl IntoIterator<Item = ServiceKey>,
    ) -> BTreeMap<ServiceKey, BTreeSet<Target>> {
        let services: BTreeSet<_> = services.into_iter().collect();
        let targets = |key: ServiceKey| (key, self.slots_of(key).map(|(_, target)| target).collect());
        let targets = services.into_iter().map(targets);
        targets.filter(|(_, targets): &(_, BTreeSet<_>)| !targets.is_empty()).collect()
    }
}

/// The data that says what `services` say, with as many slots as possible as they are in `observed`.
/// What is at `reserved` (DNS) is answered by the member itself and never translated.
pub fn desired<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    observed: &Tables,
    pods: impl IntoIterator<Item = Ipv4Addr>,
    reserved: Ipv4Addr,
) -> Tables {
    let mut tables = Tables { hairpin: pods.into_iter().collect(), ..Tables::default() };
    for service in services {
        let Some(address) = service.address.filter(|address| *address != reserved) else { continue };
        for port in &service.ports {
            let key = ServiceKey { address, protocol: port.protocol, port: port.port };
            place(&mut tables, observed, key, port, service.affinity_seconds);
        }
    }
    tables.chains = tables.counts.values().copied().filter(|spread| spread.remembers()).collect();
    tables
}

/// Gives a port of a service its slots, unless somebody has them already.
pub(crate) fn place(
    tables: &mut Tables,
    observed: &Tables,
    key: ServiceKey,
    port: &Port,
    affinity: Option<u32>,
) {
    let targets: BTreeSet<Target> = port.targets.iter().copied().collect();
    let targets: BTreeSet<Target> = targets.into_iter().take(MOST_ENDPOINTS).collect();
    if targets.is_empty() || tables.counts.contains_key(&key) {
        return;
    }
    let slots = slot_count(targets.len() as u32);
    let spread = affinity.map_or(Spread::Random(slots), |seconds| Spread::Client { slots, seconds });
    tables.counts.insert(key, spread);
    let kept = |slot| observed.slots.get(&(key, slot)).copied();
    for (slot, target) in assign(&targets, slots, kept).into_iter().enumerate() {
        tables.slots.insert((key, slot as u32), target);
    }
}

/// How many slots `endpoints` get.
fn slot_count(endpoints: u32) -> u32 {
    if endpoints <= EXACT {
        return endpoints;
    }
    let largest = SHARED[SHARED.len() - 1];
    SHARED.into_iter().find(|slots| *slots >= endpoints * 4).unwrap_or(largest)
}

/// Gives each slot a target, evenly; a slot keeps its target where that is fair.
fn assign(targets: &BTreeSet<Target>, slots: u32, kept: impl Fn(u32) -> Option<Target>) -> Vec<Target> {
    let fair = slots as usize / targets.len();
    let mut spare = slots as usize % targets.len();
    let mut held: BTreeMap<Target, usize> = targets.iter().map(|target| (*target, 0)).collect();
    let mut take = |target: Target| -> bool {
        let Some(count) = held.get_mut(&target) else { return false };
        let extra = *count == fair && spare > 0;
        if *count >= fair && !extra {
            return false;
        }
        spare -= usize::from(extra);
        *count += 1;
        true
    };
    let assigned: Vec<Option<Target>> =
        (0..slots).map(|slot| kept(slot).filter(|target| take(*target))).collect();
    let mut hungry = targets.iter().copied().cycle();
    let fill = |slot: Option<Target>| {
        slot.or_else(|| hungry.by_ref().take(targets.len() * 2).find(|target| take(*target)))
    };
    assigned.into_iter().filter_map(fill).collect()
}

/// What must change in the kernel's data.
pub fn diff(observed: &Tables, desired: &Tables) -> Changes {
    fn gone<K: Ord + Copy, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
        old.iter().filter(|(key, value)| new.get(key) != Some(value)).map(|(key, _)| *key).collect()
    }
    fn added<K: Ord + Copy, V: PartialEq + Copy>(
        old: &BTreeMap<K, V>,
        new: &BTreeMap<K, V>,
    ) -> BTreeMap<K, V> {
        let differs = |(key, value): &(&K, &V)| old.get(key) != Some(value);
        new.iter().filter(differs).map(|(key, value)| (*key, *value)).collect()
    }
    Changes {
        counts_gone: gone(&observed.counts, &desired.counts),
        counts_new: added(&observed.counts, &desired.counts),
        slots_gone: gone(&observed.slots, &desired.slots),
        slots_new: added(&observed.slots, &desired.slots),
        hairpin_gone: observed.hairpin.difference(&desired.hairpin).copied().collect(),
        hairpin_new: desired.hairpin.difference(&observed.hairpin).copied().collect(),
        chains_new: desired.chains.difference(&observed.chains).copied().collect(),
        chains_gone: observed.chains.difference(&desired.chains).copied().collect(),
    }
}

/// A translated flow, as connection tracking shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// What the client addressed.
    pub service: ServiceKey,
    /// Who answers.
    pub target: Target,
}

/// Whether a UDP flow leads to a pod that the service no longer has: it would never end by itself.
pub fn is_stale(flow: &Flow, targets: &BTreeMap<ServiceKey, BTreeSet<Target>>) -> bool {
    flow.service.protocol == Protocol::Udp
        && !targets.get(&flow.service).is_some_and(|targets| targets.contains(&flow.target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DNS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

    fn target(n: u32) -> Target {
        Target { address: Ipv4Addr::from(0x0a2a_0000 + n), port: 8080 }
    }

    fn service(n: u8, targets: impl IntoIterator<Item = u32>, affinity: impl Into<Option<u32>>) -> Service {
        let targets = targets.into_iter().map(target).collect();
        let port = Port { name: String::new(), protocol: Protocol::Tcp, port: 80, targets };
        Service {
            address: Some(Ipv4Addr::new(10, 43, 1, n)),
            ports: vec![port],
            affinity_seconds: affinity.into(),
            ..Service::default()
        }
    }

    fn services() -> impl Strategy<Value = Vec<Service>> {
        let endpoints = proptest::collection::btree_set(0u32..90, 0..80);
        proptest::collection::btree_map(0u8..4, (endpoints, proptest::option::of(1u32..=86_400)), 0..4)
            .prop_map(|services| {
                services.into_iter().map(|(n, (targets, affinity))| service(n, targets, affinity)).collect()
            })
    }

    fn reach(tables: &mut Tables, services: &[Service]) -> Changes {
        let changes = diff(tables, &desired(services, tables, [], DNS));
        tables.apply(&changes);
        changes
    }

    /// What a connection meets in the kernel: every slot that may be drawn must lead somewhere.
    fn check(tables: &Tables, services: &[Service]) -> Result<(), TestCaseError> {
        let wanted: BTreeMap<_, _> = services
            .iter()
            .filter(|service| !service.ports[0].targets.is_empty())
            .map(|service| (service.address.expect("set"), &service.ports[0].targets))
            .collect();
        prop_assert_eq!(tables.counts.len(), wanted.len());
        let slots: u32 = tables.counts.values().map(|spread| spread.slots()).sum();
        prop_assert_eq!(tables.slots.len() as u32, slots);
        for (key, spread) in &tables.counts {
            let mut held = BTreeMap::<Target, u32>::new();
            for slot in 0..spread.slots() {
                *held.entry(tables.slots[&(*key, slot)]).or_default() += 1;
            }
            let targets: BTreeSet<_> = wanted[&key.address].iter().copied().collect();
            prop_assert_eq!(held.keys().copied().collect::<BTreeSet<_>>(), targets);
            let (least, most) = (held.values().min(), held.values().max());
            prop_assert!(most.copied().unwrap_or(0) - least.copied().unwrap_or(0) <= 1, "uneven: {:?}", held);
            let has_chain =
                tables.chains.contains(spread) || Spread::constant().any(|known| known == *spread);
            prop_assert!(has_chain, "no chain {}", spread.chain());
        }
        prop_assert!(tables.chains.iter().all(|chain| tables.counts.values().any(|spread| spread == chain)));
        Ok(())
    }

    proptest! {
        #[test]
        fn converges_and_is_stable(first in services(), second in services()) {
            let mut tables = Tables::default();
            for world in [&first, &second] {
                reach(&mut tables, world);
                check(&tables, world)?;
                prop_assert!(reach(&mut tables, world).is_empty());
            }
        }

        #[test]
        fn order_does_not_matter(services in services()) {
            let mut reversed = services.clone();
            reversed.reverse();
            for service in &mut reversed {
                service.ports[0].targets.reverse();
            }
            let empty = Tables::default();
            prop_assert_eq!(desired(&services, &empty, [], DNS), desired(&reversed, &empty, [], DNS));
        }

        #[test]
        fn each_part_alone_leaves_every_service_whole(first in services(), second in services(), most in 1usize..200) {
            let mut tables = Tables::default();
            reach(&mut tables, &first);
            let changes = diff(&tables, &desired(&second, &tables, [], DNS));
            for part in changes.parts(most) {
                tables.apply(&part);
                for (key, spread) in &tables.counts {
                    prop_assert!(!spread.remembers() || tables.chains.contains(spread), "{} leads nowhere", key);
                    for slot in 0..spread.slots() {
                        prop_assert!(tables.slots.contains_key(&(*key, slot)), "{} has a hole", key);
                    }
                }
            }
            check(&tables, &second)?;
        }

        #[test]
        fn one_endpoint_less_touches_few_elements(endpoints in 2u32..64, gone in 0u32..64) {
            let mut tables = Tables::default();
            reach(&mut tables, &[service(1, 0..endpoints, None)]);
            let changes = reach(&mut tables, &[service(1, (0..endpoints).filter(|n| *n != gone % endpoints), None)]);
            prop_assert!(changes.slots_new.len() <= 1 && changes.slots_gone.len() <= 2, "{:?}", changes);
        }
    }

    #[test]
    fn the_dns_address_is_never_translated() {
        let mut dns = service(1, [1], None);
        dns.address = Some(DNS);
        assert_eq!(desired([&dns], &Tables::default(), [], DNS), Tables::default());
    }

    #[test]
    fn chains_have_names_that_read_back() {
        let sticky = [(1, 1), (64, 10_800), (2_048, u32::MAX)];
        let sticky = sticky.into_iter().map(|(slots, seconds)| Spread::Client { slots, seconds });
        for spread in Spread::constant().chain(sticky) {
            assert_eq!(Spread::of_chain(&spread.chain()), Some(spread));
        }
        for other in ["prerouting", "h", "h5", "hs", "h5s", "n", "n-1", "é"] {
            assert_eq!(Spread::of_chain(other), None);
        }
        assert_eq!(Spread::of_chain(""), None);
    }

    #[test]
    fn very_many_endpoints_are_spread_too() {
        let mut tables = Tables::default();
        let world = [service(1, 0..3_000, 10)];
        reach(&mut tables, &world);
        let (key, spread) = tables.counts.iter().next().expect("one service");
        assert_eq!(*spread, Spread::Client { slots: 2_048, seconds: 10 });
        assert!((0..spread.slots()).all(|slot| tables.slots.contains_key(&(*key, slot))));
    }

    #[test]
    fn a_client_is_forgotten_when_its_pod_or_its_time_is_over() {
        let service = ServiceKey { address: Ipv4Addr::new(10, 43, 1, 1), protocol: Protocol::Tcp, port: 80 };
        let counts = |spread| BTreeMap::from([(service, spread)]);
        let sticky = |seconds| counts(Spread::Client { slots: 1, seconds });
        let targets = BTreeMap::from([(service, BTreeSet::from([target(1)]))]);
        let address = Ipv4Addr::new(10, 42, 1, 9);
        let seconds = Duration::from_secs;
        let client = Client { service, address, target: target(1), timeout: seconds(100), left: seconds(70) };
        assert_eq!(fate(&client, &sticky(100), &targets), Fate::Stays);
        assert_eq!(fate(&Client { target: target(2), ..client }, &sticky(100), &targets), Fate::Goes);
        assert_eq!(fate(&client, &counts(Spread::Random(1)), &targets), Fate::Goes);
        assert_eq!(fate(&client, &BTreeMap::new(), &targets), Fate::Goes);
        // It has been idle for 30 seconds.
        assert_eq!(fate(&client, &sticky(40), &targets), Fate::Shortened(seconds(10)));
        assert_eq!(fate(&client, &sticky(30), &targets), Fate::Goes);
        assert_eq!(fate(&client, &sticky(200), &targets), Fate::Stays);
        // What is shortened once stays so.
        let shortened = Client { timeout: seconds(10), left: seconds(10), ..client };
        assert_eq!(fate(&shortened, &sticky(40), &targets), Fate::Stays);
    }

    #[test]
    fn a_udp_flow_to_a_pod_that_left_is_stale() {
        let service = ServiceKey { address: Ipv4Addr::new(10, 43, 1, 1), protocol: Protocol::Udp, port: 53 };
        let targets = BTreeMap::from([(service, BTreeSet::from([target(1)]))]);
        assert!(!is_stale(&Flow { service, target: target(1) }, &targets));
        assert!(is_stale(&Flow { service, target: target(2) }, &targets));
        let tcp = ServiceKey { protocol: Protocol::Tcp, ..service };
        assert!(!is_stale(&Flow { service: tcp, target: target(2) }, &targets));
    }
}
