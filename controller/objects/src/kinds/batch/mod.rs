//! The group `batch`: work that ends.

mod cron_job;
mod job;

use super::Kind;

pub(super) const KINDS: &[Kind] = &[cron_job::ENTRY, job::ENTRY, cron_job::V1BETA1];
