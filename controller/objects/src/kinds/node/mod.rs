//! The group `node.k8s.io`: how pods are run.

mod runtime_class;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[runtime_class::ENTRY];
