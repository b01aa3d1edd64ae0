//! The group `discovery.k8s.io`: where the pods of services are.

mod endpoint_slice;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[endpoint_slice::ENTRY, endpoint_slice::V1BETA1];
