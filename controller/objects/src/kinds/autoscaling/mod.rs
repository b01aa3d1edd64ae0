//! The group `autoscaling`: what changes the number of pods.

mod horizontal_pod_autoscaler;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[horizontal_pod_autoscaler::ENTRY, horizontal_pod_autoscaler::V1];
