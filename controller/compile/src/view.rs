//! What every item of a feed is: something under a key.

use warren_proto::control::{FeedItem, feed_item::Item};

/// An item under its key.
pub(crate) fn item(key: String, item: Item) -> FeedItem {
    FeedItem { key, item: Some(item) }
}
