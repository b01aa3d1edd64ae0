//! What nameservers answered, for as long as they said.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use tokio::time::Instant;

use super::wire::{Query, Response};

/// Bytes of answers and questions.
const BYTES: u64 = 16 << 20;
/// Seconds that an answer is kept at most, whatever it says: what nameservers change is seen.
const LONGEST: u32 = 3_600;
/// Seconds that an absence is kept at most.
const LONGEST_ABSENCE: u32 = 60;

/// What a question is kept under: its words, and whether it came by TCP.
pub(super) type Key = (Vec<u8>, bool);

#[derive(Clone)]
struct Kept {
    response: Arc<Response>,
    since: Instant,
    lifetime: Duration,
}

/// Answers by question.
pub(super) struct Answered(Cache<Key, Kept>);

impl Answered {
    pub(super) fn new() -> Self {
        let weight = |key: &Key, kept: &Kept| {
            u32::try_from(key.0.len() + kept.response.len() + 200).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().weigher(weight).max_capacity(BYTES).build())
    }

    pub(super) fn get(&self, key: &Key, query: &Query) -> Option<Vec<u8>> {
        let kept = self.0.get(key)?;
        let age = kept.since.elapsed();
        if age >= kept.lifetime {
            self.0.invalidate(key);
            return None;
        }
        Some(kept.response.answer_to(query, u32::try_from(age.as_secs()).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer, unless it must not be. What answers an option of a client's belongs to that client.
    pub(super) fn keep(&self, key: Key, query: &Query, response: &Arc<Response>) {
        let private = query.edns.as_ref().is_some_and(|edns| edns.options);
        let Some(seconds) = response.lifetime.filter(|seconds| *seconds > 0 && !private) else { return };
        let longest = if response.code == super::wire::code::NO_NAME { LONGEST_ABSENCE } else { LONGEST };
        let lifetime = Duration::from_secs(u64::from(seconds.min(longest)));
        self.0.insert(key, Kept { response: Arc::clone(response), since: Instant::now(), lifetime });
    }

    /// Forgets everything: other nameservers may say other things.
    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}
