//! May a pod go that runs well? What its disruption budget says, for whoever would end it: clients that evict, and a
//! scheduler that makes room. The budget's status is the planner's; who ends a pod spends of it.
//!
//! Sources: <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>,
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use warren_state::Object;

use crate::json::{at, ensure_map, entries, get, int, items, text};

/// For how long a pod that was let go counts as going though it is not marked so: then it counts again.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(120);
/// When so many pods were let go and nobody has looked at them since, no others are.
const MOST_UNSEEN: usize = 2_000;

/// The condition of a budget that tells whether pods may go.
pub const ALLOWED: &str = "DisruptionAllowed";
/// Why pods may go.
pub const SUFFICIENT: &str = "SufficientPods";
/// Why no pod may go.
pub const INSUFFICIENT: &str = "InsufficientPods";
/// Why no pod may go: how many are needed is not known.
pub const FAILED: &str = "SyncFailed";
/// The condition of a pod that ends for other reasons than its own.
pub const TARGET: &str = "DisruptionTarget";

/// Which pods a budget is about. An empty selector is about all of the namespace, an absent one about none.
pub struct Selector<'b> {
    selector: &'b Value,
    /// The lists of values, which users may make long, are searched and not read through.
    values: Vec<BTreeSet<&'b str>>,
}

impl<'b> Selector<'b> {
    /// That of a budget.
    pub fn of(budget: &'b Value) -> Self {
        let selector = at(budget, "spec.selector");
        let values =
            |requirement: &'b Value| items(requirement, "values").iter().filter_map(Value::as_str).collect();
        Self { selector, values: items(selector, "matchExpressions").iter().map(values).collect() }
    }

    /// Whether the budget is about a pod of its namespace.
    pub fn selects(&self, pod: &Value) -> bool {
        let labels = at(pod, "metadata.labels");
        let holds = |(requirement, values): (&Value, &BTreeSet<&str>)| {
            let actual = get(labels, text(requirement, "key")).as_str();
            match text(requirement, "operator") {
                "In" => actual.is_some_and(|actual| values.contains(actual)),
                "NotIn" => actual.is_none_or(|actual| !values.contains(actual)),
                "Exists" => actual.is_some(),
                "DoesNotExist" => actual.is_none(),
                _ => false,
            }
        };
        self.selector.is_object()
            && entries(self.selector, "matchLabels").all(|(name, value)| get(labels, name) == value)
            && items(self.selector, "matchExpressions").iter().zip(&self.values).all(holds)
    }
}

/// Why a pod may not go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// Several budgets are about it.
    Several,
    /// The budget was changed, and nobody has counted since.
    Uncounted {
        /// Its name.
        budget: String,
    },
    /// More pods than that were let go and not looked at since.
    Unseen {
        /// Its name.
        budget: String,
    },
    /// Too few would be left.
    Spent {
        /// Its name.
        budget: String,
        /// How many must be healthy.
        needed: i64,
        /// How many are.
        healthy: i64,
    },
}

/// Whether budgets are asked about a pod at all: what has not begun, has ended or is on its way out serves nobody.
pub fn is_guarded(pod: &Value) -> bool {
    let phase = text(pod, "status.phase");
    !matches!(phase, "" | "Pending" | "Succeeded" | "Failed")
        && text(pod, "metadata.deletionTimestamp").is_empty()
}

/// Whether a pod counts as healthy.
pub fn is_healthy(pod: &Value) -> bool {
    let mut conditions = items(pod, "status.conditions").iter();
    conditions.any(|condition| text(condition, "type") == "Ready" && text(condition, "status") == "True")
}

/// Whether a pod may go by the budgets of its namespace, and which one it spends of then: [`spent`]. Nothing, when none is
/// about it or when it does not count as one of those that are there.
pub fn judge<'b>(
    pod: &Value,
    budgets: impl IntoIterator<Item = &'b Arc<Object>>,
) -> Result<Option<&'b Arc<Object>>, Objection> {
    if !is_guarded(pod) {
        return Ok(None);
    }
    let mut about = budgets.into_iter().filter(|budget| Selector::of(&budget.value).selects(pod));
    let Some(budget) = about.next() else { return Ok(None) };
    if about.next().is_some() {
        return Err(Objection::Several);
    }
    let (status, name) = (get(&budget.value, "status"), budget.key.name.to_string());
    let number = |field: &str| int(status, field).unwrap_or(0);
    let (needed, healthy) = (number("desiredHealthy"), number("currentHealthy"));
    if !is_healthy(pod) {
        let always = text(&budget.value, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
        // Where enough are healthy, one that is not may go: it is not among them.
        if always || (needed > 0 && healthy >= needed) {
            return Ok(None);
        }
    }
    if number("observedGeneration") < int(&budget.value, "metadata.generation").unwrap_or(0) {
        return Err(Objection::Uncounted { budget: name });
    }
    if entries(status, "disruptedPods").nth(MOST_UNSEEN).is_some() {
        return Err(Objection::Unseen { budget: name });
    }
    if number("disruptionsAllowed") <= 0 {
        return Err(Objection::Spent { budget: name, needed, healthy });
    }
    Ok(Some(budget))
}

/// The budget when a pod has gone by it.
pub fn spent(budget: &Value, pod: &str, now: Timestamp) -> Value {
    let mut budget = budget.clone();
    if let Some(status) = ensure_map(&mut budget, "status") {
        let allowed = int(status, "disruptionsAllowed").unwrap_or(0);
        status["disruptionsAllowed"] = json!(allowed.saturating_sub(1).max(0));
        if let Some(Value::Object(going)) = ensure_map(status, "disruptedPods") {
            going.insert(pod.to_owned(), time(now).into());
        }
    }
    say_whether_allowed(&mut budget, now);
    budget
}

/// Makes a budget's condition say what its count says.
pub fn say_whether_allowed(budget: &mut Value, now: Timestamp) {
    let allowed = int(budget, "status.disruptionsAllowed").is_some_and(|allowed| allowed > 0);
    say(budget, allowed, if allowed { SUFFICIENT } else { INSUFFICIENT }, "", now);
}

/// Makes a budget's condition say that its pods could not be counted.
pub fn say_failed(budget: &mut Value, why: &str, now: Timestamp) {
    say(budget, false, FAILED, why, now);
}

/// When the condition came to its status is noted, and which generation of the budget it is about.
fn say(budget: &mut Value, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let Some(status) = ensure_map(budget, "status") else { return };
    let observed = get(status, "observedGeneration").clone();
    let Some(fields) = status.as_object_mut() else { return };
    let conditions = fields.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    let is_it = |condition: &&Value| text(condition, "type") == ALLOWED;
    let before = conditions.iter().find(is_it).cloned().unwrap_or_default();
    let holds = if holds { "True" } else { "False" };
    let since = match text(&before, "status") == holds {
        true => get(&before, "lastTransitionTime").clone(),
        false => time(now).into(),
    };
    let mut condition = json!({
        "type": ALLOWED, "status": holds, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    if observed.is_i64() {
        condition["observedGeneration"] = observed;
    }
    match conditions.iter_mut().find(|condition| text(condition, "type") == ALLOWED) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// A time as the API writes it, in whole seconds.
fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "disruption_tests.rs"]
mod tests;
