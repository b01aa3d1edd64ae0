//! Views: what one kind of consumer holds, by key; and the batches that carry them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use prost::Message as _;
use warren_proto::{
    control::{FeedBatch, FeedItem, feed_item::Item},
    vocabulary::Cursor,
};

/// Items by key. Items are shared with earlier revisions of the view while they are equal.
pub(crate) type View = BTreeMap<String, Arc<FeedItem>>;

/// Snapshots are cut into batches of about this size.
const BATCH_BYTES: usize = 1 << 20;
/// A change must arrive in one batch to be atomic; a larger one is sent as a snapshot instead.
const DELTA_BYTES: usize = 16 << 20;

/// What one consumer sees: a view shared by all of its kind, one item of its own, one item hidden from it.
#[derive(Clone, Default)]
pub(crate) struct Selection {
    pub(crate) shared: Arc<View>,
    pub(crate) own: Option<Arc<FeedItem>>,
    pub(crate) hidden: Option<String>,
}

impl Selection {
    fn get(&self, key: &str) -> Option<&Arc<FeedItem>> {
        if self.hidden.as_deref() == Some(key) {
            return None;
        }
        self.own.as_ref().filter(|own| own.key == key).or_else(|| self.shared.get(key))
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<FeedItem>> {
        let hidden = self.hidden.as_deref();
        self.own.iter().chain(self.shared.values()).filter(move |item| Some(item.key.as_str()) != hidden)
    }
}

/// What turns one selection into another.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Difference {
    pub(crate) upserts: Vec<FeedItem>,
    pub(crate) deletes: Vec<String>,
}

impl Difference {
    pub(crate) fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }
}

/// An item under its key.
pub(crate) fn item(key: String, item: Item) -> FeedItem {
    FeedItem { key, item: Some(item) }
}

/// Adds an item, keeping the old allocation when nothing changed.
pub(crate) fn intern(view: &mut View, old: &View, item: FeedItem) {
    let shared = match old.get(&item.key) {
        Some(known) if **known == item => Arc::clone(known),
        _ => Arc::new(item),
    };
    view.insert(shared.key.clone(), shared);
}

/// The old view if the new one equals it, so that equality later is a comparison of pointers.
pub(crate) fn keep_if_equal(old: &Arc<View>, new: View) -> Arc<View> {
    let same =
        old.len() == new.len() && old.iter().zip(&new).all(|((a, x), (b, y))| a == b && Arc::ptr_eq(x, y));
    if same { Arc::clone(old) } else { Arc::new(new) }
}

/// What changed between two selections of one consumer.
pub(crate) fn difference(old: &Selection, new: &Selection) -> Difference {
    let same = |a: &Arc<FeedItem>, b: &Arc<FeedItem>| Arc::ptr_eq(a, b) || a == b;
    if Arc::ptr_eq(&old.shared, &new.shared) && old.own == new.own && old.hidden == new.hidden {
        return Difference::default();
    }
    let upserts = new.iter().filter(|item| !old.get(&item.key).is_some_and(|known| same(known, item)));
    let deletes = old.iter().filter(|item| new.get(&item.key).is_none());
    Difference {
        upserts: upserts.map(|item| (**item).clone()).collect(),
        deletes: deletes.map(|item| item.key.clone()).collect(),
    }
}

/// The whole selection, cut into batches; the last one is the marker.
pub(crate) fn snapshot(selection: &Selection, cursor: Cursor) -> VecDeque<FeedBatch> {
    let empty = || FeedBatch {
        epoch: cursor.epoch,
        revision: cursor.revision,
        snapshot: true,
        ..FeedBatch::default()
    };
    let mut batches = VecDeque::from([empty()]);
    let mut bytes = 0;
    for item in selection.iter() {
        let size = item.encoded_len();
        if bytes > 0 && bytes + size > BATCH_BYTES {
            batches.push_back(empty());
            bytes = 0;
        }
        bytes += size;
        if let Some(batch) = batches.back_mut() {
            batch.upserts.push((**item).clone());
        }
    }
    if let Some(last) = batches.back_mut() {
        last.complete = true;
    }
    batches
}

