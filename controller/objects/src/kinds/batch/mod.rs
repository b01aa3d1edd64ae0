//! The group `batch`: work that ends.

mod cron_job;
mod job;

use super::Entry;

pub(super) const KINDS: &[Entry] = &[cron_job::ENTRY, job::ENTRY, cron_job::V1BETA1];
