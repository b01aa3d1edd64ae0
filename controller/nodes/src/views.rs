//! Views as they are published: the state now, and how the last few states came about.
//!
//! ```text
//!  compiler ──publish──► View { items, a ring of the last changes } ◄── feeds: each is a position in it
//! ```
//!
//! A change is encoded once for all feeds. A feed whose position has left the ring gets the whole view anew.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::watch;
use warren_proto::control::Consumer;

use warren_compile::{
    Item, Items, Touched, Views,
    item::{self, Difference},
    peer_key,
};

/// Snapshots are cut into pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;
/// A change must arrive in one batch to be atomic; instead of a larger one, the whole view is sent.
const DELTA_BYTES: usize = 16 << 20;
/// So many changes are kept, and so many bytes of them, besides the newest, as the view itself has; or this many.
const RING: usize = 256;
const RING_BYTES: usize = 16 << 10;

/// What changed at a revision.
#[derive(Clone)]
struct Delta {
    revision: u64,
    /// The revision of the change before.
    after: u64,
    body: Bytes,
    /// Peers that it names: each of them does not hear of itself.
    peers: Arc<[Arc<str>]>,
    /// Members whose own item is another now: they get everything anew.
    moved: Arc<[Arc<str>]>,
}

/// Everything at a revision, in pieces that all who ask for it at the same time share.
struct Whole {
    pieces: Vec<Bytes>,
}

#[derive(Default)]
struct ViewState {
    /// Of the last change.
    revision: u64,
    items: Items,
    /// Of all items.
    bytes: usize,
    ring: VecDeque<Delta>,
    ring_bytes: usize,
    whole: Weak<Whole>,
}

/// What one kind of consumer holds.
pub(crate) struct View {
    state: Mutex<ViewState>,
    changed: watch::Sender<u64>,
}

impl Default for View {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl View {
    /// What leads from what is published to `items`.
    pub(crate) fn difference(&self, items: &Items) -> Option<Difference> {
        item::difference(&self.state.lock().items, items)
    }

    /// Publishes what [`Self::difference`] said, and wakes those who follow.
    pub(crate) fn publish(
        &self,
        items: Items,
        revision: u64,
        difference: Difference,
        moved: Arc<[Arc<str>]>,
    ) {
        let Difference { body, keys, added, removed } = difference;
        let peers = keys.into_iter().filter(|key| key.starts_with(PEER)).collect();
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_add(added).saturating_sub(removed);
        let delta = Delta { revision, after: state.revision, body, peers, moved };
        state.push(delta);
        (state.items, state.revision, state.whole) = (items, revision, Weak::new());
        drop(state);
        self.changed.send_replace(revision);
    }
}

const PEER: &str = "peer/";

impl ViewState {
    fn push(&mut self, delta: Delta) {
        if delta.body.len() > DELTA_BYTES {
            (self.ring_bytes, self.ring) = (0, VecDeque::new());
            return;
        }
        // Who would have to read more than the whole view is better off with that.
        let most = self.bytes.clamp(RING_BYTES, DELTA_BYTES);
        while self.ring.len() >= RING || self.ring_bytes > most {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.body.len();
        }
        self.ring_bytes += delta.body.len();
        self.ring.push_back(delta);
    }

    /// The changes since a revision of the view; `None` when they are not kept any more.
    fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Delta>> {
        if revision < self.revision && self.ring.front().is_none_or(|oldest| oldest.after > revision) {
            return None;
        }
        Some(self.ring.iter().filter(move |delta| delta.revision > revision))
    }

