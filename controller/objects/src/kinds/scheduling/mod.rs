//! The group `scheduling.k8s.io`: which pods come first.

mod priority_class;

use super::Entry;

pub use priority_class::{SYSTEM_CLASSES, SystemClass};

pub(super) const KINDS: &[Entry] = &[priority_class::ENTRY];
