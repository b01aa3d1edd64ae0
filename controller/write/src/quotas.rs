//! The quotas of a namespace: what would be more than one allows is refused, and what is allowed is noted in the quota by
//! the commit that makes it.
//!
//! Two writers may judge by one state. The quota is written with the object, on condition that it is as it was: who
//! comes second has lost a race, and is judged anew. So no quota is ever overdrawn, and a write costs the quotas of its
//! namespace, not the objects there. What is given back the planner counts: [`warren_objects::quotas`] says how.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use warren_objects::{
    amounts::{Amount, Amounts},
    quotas::{self, Excess},
};
use warren_state::{Key, Object, Precondition, Snapshot, Write};
use warren_vocabulary::resources::{PODS, RESOURCEQUOTAS};

use crate::{Refusal, Review, Verb};

/// The step of the chain.
pub(crate) fn charge(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let uses = match review.verb {
        Verb::Create => true,
        Verb::Update => review.changes_desired_state(),
        _ => false,
    };
    let resource = &*review.key.resource;
    if !uses || review.key.namespace.is_empty() || !quotas::is_counted(resource) {
        return Ok(());
    }
    let Some(new) = &review.new else { return Ok(()) };
    let (mut usage, mut also) = (None, Vec::new());
    for quota in snapshot.list_namespace(RESOURCEQUOTAS, &review.key.namespace) {
        if quota.key == *review.key {
            continue;
        }
        let now = noted(review.before, &quota.key).unwrap_or(&quota.value);
        let change = usage.get_or_insert_with(|| Change::of(resource, review.old, new));
        let refuse = |why: String| Refusal::forbidden(review.kind, review.name(), &why);
        if let Some(charged) = change.judge(now, &quota.key.name).map_err(refuse)? {
            also.push((quota, charged));
        }
    }
    for (quota, charged) in also {
        review.also.preconditions.push(Precondition::Revision(quota.key.clone(), quota.revision));
        review.also.writes.push(Write::Put(quota.key.clone(), charged));
    }
    Ok(())
}

/// A quota as an earlier write of the same commit leaves it.
fn noted<'w>(before: &'w [Write], key: &Key) -> Option<&'w Value> {
    before.iter().rev().find_map(|write| match write {
        Write::Put(written, value) if written == key => Some(value),
        _ => None,
    })
}

/// How an object counts: as it is to be, and as it was.
struct Change<'r> {
    new: (&'r Value, quotas::Traits, Amounts),
    old: Option<(quotas::Traits, Amounts)>,
    is_pod: bool,
}

impl<'r> Change<'r> {
    fn of(resource: &str, old: Option<&Arc<Object>>, new: &'r Value) -> Self {
        let counted = |object: &Value| (quotas::traits(resource, object), quotas::usage(resource, object));
        let (traits, usage) = counted(new);
        Self { new: (new, traits, usage), old: old.map(|old| counted(&old.value)), is_pod: resource == PODS }
    }

    /// The quota when the change is made, if it concerns it; why it may not be made.
    fn judge(&self, quota: &Value, name: &str) -> Result<Option<Value>, String> {
        let (object, traits, usage) = &self.new;
        if !quotas::selects(quota, traits) {
            return Ok(None);
        }
        let before = self.old.as_ref().filter(|(traits, _)| quotas::selects(quota, traits));
        if self.is_pod && before.is_none() {
            let hard: BTreeSet<&str> = quota["status"]["hard"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
                .collect();
            if let Some(missing) = quotas::missing(&hard, object) {
                return Err(format!("failed quota: {name}: must specify {missing}"));
            }
        }
        let mut more = usage.clone();
        for (name, before) in before.into_iter().flat_map(|(_, usage)| usage) {
            if let Some(amount) = more.get_mut(name) {
                amount.milli = amount.milli.saturating_sub(before.milli);
            }
        }
        quotas::charged(quota, &more).map_err(|excess| match excess {
            Excess::Unknown(names) => {
                format!("status unknown for quota: {name}, resources: {}", names.join(","))
            }
            Excess::Exceeded { requested, used, hard } => format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                listed(&requested),
                listed(&used),
                listed(&hard)
            ),
        })
    }
}

fn listed(amounts: &Amounts) -> String {
    let one = |(name, amount): (&String, &Amount)| format!("{name}={amount}");
    amounts.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "quotas_tests.rs"]
mod tests;