    fn whole(&mut self) -> Arc<Whole> {
        if let Some(whole) = self.whole.upgrade() {
            return whole;
        }
        let (mut pieces, mut piece) = (Vec::new(), BytesMut::new());
        for item in self.items.values() {
            if !piece.is_empty() && piece.len() + item.frame().len() > PIECE_BYTES {
                pieces.push(piece.split().freeze());
            }
            piece.extend_from_slice(item.frame());
        }
        if !piece.is_empty() {
            pieces.push(piece.freeze());
        }
        let whole = Arc::new(Whole { pieces });
        self.whole = Arc::downgrade(&whole);
        whole
    }
}

/// A part of what a consumer is sent.
pub(crate) struct Part {
    pub(crate) revision: u64,
    pub(crate) snapshot: bool,
    pub(crate) complete: bool,
    /// The body of a batch, in two pieces.
    pub(crate) body: [Bytes; 2],
    /// As long as one feed is being sent the whole, others share it.
    _whole: Option<Arc<Whole>>,
}

/// What one consumer of one member sees: a view, one item of its own, one item hidden from it.
#[derive(Clone)]
pub(crate) struct Selection {
    view: Arc<View>,
    member: Arc<str>,
    own: Option<Item>,
    hidden: Option<Arc<str>>,
}

/// Where a consumer is in its view.
pub(crate) struct Position {
    selection: Selection,
    revision: u64,
    changed: watch::Receiver<u64>,
}

impl Position {
    /// Everything, as it is at `revision` at least; and the place from where to go on.
    pub(crate) fn open(selection: Selection, revision: u64) -> (Self, Vec<Part>) {
        let changed = selection.view.changed.subscribe();
        let mut position = Self { selection, revision, changed };
        let parts = position.whole();
        (position, parts)
    }

    /// Up to where the consumer has been told everything, once the parts that were handed out are sent.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Waits for a change; an error when the view is gone.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.changed.changed().await
    }

    /// What the consumer is to be sent now, that sees this `selection` by now.
    pub(crate) fn advance(&mut self, selection: Selection) -> Vec<Part> {
        let is_same = Arc::ptr_eq(&self.selection.view, &selection.view);
        self.selection = selection;
        if !is_same {
            self.changed = self.selection.view.changed.subscribe();
            return self.whole();
        }
        self.changed.mark_unchanged();
        let (deltas, revision) = {
            let state = self.selection.view.state.lock();
            let deltas = state.since(self.revision);
            (deltas.map(|deltas| deltas.cloned().collect::<Vec<_>>()), state.revision)
        };
        let member = &self.selection.member;
        match deltas.filter(|deltas| !deltas.iter().any(|delta| delta.moved.contains(member))) {
            Some(deltas) => {
                self.revision = self.revision.max(revision);
                deltas.into_iter().filter_map(|delta| self.part(delta)).collect()
            }
            None => self.whole(),
        }
    }

    /// A change as this consumer sees it; `None` when that is nothing.
    fn part(&self, delta: Delta) -> Option<Part> {
        let hidden = self.selection.hidden.as_ref().filter(|hidden| delta.peers.contains(*hidden));
        let body = match hidden {
            Some(hidden) => item::without(&delta.body, hidden),
            None => [delta.body, Bytes::new()],
        };
        let says_something = body.iter().any(|piece| !piece.is_empty());
        says_something.then_some(Part {
            revision: delta.revision,
            snapshot: false,
            complete: true,
            body,
            _whole: None,
        })
    }

    /// Everything; the last part is the marker.
    fn whole(&mut self) -> Vec<Part> {
        let (whole, revision) = {
            let mut state = self.selection.view.state.lock();
            (state.whole(), state.revision)
        };
        self.revision = self.revision.max(revision);
        let hidden = self.selection.hidden.as_deref();
        let piece = |piece: &Bytes| match hidden {
            Some(hidden) => item::without(piece, hidden),
            None => [piece.clone(), Bytes::new()],
        };
        let own = self.selection.own.iter().map(|own| [own.frame().clone(), Bytes::new()]);
        let mut bodies: Vec<_> = own.chain(whole.pieces.iter().map(piece)).collect();
        if bodies.is_empty() {
            bodies.push([Bytes::new(), Bytes::new()]);
        }
        let last = bodies.len() - 1;
        let part = |(index, body)| Part {
            revision: self.revision,
            snapshot: true,
            complete: index == last,
            body,
            _whole: Some(Arc::clone(&whole)),
        };
        bodies.into_iter().enumerate().map(part).collect()
    }
}

/// All views that are published, by who sees them.
#[derive(Default)]
pub(crate) struct Published {
    network: Arc<View>,
    gateway: Arc<View>,
    members: Mutex<BTreeMap<Arc<str>, Membership>>,
}

