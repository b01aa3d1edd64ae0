//! The group `apiregistration.k8s.io`: APIs of others. Shown and refused, as those of `admission` are.

mod api_service;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[api_service::ENTRY];
