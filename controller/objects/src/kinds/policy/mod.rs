//! The group `policy`: how many pods may be missing.

mod pod_disruption_budget;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[pod_disruption_budget::ENTRY, pod_disruption_budget::V1BETA1];
