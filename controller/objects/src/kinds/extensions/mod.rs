//! The group `apiextensions.k8s.io`: kinds of users. Shown and refused, as those of `admission` are.

mod custom_resource_definition;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[custom_resource_definition::ENTRY];