/// A change as one batch, or the whole selection when one batch would be too large.
pub(crate) fn change(difference: Difference, selection: &Selection, cursor: Cursor) -> VecDeque<FeedBatch> {
    let bytes: usize = difference.upserts.iter().map(prost::Message::encoded_len).sum();
    if bytes > DELTA_BYTES {
        return snapshot(selection, cursor);
    }
    let Difference { upserts, deletes } = difference;
    let Cursor { epoch, revision } = cursor;
    VecDeque::from([FeedBatch { epoch, revision, snapshot: false, complete: true, upserts, deletes }])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_proto::control::Peer;

    use super::*;

    const CURSOR: Cursor = Cursor { epoch: 1, revision: 7 };

    fn peer(name: &str, endpoint: &str) -> FeedItem {
        let peer = Peer { name: name.into(), endpoint: endpoint.into(), ..Peer::default() };
        item(format!("peer/{name}"), Item::Peer(peer))
    }

    fn selection(peers: &BTreeMap<String, String>, own: &str) -> Selection {
        let mut view = View::new();
        for (name, endpoint) in peers {
            intern(&mut view, &View::new(), peer(name, endpoint));
        }
        let config = item(
            "network".into(),
            Item::Network(warren_proto::control::NetworkConfig { address: own.into(), ..Default::default() }),
        );
        Selection { shared: Arc::new(view), own: Some(Arc::new(config)), hidden: Some("peer/a".into()) }
    }

    fn contents(selection: &Selection) -> BTreeMap<String, FeedItem> {
        selection.iter().map(|item| (item.key.clone(), (**item).clone())).collect()
    }

    #[test]
    fn a_large_snapshot_is_cut_and_only_the_last_batch_is_the_marker() {
        let long = "x".repeat(300 << 10);
        let peers = (0..10).map(|i| (format!("n{i}"), long.clone())).collect();
        let selection = selection(&peers, "10.42.1.1");
        let batches = snapshot(&selection, CURSOR);
        assert!(batches.len() >= 3, "{}", batches.len());
        assert!(batches.iter().all(|batch| batch.snapshot && batch.encoded_len() < 2 * BATCH_BYTES));
        assert_eq!(batches.iter().filter(|batch| batch.complete).count(), 1);
        assert!(batches.back().is_some_and(|last| last.complete));
        assert_eq!(batches.iter().map(|batch| batch.upserts.len()).sum::<usize>(), 11);
    }

    #[test]
    fn an_empty_snapshot_is_one_marker() {
        let batches = snapshot(&Selection::default(), CURSOR);
        assert_eq!(batches.len(), 1);
        assert!(batches[0].snapshot && batches[0].complete && batches[0].upserts.is_empty());
    }

    #[test]
    fn a_change_too_large_for_one_batch_is_a_snapshot() {
        let long = "x".repeat(DELTA_BYTES);
        let selection = selection(&[("b".to_owned(), long)].into(), "");
        let difference = difference(&Selection::default(), &selection);
        assert!(change(difference, &selection, CURSOR).iter().all(|batch| batch.snapshot));
    }

    #[test]
    fn the_hidden_item_never_shows() {
        let (one, two) = (
            selection(&[("a".into(), "1".into())].into(), ""),
            selection(&[("a".into(), "2".into())].into(), ""),
        );
        assert_eq!(contents(&one).len(), 1);
        assert!(difference(&one, &two).is_empty());
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_new_view(
            old in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
            new in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
            owns in ("[xy]", "[xy]"),
        ) {
            let (old, new) = (selection(&old, &owns.0), selection(&new, &owns.1));
            let mut held = contents(&old);
            let difference = difference(&old, &new);
            for key in &difference.deletes { prop_assert!(held.remove(key).is_some()); }
            for item in &difference.upserts { prop_assert!(held.insert(item.key.clone(), item.clone()) != Some(item.clone())); }
            prop_assert_eq!(held, contents(&new));
        }
    }
}
