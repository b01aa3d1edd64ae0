//! What an autoscaler remembers between two looks. A controller that starts knows nothing of it: as on Kubernetes, it
//! takes the size that it finds for its first recommendation.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;
use warren_state::{Object, at};

use super::{PERIOD_SECONDS, limits::Limits};
use crate::object;

/// More than there are looks in the longest window; what one that looks more often would add replaces the oldest.
const MOST: usize = 1_000;

/// What an autoscaler remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingRecord {
    /// Whose it is.
    uid: String,
    /// What was asked for at the last look: something else is looked at again at once.
    spec: Value,
    /// When it last looked.
    looked: Timestamp,
    /// Sizes that were recommended, and when each was last.
    recommendations: BTreeMap<i64, Timestamp>,
    /// By how many pods the target was changed, the oldest first.
    changes: Vec<(Timestamp, i64)>,
    /// A change that was planned: whether it was carried out, the status says.
    wanted: Option<(Timestamp, i64)>,
}

impl ScalingRecord {
    /// The record at a look at `now`.
    pub(super) fn going_on(before: Option<&Arc<Self>>, autoscaler: &Object, now: Timestamp) -> Self {
        let uid = object::uid(autoscaler);
        let spec = autoscaler.value.get("spec").cloned().unwrap_or_default();
        let mut record = match before.filter(|before| before.uid == uid) {
            Some(before) => Self { spec, looked: now, ..(**before).clone() },
            None => Self {
                uid: uid.to_owned(),
                spec,
                looked: now,
                recommendations: BTreeMap::new(),
                changes: Vec::new(),
                wanted: None,
            },
        };
        if record.is_confirmed(autoscaler) {
            record.changes.extend(record.wanted);
        }
        record.wanted = None;
        record
    }

    /// When to look again; nothing when that is now.
    pub(super) fn next_look(&self, autoscaler: &Object, now: Timestamp) -> Option<Timestamp> {
        let next = object::later(self.looked, PERIOD_SECONDS);
        // A clock that was set back by a second or more begins anew: what cannot be compared is planned as a whole.
        let is_past = object::later(now, 1) >= self.looked && now < next;
        let is_same = self.uid == object::uid(autoscaler) && Some(&self.spec) == autoscaler.value.get("spec");
        (is_past && is_same && (self.wanted.is_none() || self.is_confirmed(autoscaler))).then_some(next)
    }

    /// Whether the change that was planned last was carried out: it is one commit with the time in the status.
    fn is_confirmed(&self, autoscaler: &Object) -> bool {
        let last = at(&autoscaler.value, "/status/lastScaleTime").and_then(Value::as_str);
        self.wanted.is_some_and(|(time, _)| last == Some(&object::time_text(time)))
    }

    /// The first look recommends what is there.
    pub(super) fn begin_with(&mut self, replicas: i64, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.insert(replicas, now);
        }
    }

    /// Notes a recommendation, before it is limited, and forgets what no window reaches any more.
    pub(super) fn recommend(&mut self, replicas: i64, limits: &Limits<'_>) {
        self.recommendations.insert(replicas, limits.now);
        let (window, period) = limits.behavior.longest();
        let since = object::later(limits.now, window.saturating_neg());
        self.recommendations.retain(|_, time| *time > since);
        let since = object::later(limits.now, period.saturating_neg());
        self.changes.retain(|(time, _)| *time > since);
        while self.recommendations.len() > MOST {
            let oldest = self.recommendations.iter().min_by_key(|(_, time)| **time);
            let Some(oldest) = oldest.map(|(replicas, _)| *replicas) else { break };
            self.recommendations.remove(&oldest);
        }
        let excess = self.changes.len().saturating_sub(MOST);
        self.changes.drain(..excess);
    }

    /// Notes what was planned.
    pub(super) fn wants(&mut self, now: Timestamp, change: Option<i64>) {
        self.wanted = change.map(|change| (now, change));
    }

    /// What was recommended within so many seconds.
    pub(super) fn recommended(&self, now: Timestamp, seconds: i64) -> impl Iterator<Item = i64> {
        let since = object::later(now, seconds.saturating_neg());
        self.recommendations.iter().filter(move |(_, time)| **time > since).map(|(replicas, _)| *replicas)
    }

    /// By how many pods the target has grown within so many seconds, in all.
    pub(super) fn grown(&self, now: Timestamp, seconds: i64) -> i64 {
        let since = object::later(now, seconds.saturating_neg());
        let changes = self.changes.iter().filter(|(time, _)| *time > since);
        changes.fold(0, |sum, (_, change)| sum.saturating_add(*change))
    }
}
