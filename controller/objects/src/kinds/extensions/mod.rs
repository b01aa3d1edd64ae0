//! The group `apiextensions.k8s.io`: kinds of users. Shown and refused, as those of `admission` are.

mod custom_resource_definition;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[custom_resource_definition::ENTRY];
