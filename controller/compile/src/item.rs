//! Items as they travel: encoded once, when they are compiled, and shared from then on.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use imbl::{OrdMap, ordmap::DiffItem};
use prost::{Message as _, encoding};
use warren_proto::control::{FeedBatch, FeedItem};

/// What one kind of consumer holds, by key. A copy costs nothing and shares what does not change.
pub type Items = OrdMap<Arc<str>, Item>;

/// The fields of a [`FeedBatch`] that make up its body, and the key's within an item.
const UPSERTS: u32 = 5;
const DELETES: u32 = 6;
const KEY: u32 = 1;

/// An item as the field of a [`FeedBatch`] that it will be, tag and length included.
#[derive(Clone, PartialEq, Eq)]
pub struct Item(Bytes);

impl Item {
    /// Encodes an item.
    pub fn new(item: &FeedItem) -> Self {
        let mut frame = BytesMut::new();
        encoding::message::encode(UPSERTS, item, &mut frame);
        // To the byte: items stay for long.
        Self(Bytes::copy_from_slice(&frame))
    }

    /// As it stands in a batch.
    pub fn frame(&self) -> &Bytes {
        &self.0
    }

    /// What was encoded.
    pub fn decode(&self) -> Option<FeedItem> {
        FeedBatch::decode(self.0.clone()).ok()?.upserts.pop()
    }
}

/// What turns one state of a view into another, encoded: the body of a [`FeedBatch`].
#[derive(Default)]
pub struct Difference {
    /// Fields of the batch.
    pub body: Bytes,
    /// What it names, in order.
    pub keys: Vec<Arc<str>>,
    /// Bytes of items that are new.
    pub added: usize,
    /// Bytes of items that are gone.
    pub removed: usize,
}

/// The difference of two states; `None` when there is none. It costs what differs where one was made of the other.
pub fn difference(old: &Items, new: &Items) -> Option<Difference> {
    if old.ptr_eq(new) {
        return None;
    }
    let (mut body, mut keys, mut added, mut removed) = (BytesMut::new(), Vec::new(), 0, 0);
    for change in old.diff(new) {
        let (key, former, item) = match change {
            DiffItem::Add(key, item) => (key, None, Some(item)),
            DiffItem::Update { old: (_, former), new: (key, item) } => (key, Some(former), Some(item)),
            DiffItem::Remove(key, former) => (key, Some(former), None),
        };
        match item {
            Some(item) => body.extend_from_slice(item.frame()),
            None => encode_text(DELETES, key, &mut body),
        }
        keys.push(Arc::clone(key));
        added += item.map_or(0, |item| item.frame().len());
        removed += former.map_or(0, |former| former.frame().len());
    }
    let difference = || Difference { body: body.freeze(), keys, added, removed };
    (added > 0 || removed > 0).then(difference)
}

fn encode_text(field: u32, text: &str, buffer: &mut BytesMut) {
    encoding::encode_key(field, encoding::WireType::LengthDelimited, buffer);
    encoding::encode_varint(text.len() as u64, buffer);
    buffer.extend_from_slice(text.as_bytes());
}

/// A body without what it says of one key: the parts before and after it. Nothing is copied.
pub fn without(body: &Bytes, key: &str) -> [Bytes; 2] {
    let mut rest = &body[..];
    while !rest.is_empty() {
        let begin = body.len() - rest.len();
        let Some((field, payload)) = frame(&mut rest) else { break };
        let named = match field {
            UPSERTS => frame(&mut { payload }).filter(|(field, _)| *field == KEY).map(|(_, key)| key),
            _ => Some(payload),
        };
        if named == Some(key.as_bytes()) {
            return [body.slice(..begin), body.slice(body.len() - rest.len()..)];
        }
    }
    [body.clone(), Bytes::new()]
}

/// The field of bytes that comes next.
fn frame<'b>(rest: &mut &'b [u8]) -> Option<(u32, &'b [u8])> {
    let (field, _) = encoding::decode_key(rest).ok()?;
    let length = usize::try_from(encoding::decode_varint(rest).ok()?).ok()?;
    let (payload, _) = rest.split_at_checked(length)?;
    rest.advance(length);
    Some((field, payload))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use warren_proto::control::{Peer, feed_item};

    use super::*;

    fn items(peers: &BTreeMap<String, String>) -> Items {
        let item = |(name, endpoint): (&String, &String)| {
            let peer = Peer { name: name.clone(), endpoint: endpoint.clone(), ..Peer::default() };
            let item = FeedItem { key: name.clone(), item: Some(feed_item::Item::Peer(peer)) };
            (Arc::from(name.as_str()), Item::new(&item))
        };
        peers.iter().map(item).collect()
    }

    fn decode(body: &[&[u8]]) -> FeedBatch {
        FeedBatch::decode(&body.concat()[..]).expect("a batch")
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_new_view(
            old in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
            new in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
            hidden in "[a-d]",
        ) {
            let Some(change) = difference(&items(&old), &items(&new)) else {
                prop_assert_eq!(old, new);
                return Ok(());
            };
            let batch = decode(&[&change.body]);
            let mut held = old.clone();
            for key in &batch.deletes { prop_assert!(held.remove(key).is_some()); }
            for item in &batch.upserts {
                let Some(feed_item::Item::Peer(peer)) = &item.item else { panic!("{item:?}") };
                prop_assert_ne!(held.insert(item.key.clone(), peer.endpoint.clone()), Some(peer.endpoint.clone()));
            }
            prop_assert_eq!(held, new);
            let [before, after] = without(&change.body, &hidden);
            let mut expected = batch;
            expected.upserts.retain(|item| item.key != hidden);
            expected.deletes.retain(|key| *key != hidden);
            prop_assert_eq!(decode(&[&before, &after]), expected);
        }
    }
}
