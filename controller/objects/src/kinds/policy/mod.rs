//! The group `policy`: how many pods may be missing.

mod pod_disruption_budget;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[pod_disruption_budget::ENTRY, pod_disruption_budget::V1BETA1];
