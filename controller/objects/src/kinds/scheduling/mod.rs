//! The group `scheduling.k8s.io`: which pods come first.

mod priority_class;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[priority_class::ENTRY];
