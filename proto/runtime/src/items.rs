//! The items of a view, as a map whose copies share what they have in common.
//!
//! A change makes a new map out of the old one at the cost of the change; who still holds the old one (a pass that is
//! under way, the task that keeps the feed on disk) is not disturbed, and what lies between two maps is found by
//! skipping what they share.

use std::{collections::BTreeMap, fmt, ops::Index, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};
use warren_proto::control::feed_item::Item;

/// Everything in a view, by key. A copy costs nothing.
#[derive(Clone, Default, PartialEq)]
pub struct Items {
    map: OrdMap<String, Shared>,
}

/// An item that several maps hold. What is the same place is equal without a look at it.
#[derive(Clone)]
struct Shared(Arc<Item>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// What became of one key between two maps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference<'i> {
    /// The item's key.
    pub key: &'i String,
    /// The item as it was; `None` for a new one.
    pub before: Option<&'i Item>,
    /// The item as it is; `None` for one that is gone.
    pub after: Option<&'i Item>,
}

impl Items {
    /// No items.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// One item.
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.map.get(key).map(|Shared(item)| &**item)
    }

    /// One item, to be changed; other maps that hold it keep it as it is.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Item> {
        self.map.get_mut(key).map(|Shared(item)| Arc::make_mut(item))
    }

    /// Adds or replaces an item.
    pub fn insert(&mut self, key: String, item: Item) {
        self.map.insert(key, Shared(Arc::new(item)));
    }

    /// Removes an item; whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        self.map.remove(key).is_some()
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Item)> {
        self.map.iter().map(|(key, Shared(item))| (key, &**item))
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.map.keys()
    }

    /// All items, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &Item> {
        self.map.values().map(|Shared(item)| &**item)
    }

    /// What leads from `older` to this, in the order of the keys. What both share is skipped: the cost follows the
    /// number of differences where one was made from the other, and the number of items where it was not.
    pub fn since<'i>(&'i self, older: &'i Self) -> impl Iterator<Item = Difference<'i>> {
        older.map.diff(&self.map).map(|difference| match difference {
            DiffItem::Add(key, Shared(after)) => Difference { key, before: None, after: Some(&**after) },
            DiffItem::Update { old: (_, Shared(before)), new: (key, Shared(after)) } => {
                Difference { key, before: Some(&**before), after: Some(&**after) }
            }
            DiffItem::Remove(key, Shared(before)) => Difference { key, before: Some(&**before), after: None },
        })
    }

    /// The same items as `newer`, made from this map: what is equal is shared, so that later differences between the
    /// two cost what they change. For a whole view that came anew.
    #[must_use]
    pub fn become_like(&self, newer: &Self) -> Self {
        let mut map = self.map.clone();
        for difference in self.map.diff(&newer.map) {
            match difference {
                DiffItem::Add(key, item) | DiffItem::Update { new: (key, item), .. } => {
                    map.insert(key.clone(), item.clone());
                }
                DiffItem::Remove(key, _) => _ = map.remove(key),
            }
        }
        Self { map }
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Index<&str> for Items {
    type Output = Item;

    fn index(&self, key: &str) -> &Item {
        &self.map[key].0
    }
}

impl Extend<(String, Item)> for Items {
    fn extend<I: IntoIterator<Item = (String, Item)>>(&mut self, items: I) {
        for (key, item) in items {
            self.insert(key, item);
        }
    }
}

impl FromIterator<(String, Item)> for Items {
    fn from_iter<I: IntoIterator<Item = (String, Item)>>(items: I) -> Self {
        let mut map = Self::new();
        map.extend(items);
        map
    }
}

impl From<BTreeMap<String, Item>> for Items {
    fn from(items: BTreeMap<String, Item>) -> Self {
        items.into_iter().collect()
    }
}

impl<const N: usize> From<[(String, Item); N]> for Items {
    fn from(items: [(String, Item); N]) -> Self {
        items.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_proto::control::Peer;

    use super::*;

    fn item(content: u32) -> Item {
        Item::Peer(Peer { name: content.to_string(), ..Peer::default() })
    }

    fn items(content: &BTreeMap<u32, u32>) -> Items {
        content.iter().map(|(key, content)| (format!("peer/{key:03}"), item(*content))).collect()
    }

    proptest! {
        #[test]
        fn differences_lead_from_one_map_to_the_other(
            old in proptest::collection::btree_map(0u32..200, 0u32..3, 0..150),
            new in proptest::collection::btree_map(0u32..200, 0u32..3, 0..150),
        ) {
            let (old, new) = (items(&old), items(&new));
            let mut reached = old.clone();
            let mut keys = Vec::new();
            for Difference { key, before, after } in new.since(&old) {
                prop_assert_eq!(old.get(key), before);
                prop_assert_ne!(before, after);
                match after {
                    Some(after) => reached.insert(key.clone(), after.clone()),
                    None => prop_assert!(reached.remove(key)),
                }
                keys.push(key);
            }
            prop_assert!(keys.is_sorted());
            prop_assert_eq!(&reached, &new);
            let like = old.become_like(&new);
            prop_assert_eq!(like.since(&new).count(), 0);
            prop_assert_eq!(like, new);
        }
    }

    #[test]
    fn a_copy_keeps_what_it_was() {
        let before = items(&(0..500).map(|key| (key, 0)).collect());
        let mut after = before.clone();
        *after.get_mut("peer/250").expect("there") = item(1);
        assert!(after.remove("peer/007") && !after.remove("peer/007"));
        after.insert("peer/new".to_owned(), item(2));
        assert_eq!((before.len(), before["peer/250"].clone()), (500, item(0)));
        let keys: Vec<_> = after.since(&before).map(|difference| difference.key.as_str()).collect();
        assert_eq!(keys, ["peer/007", "peer/250", "peer/new"]);
    }

    #[test]
    fn a_change_copies_as_much_of_a_large_map_as_of_a_small_one() {
        for size in [100, 5_000] {
            let before = items(&(0..size).map(|key| (key, 0)).collect());
            let mut after = before.clone();
            after.insert("peer/050".to_owned(), item(1));
            assert!(after.remove("peer/051"));
            // What lies in a part that was copied has two owners.
            let copied = before.map.values().filter(|Shared(item)| Arc::strong_count(item) > 1).count();
            assert!(copied <= 128, "{copied} of {size} items were copied");
            assert_eq!(after.since(&before).count(), 2);
        }
    }
}