/// A member's own part in what is published.
struct Membership {
    /// Of those that run pods.
    agent: Option<Arc<View>>,
    /// What its netd alone gets.
    own: Item,
}

/// Which view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Agent(Arc<str>),
    Network,
    Gateway,
}

/// What is to be published of one view.
struct Change {
    view: Arc<View>,
    items: Items,
    difference: Difference,
}

/// What is to be published at one revision.
pub(crate) struct Publication {
    changes: BTreeMap<Name, Change>,
    moved: Arc<[Arc<str>]>,
    revision: u64,
}

impl Publication {
    /// Which views change by it.
    pub(crate) fn views(&self) -> impl Iterator<Item = &Name> {
        self.changes.keys()
    }

    /// Shows it to those who follow.
    pub(crate) fn publish(self) {
        for (name, Change { view, items, difference }) in self.changes {
            let moved = if name == Name::Network { Arc::clone(&self.moved) } else { Arc::default() };
            view.publish(items, self.revision, difference, moved);
        }
    }
}

impl Published {
    /// What this consumer sees; `None` when the member does not exist (any more).
    pub(crate) fn select(&self, member: &str, consumer: Consumer) -> Option<Selection> {
        let members = self.members.lock();
        let (name, membership) = members.get_key_value(member)?;
        let member = Arc::clone(name);
        let (view, own, hidden) = match consumer {
            Consumer::Agent => (membership.agent.clone()?, None, None),
            Consumer::Netd => {
                let (own, hidden) = (membership.own.clone(), peer_key(&member).into());
                (Arc::clone(&self.network), Some(own), Some(hidden))
            }
            Consumer::Gateway => (Arc::clone(&self.gateway), None, None),
            Consumer::Unspecified => return None,
        };
        Some(Selection { view, member, own, hidden })
    }

    /// Takes members in as they are now, and finds out what is new for whom: not published yet, so that it can be noted
    /// first.
    pub(crate) fn prepare(&self, views: &Views, touched: &Touched, revision: u64) -> Publication {
        let moved = self.take_members(views, touched);
        let mut changes = BTreeMap::new();
        let mut change = |name, view: Arc<View>, items: &Items, moved: bool| {
            let difference = view.difference(items).or_else(|| moved.then(Difference::default));
            if let Some(difference) = difference {
                changes.insert(name, Change { view, items: items.clone(), difference });
            }
        };
        if touched.network || !moved.is_empty() {
            change(Name::Network, Arc::clone(&self.network), &views.network, !moved.is_empty());
        }
        if touched.gateway {
            change(Name::Gateway, Arc::clone(&self.gateway), &views.gateway, false);
        }
        for member in &touched.agents {
            let view = self.members.lock().get(member).and_then(|membership| membership.agent.clone());
            if let (Some(view), Some(items)) = (view, views.agents.get(member)) {
                change(Name::Agent(Arc::clone(member)), view, items, false);
            }
        }
        Publication { changes, moved: moved.into(), revision }
    }

