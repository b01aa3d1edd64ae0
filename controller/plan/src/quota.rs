//! How much of what a quota limits is used? Keeps the statuses of quotas, by which the gate for writes lets objects be made
//! ([`warren_objects::quotas`]).
//!
//! The gate notes in the quota what it lets pass, in the commit that makes it. So what is counted here lacks nothing that
//! was made: a status that was counted from an older state meets another revision of the quota, and is dropped. What ended
//! or went is given back here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use warren_objects::quotas;
use warren_state::{Key, Object, Transaction};
use warren_vocabulary::resources::PODS;

use crate::{
    indexes::{By, Counted},
    object,
    outcome::Outcome,
    view::View,
};

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let Some(quota) = view.world.snapshot.get(key) else { return };
            let used = used(view, quota, outcome);
            let value =
                object::edited_within(quota, &["status"], |value| quotas::count(&quota.value, &used, value));
            if let Some(value) = value {
                let transaction = Transaction::new().replace(key.clone(), quota.revision, value);
                outcome.step(format!("status of {key}"), transaction);
            }
        });
    }
}

/// Whether two states of an object are the same to quotas.
pub(crate) fn is_same(previous: Option<&Arc<Object>>, current: Option<&Arc<Object>>) -> bool {
    let counts = |object: &Arc<Object>| (Counted::of(object), until(object));
    previous.map(counts) == current.map(counts)
}

/// What is used of what a quota limits, in thousandths.
fn used(view: &View<'_>, quota: &Object, outcome: &mut Outcome<'_>) -> BTreeMap<String, i128> {
    let limited = warren_state::at(&quota.value, "/spec/hard").and_then(Value::as_object);
    let is_limited = |name: &String| limited.is_some_and(|limited| limited.contains_key(name));
    let mut used: BTreeMap<String, i128> = BTreeMap::new();
    for (_, sums) in
        view.indexes.used.of(&quota.key.namespace).filter(|(traits, _)| quotas::selects(&quota.value, traits))
    {
        for (name, amount) in sums.iter().filter(|(name, _)| is_limited(name)) {
            let sum = used.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }
    for pod in view.indexes.of(By::Ending, &quota.key.namespace) {
        let Some(until) = until(pod) else { continue };
        if until > view.now {
            outcome.wake(until);
            continue;
        }
        // Who waits for a node that is lost can make another one meanwhile.
        if quotas::selects(&quota.value, &quotas::traits(PODS, &pod.value)) {
            for (name, amount) in quotas::usage_while_running(&pod.value) {
                if let Some(sum) = used.get_mut(&name) {
                    *sum = sum.saturating_sub(amount.milli);
                }
            }
        }
    }
    used
}

/// Until when a pod that is being deleted counts, whatever becomes of it: twice as long as it may take.
fn until(object: &Arc<Object>) -> Option<jiff::Timestamp> {
    if &*object.key.resource != PODS {
        return None;
    }
    let at = warren_state::at(&object.value, "/metadata/deletionTimestamp")?.as_str()?.parse().ok()?;
    let grace = warren_state::at(&object.value, "/metadata/deletionGracePeriodSeconds")?.as_i64()?;
    Some(object::later(at, grace))
}
