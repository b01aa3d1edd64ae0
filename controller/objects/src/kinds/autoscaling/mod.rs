//! The group `autoscaling`: what changes the number of pods.

mod horizontal_pod_autoscaler;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[horizontal_pod_autoscaler::ENTRY, horizontal_pod_autoscaler::V1];
