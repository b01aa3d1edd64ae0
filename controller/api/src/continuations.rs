//! Pages of a list show one revision: the snapshots of open continuations are kept for a while.
//!
//! Snapshots share structure, so that keeping one costs what has changed since.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use warren_store::Snapshot;

use crate::status::Status;

/// How many snapshots are kept at most.
const MOST: usize = 64;
/// How long a client may take between two pages.
const LIFETIME: Duration = Duration::from_secs(300);

/// What a continue token says. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The revision that all pages show.
    #[serde(rename = "rv")]
    pub(crate) revision: u64,
    /// The last object of the page before.
    #[serde(rename = "ns")]
    pub(crate) namespace: String,
    #[serde(rename = "n")]
    pub(crate) name: String,
    /// When the page before was made, in seconds of the epoch. Of tokens of earlier versions it is not known.
    #[serde(rename = "t", default)]
    pub(crate) at: i64,
}

impl Token {
    /// Instead of a revision: go on from here in whatever state there is.
    pub(crate) const ANY_REVISION: u64 = 0;

    /// Whether the client took too long: however much history there is, going back is not free.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        let lifetime = i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX);
        now.as_second().saturating_sub(self.at) >= lifetime
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
            Status::bad_request("continue key is not valid: use the token exactly as the server gave it")
        })
    }
}

/// The snapshots behind open continuations, oldest use first.
#[derive(Default)]
pub(crate) struct Continuations(Mutex<VecDeque<(Instant, Arc<Snapshot>)>>);

impl Continuations {
    /// Remembers the state that the next page will show.
    pub(crate) fn keep(&self, snapshot: &Arc<Snapshot>) {
        let mut kept = self.0.lock();
        kept.retain(|(used, other)| other.revision != snapshot.revision && used.elapsed() < LIFETIME);
        kept.push_back((Instant::now(), Arc::clone(snapshot)));
        while kept.len() > MOST {
            kept.pop_front();
        }
    }

    /// The state at a revision, if it is still known.
    pub(crate) fn find(&self, revision: u64) -> Option<Arc<Snapshot>> {
        let mut kept = self.0.lock();
        kept.retain(|(used, _)| used.elapsed() < LIFETIME);
        kept.iter()
            .find(|(_, snapshot)| snapshot.revision == revision)
            .map(|(_, snapshot)| Arc::clone(snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_wire_and_nonsense_does_not() {
        let token = Token { revision: 7, namespace: "a".into(), name: "b".into(), at: 100 };
        let after = |seconds: i64| Timestamp::from_second(100 + seconds).unwrap();
        assert!(
            !token.is_expired(after(299)) && token.is_expired(after(300)) && !token.is_expired(after(-50))
        );
        assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        assert_eq!(Token::decode("!!").unwrap_err().code, 400);
        assert_eq!(Token::decode("e30").unwrap_err().code, 400);
    }

    #[test]
    fn the_set_of_snapshots_is_bounded() {
        let continuations = Continuations::default();
        for revision in 1..=100 {
            continuations.keep(&Arc::new(Snapshot::from_objects(revision, [])));
        }
        assert!(continuations.find(1).is_none());
        assert!(continuations.find(100).is_some());
        assert_eq!(continuations.0.lock().len(), MOST);
    }
}
