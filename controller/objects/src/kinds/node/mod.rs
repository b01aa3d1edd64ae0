//! The group `node.k8s.io`: how pods are run.

mod runtime_class;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[runtime_class::ENTRY];
