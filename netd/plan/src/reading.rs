//! A feed read by what changed of it, and a world that changes in place.
//!
//! The items of a feed stand under keys, the parts of a world under names that the items themselves say. So it is kept
//! which key said what: an item that is gone takes its part along.

use std::collections::{BTreeMap, BTreeSet};

use warren_proto::{control::feed_item::Item, vocabulary::NodeName};

use crate::world::{Network, Part, Peer, Problem, Service, ServiceName, World, read_item};

/// Parts of a world, as they are at some time; `None` for what is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The member's own place.
    pub network: Option<Option<Network>>,
    /// Other members.
    pub peers: BTreeMap<NodeName, Option<Peer>>,
    /// Services.
    pub services: BTreeMap<ServiceName, Option<Service>>,
}

impl Change {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.network.is_none() && self.peers.is_empty() && self.services.is_empty()
    }
}

impl World {
    /// Changes some parts in place. Returns the same parts as they were.
    pub fn apply(&mut self, change: Change) -> Change {
        fn put<K: Ord + Clone, V>(held: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> (K, Option<V>) {
            let before = match value {
                Some(value) => held.insert(key.clone(), value),
                None => held.remove(&key),
            };
            (key, before)
        }
        let Change { network, peers, services } = change;
        let peers = peers.into_iter().map(|(name, peer)| put(&mut self.peers, name, peer));
        let services = services.into_iter().map(|(name, service)| put(&mut self.services, name, service));
        Change {
            network: network.map(|network| std::mem::replace(&mut self.network, network)),
            peers: peers.collect(),
            services: services.collect(),
        }
    }
}

/// What an item is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Network,
    Peer(NodeName),
    Service(ServiceName),
}

impl Subject {
    fn of(part: &Part) -> Self {
        match part {
            Part::Network(_) => Self::Network,
            Part::Peer(name, _) => Self::Peer(name.clone()),
            Part::Service(name, _) => Self::Service(name.clone()),
        }
    }
}

/// Remembers what the items of a feed are about, and what was said of those that cannot be used.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    subjects: BTreeMap<String, Subject>,
    taken: BTreeSet<Subject>,
    /// Two items are about the same: which of them counts is found by reading all.
    ambiguous: bool,
    problems: BTreeMap<String, Vec<Problem>>,
}

impl Reader {
    /// Reads all items. Returns the world, and the problems that were not there before.
    pub fn read<'i>(
        &mut self,
        items: impl IntoIterator<Item = (&'i String, &'i Item)>,
    ) -> (World, Vec<Problem>) {
        let known = std::mem::take(self);
        let (mut world, mut said) = (World::default(), Vec::new());
        for (key, item) in items {
            let (part, problems) = read_item(key, item);
            self.note(key, part.as_ref());
            said.extend(news(&problems, known.problems.get(key)));
            if !problems.is_empty() {
                self.problems.insert(key.clone(), problems);
            }
            world.take_in(part);
        }
        (world, said)
    }

    /// Reads what changed: keys, with the item that is there now. Returns what that changes of the world, and the
    /// problems that were not there before; nothing when all must be read.
    pub fn advance(&mut self, changed: &[(&String, Option<&Item>)]) -> Option<(Change, Vec<Problem>)> {
        if self.ambiguous {
            return None;
        }
        let (mut change, mut said) = (Change::default(), Vec::new());
        for (key, _) in changed {
            let Some(subject) = self.subjects.remove(*key) else { continue };
            self.taken.remove(&subject);
            match subject {
                Subject::Network => change.network = Some(None),
                Subject::Peer(name) => _ = change.peers.insert(name, None),
                Subject::Service(name) => _ = change.services.insert(name, None),
            }
        }
        for (key, item) in changed {
            let known = self.problems.remove(*key);
            let Some(item) = item else { continue };
            let (part, problems) = read_item(key, item);
            self.note(key, part.as_ref());
            said.extend(news(&problems, known.as_ref()));
            if !problems.is_empty() {
                self.problems.insert((*key).clone(), problems);
            }
            match part {
                Some(Part::Network(network)) => change.network = Some(Some(network)),
                Some(Part::Peer(name, peer)) => _ = change.peers.insert(name, Some(peer)),
                Some(Part::Service(name, service)) => _ = change.services.insert(name, Some(service)),
                None => {}
            }
        }
        (!self.ambiguous).then_some((change, said))
    }

    fn note(&mut self, key: &str, part: Option<&Part>) {
        let Some(subject) = part.map(Subject::of) else { return };
        self.ambiguous |= !self.taken.insert(subject.clone());
        self.subjects.insert(key.to_owned(), subject);
    }
}

fn news(problems: &[Problem], known: Option<&Vec<Problem>>) -> Vec<Problem> {
    let is_new = |problem: &&Problem| !known.is_some_and(|known| known.contains(problem));
    problems.iter().filter(is_new).cloned().collect()
}
