//! The group `apiregistration.k8s.io`: APIs of others. Shown and refused, as those of `admission` are.

mod api_service;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[api_service::ENTRY];
