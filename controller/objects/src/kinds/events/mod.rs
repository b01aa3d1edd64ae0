//! The group `events.k8s.io`: the events of the core group, as newer clients write them.

mod event;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[event::ENTRY];