    /// Those whose own item is another now.
    fn take_members(&self, views: &Views, touched: &Touched) -> Vec<Arc<str>> {
        let mut members = self.members.lock();
        let mut moved = Vec::new();
        for name in &touched.members {
            let Some(own) = views.members.get(name).cloned() else {
                members.remove(name);
                continue;
            };
            let former = members.remove(name);
            if former.as_ref().is_some_and(|former| former.own != own) {
                moved.push(Arc::clone(name));
            }
            let agent = views.agents.contains_key(name);
            let agent = agent.then(|| former.and_then(|former| former.agent).unwrap_or_default());
            members.insert(Arc::clone(name), Membership { agent, own });
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use warren_proto::control::{FeedBatch, FeedItem, NetworkConfig, Peer, feed_item};

    use super::*;
    use crate::batches::Batch;

    fn encoded(key: &str, item: feed_item::Item) -> Item {
        Item::new(&FeedItem { key: key.to_owned(), item: Some(item) })
    }

    fn peer(name: &str, endpoint: &str) -> (Arc<str>, Item) {
        let key = peer_key(name);
        let peer = Peer { name: name.into(), endpoint: endpoint.into(), ..Peer::default() };
        (key.as_str().into(), encoded(&key, feed_item::Item::Peer(peer)))
    }

    fn place(address: &str) -> Item {
        let network = NetworkConfig { address: address.into(), ..NetworkConfig::default() };
        encoded("network", feed_item::Item::Network(network))
    }

    /// A world of members that are each other's peers.
    struct World {
        published: Published,
        views: Views,
        revision: u64,
    }

    impl World {
        fn new(members: usize) -> Self {
            let mut world = Self { published: Published::default(), views: Views::default(), revision: 0 };
            let mut touched = Touched { network: true, ..Touched::default() };
            for index in 0..members {
                let name: Arc<str> = format!("n{index}").into();
                world.views.members.insert(Arc::clone(&name), place("10.42.1.1"));
                world.views.agents.insert(Arc::clone(&name), Items::new());
                touched.members.insert(Arc::clone(&name));
                let (key, item) = peer(&name, "first");
                world.views.network.insert(key, item);
            }
            world.publish(&touched);
            world
        }

        fn publish(&mut self, touched: &Touched) {
            self.revision += 1;
            self.published.prepare(&self.views, touched, self.revision).publish();
        }

        fn set_peer(&mut self, name: &str, endpoint: &str) {
            let (key, item) = peer(name, endpoint);
            self.views.network.insert(key, item);
            self.publish(&Touched { network: true, ..Touched::default() });
        }

        fn select(&self, member: &str, consumer: Consumer) -> Selection {
            self.published.select(member, consumer).expect("a member")
        }
    }

    fn decode(parts: Vec<Part>) -> Vec<FeedBatch> {
        parts.into_iter().map(|part| Batch::new(1, part).decode()).collect()
    }

    fn keys(batches: &[FeedBatch]) -> Vec<&str> {
        batches.iter().flat_map(|batch| &batch.upserts).map(|item| item.key.as_str()).collect()
    }

    #[test]
    fn a_change_is_encoded_once_for_all_but_those_it_is_hidden_from() {
        let mut world = World::new(3);
        let (mut positions, snapshots): (Vec<_>, Vec<_>) = ["n0", "n1", "n2"]
            .map(|name| Position::open(world.select(name, Consumer::Netd), world.revision))
            .into_iter()
            .unzip();
        let snapshots: Vec<_> = snapshots.into_iter().map(decode).collect();
        assert_eq!(keys(&snapshots[0]), ["network", "peer/n1", "peer/n2"]);
        assert_eq!(keys(&snapshots[2]), ["network", "peer/n0", "peer/n1"]);
        world.set_peer("n2", "second");
        let mut parts: Vec<_> = ["n0", "n1", "n2"]
            .into_iter()
            .zip(&mut positions)
            .map(|(name, position)| position.advance(world.select(name, Consumer::Netd)))
            .collect();
        assert!(parts[2].is_empty(), "a member does not hear of itself");
        assert_eq!(positions[2].revision(), world.revision, "and has missed nothing");
        assert_eq!(parts[0][0].body[0].as_ptr(), parts[1][0].body[0].as_ptr(), "the same bytes");
        let batches = decode(parts.remove(0));
        assert_eq!((keys(&batches), batches[0].snapshot, batches[0].revision), (vec!["peer/n2"], false, 2));
    }

    #[test]
    fn only_those_whose_view_changed_are_woken() {
        let mut world = World::new(2);
        let open = |world: &World, name, consumer| Position::open(world.select(name, consumer), 1).0;
        let positions = [
            open(&world, "n0", Consumer::Agent),
            open(&world, "n1", Consumer::Agent),
            open(&world, "n0", Consumer::Netd),
            open(&world, "n0", Consumer::Gateway),
        ];
        let woken = || positions.each_ref().map(|position| position.changed.has_changed().unwrap_or(true));
        let name: Arc<str> = "n1".into();
        let (key, item) = peer("pod", "any");
        world.views.agents.get_mut(&name).expect("its view").insert(key, item);
        world.publish(&Touched { agents: [name].into(), network: true, gateway: true, ..Touched::default() });
        assert_eq!(woken(), [false, true, false, false], "what is touched and the same is no change");
        world.set_peer("n1", "second");
        assert_eq!(woken(), [false, true, true, false]);
    }

    #[test]
    fn who_falls_behind_the_ring_gets_everything_anew_and_the_ring_is_bounded() {
        let mut world = World::new(50);
        let (mut slow, _) = Position::open(world.select("n0", Consumer::Netd), world.revision);
        let (mut quick, _) = Position::open(world.select("n0", Consumer::Netd), world.revision);
        let long = "x".repeat(2_000);
        for round in 0..400 {
            world.set_peer("n7", &format!("{round} {long}"));
            if round % 5 == 0 {
                let batches = decode(quick.advance(world.select("n0", Consumer::Netd)));
                assert!(!batches.is_empty() && batches.iter().all(|batch| !batch.snapshot), "{round}");
            }
            let state = world.published.network.state.lock();
            let bytes: usize = state.ring.iter().map(|delta| delta.body.len()).sum();
            let whole: usize = state.items.values().map(|item| item.frame().len()).sum();
            assert_eq!((bytes, whole), (state.ring_bytes, state.bytes));
            assert!(bytes <= whole.max(RING_BYTES) + 2 * 2_100 && state.ring.len() <= RING, "{bytes}");
        }
        let batches = decode(slow.advance(world.select("n0", Consumer::Netd)));
        assert!(
            batches.iter().all(|batch| batch.snapshot) && batches.last().is_some_and(|last| last.complete)
        );
        assert_eq!(keys(&batches).len(), 50, "its own place, and every peer but itself");
        assert!(slow.advance(world.select("n0", Consumer::Netd)).is_empty());
    }

    #[test]
    fn a_large_view_is_cut_into_pieces_that_are_shared_and_a_large_change_is_the_whole() {
        let mut world = World::new(2);
        let (mut before, _) = Position::open(world.select("n0", Consumer::Netd), world.revision);
        let long = "x".repeat(300 << 10);
        for index in 0..70 {
            let (key, item) = peer(&format!("p{index}"), &long);
            world.views.network.insert(key, item);
        }
        world.publish(&Touched { network: true, ..Touched::default() });
        let one = before.advance(world.select("n0", Consumer::Netd));
        let (_, two) = Position::open(world.select("n0", Consumer::Netd), world.revision);
        assert!(one.len() > 20 && one.iter().all(|part| part.snapshot), "{} parts", one.len());
        assert_eq!(one[2].body[0].as_ptr(), two[2].body[0].as_ptr(), "the same bytes");
        assert!(one.iter().all(|part| part.body.iter().map(Bytes::len).sum::<usize>() < 2 * PIECE_BYTES));
        assert_eq!(one.iter().filter(|part| part.complete).count(), 1);
        assert!(one.last().is_some_and(|last| last.complete));
        drop((one, two));
        assert!(world.published.network.state.lock().whole.upgrade().is_none(), "kept for nobody");
    }

    #[test]
    fn an_empty_view_is_one_marker_and_a_member_that_moved_gets_everything_anew() {
        let mut world = World::new(2);
        let (_, parts) = Position::open(world.select("n0", Consumer::Agent), world.revision);
        let batches = decode(parts);
        assert_eq!(batches.len(), 1);
        assert!(batches[0].snapshot && batches[0].complete && batches[0].upserts.is_empty());
        let mut both =
            ["n0", "n1"].map(|name| (name, Position::open(world.select(name, Consumer::Netd), 1).0));
        world.views.members.insert("n1".into(), place("10.42.9.1"));
        world.publish(&Touched { members: ["n1".into()].into(), ..Touched::default() });
        let sent = both.each_mut().map(|(name, position)| {
            let batches = decode(position.advance(world.select(name, Consumer::Netd)));
            (batches.len(), batches.iter().all(|batch| batch.snapshot))
        });
        assert_eq!(sent, [(0, true), (2, true)]);
    }
}
