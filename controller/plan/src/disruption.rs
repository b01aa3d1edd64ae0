//! How many pods may go? Keeps the statuses of disruption budgets, which evictions are let pass by
//! ([`warren_objects::disruption`]).
//!
//! ```text
//!  pods that are selected ─► expected: how many there should be, by whoever controls them ─► needed ─► status
//!                         └► healthy, without those that are going                         ─┘
//! ```
//!
//! What differs from Kubernetes: an eviction ends its pod in the commit that spends of the budget, so that what is noted
//! in `disruptedPods` is seen as gone at once, unless somebody else notes it.

mod expected;
mod stale;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::Value;
use warren_objects::disruption;
use warren_state::{Key, Transaction};

use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    sets::{MOST, share},
    view::{PodView, Typed, View},
};
pub(crate) use stale::{is_marked, plan_pods};

/// Who tells of budgets.
const COMPONENT: &str = "controllermanager";

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(budget) = view.typed::<PodDisruptionBudget>(key) else { return };
            let pods = pods(view, &budget);
            if pods.is_empty() {
                tell(view, &budget, "NoPods", "No matching pods found".to_owned(), false, outcome);
            }
            match count(view, &budget, &pods) {
                Ok(counts) => {
                    tell_unmanaged(view, &budget, counts.unmanaged, outcome);
                    let going = going(view, &budget, &pods, outcome);
                    write(view, &budget, |status| counts.note(status, &budget, &pods, going), outcome);
                }
                Err(why) => {
                    let message = format!("Failed to calculate the number of expected pods: {why}");
                    tell(view, &budget, "CalculateExpectedPodCountFailed", message, true, outcome);
                    fail(view, &budget, &why, outcome);
                }
            }
        });
    }
}

/// The pods that a budget is about.
fn pods<'a>(view: &View<'a>, budget: &Typed<'a, PodDisruptionBudget>) -> Vec<PodView<'a>> {
    let selector = disruption::Selector::of(&budget.object.value);
    let wanted = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()?.match_labels.as_ref());
    let found = match wanted.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) => view.pods_labelled(budget.namespace(), wanted),
        None => view.pods_in(&budget.object.key.namespace).collect(),
    };
    found.into_iter().filter(|pod| selector.selects(&pod.object.value)).collect()
}

/// How many pods there should be, and how many must be healthy.
struct Counts {
    expected: i64,
    needed: i64,
    /// Pods that nobody controls, where it matters.
    unmanaged: usize,
}

fn count(
    view: &View<'_>,
    budget: &Typed<'_, PodDisruptionBudget>,
    pods: &[PodView<'_>],
) -> Result<Counts, String> {
    let none = PodDisruptionBudgetSpec::default();
    let spec = budget.spec.as_ref().unwrap_or(&none);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let (expected, unmanaged) = expected::scale(view, pods)?;
            let needed = expected.saturating_sub(part(unavailable, expected)?).max(0);
            Ok(Counts { expected, needed, unmanaged })
        }
        (None, Some(IntOrString::Int(available))) => {
            let expected = i64::try_from(pods.len()).unwrap_or(MOST);
            Ok(Counts { expected, needed: i64::from(*available).max(0), unmanaged: 0 })
        }
        (None, Some(available)) => {
            let (expected, unmanaged) = expected::scale(view, pods)?;
            Ok(Counts { expected, needed: part(available, expected)?, unmanaged })
        }
        (None, None) => Ok(Counts { expected: 0, needed: 0, unmanaged: 0 }),
    }
}

/// A number, or a percentage of all. Either way of counting rounds up.
fn part(value: &IntOrString, all: i64) -> Result<i64, String> {
    if let IntOrString::String(text) = value
        && text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()).is_none()
    {
        return Err(format!(
            "invalid value for IntOrString: invalid type: string is not a percentage: {text}"
        ));
    }
    Ok(share(value, all, true))
}

impl Counts {
    /// Notes them in a budget's status, with those that are going.
    fn note(
        &self,
        value: &mut Value,
        budget: &Typed<'_, PodDisruptionBudget>,
        pods: &[PodView<'_>],
        going: BTreeMap<String, Value>,
    ) {
        let healthy = |pod: &&PodView<'_>| pod.ready() && !pod.deleting() && !going.contains_key(pod.name());
        let healthy = i64::try_from(pods.iter().filter(healthy).count()).unwrap_or(MOST);
        // Pods that come to a budget which has seen none are not let go before they are counted.
        let allowed = if self.expected > 0 { healthy.saturating_sub(self.needed).max(0) } else { 0 };
        let fields = object::object_at(value, &["status"]);
        for (field, number) in [
            ("currentHealthy", healthy),
            ("desiredHealthy", self.needed),
            ("disruptionsAllowed", allowed),
            ("expectedPods", self.expected),
        ] {
            fields.insert(field.into(), number.into());
        }
        fields.insert("observedGeneration".into(), object::generation(budget.object).into());
        if going.is_empty() {
            fields.remove("disruptedPods");
        } else {
            fields.insert("disruptedPods".into(), Value::Object(going.into_iter().collect()));
        }
    }
}

/// Pods that were let go and are not marked so yet; one that is not after a while stays.
fn going(
    view: &View<'_>,
    budget: &Typed<'_, PodDisruptionBudget>,
    pods: &[PodView<'_>],
    outcome: &mut Outcome<'_>,
) -> BTreeMap<String, Value> {
    let noted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut going = BTreeMap::new();
    for (pod, since) in pods.iter().filter_map(|pod| Some((pod, noted?.get(pod.name())?))) {
        if pod.deleting() {
            continue;
        }
        let until = object::later(since.0, disruption::PATIENCE.as_secs());
        if until > view.now {
            outcome.wake(until);
            going.insert(pod.name().to_owned(), object::time_text(since.0).into());
        } else {
            let (namespace, name) = (budget.namespace(), budget.name());
            let message = format!("Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't");
            let (about, component, reason) = (pod.object, COMPONENT, "NotDeleted");
            events::once(view, outcome, &Event { about, component, reason, message, warning: true });
        }
    }
    going
}

/// Writes a status, with the condition that goes with it.
fn write(
    view: &View<'_>,
    budget: &Typed<'_, PodDisruptionBudget>,
    note: impl FnOnce(&mut Value),
    outcome: &mut Outcome<'_>,
) {
    let value = object::edited_within(budget.object, &["status"], |value| {
        note(value);
        disruption::say_whether_allowed(value, view.now);
    });
    put(budget, value, outcome);
}

/// No pod goes by a budget whose pods cannot be counted.
fn fail(view: &View<'_>, budget: &Typed<'_, PodDisruptionBudget>, why: &str, outcome: &mut Outcome<'_>) {
    let value = object::edited_within(budget.object, &["status"], |value| {
        object::object_at(value, &["status"]).insert("disruptionsAllowed".into(), 0.into());
        disruption::say_failed(value, why, view.now);
    });
    put(budget, value, outcome);
}

fn put(budget: &Typed<'_, PodDisruptionBudget>, value: Option<Value>, outcome: &mut Outcome<'_>) {
    if let Some(value) = value {
        let (key, revision) = (&budget.object.key, budget.object.revision);
        outcome.step(format!("status of {key}"), Transaction::new().replace(key.clone(), revision, value));
    }
}

/// Where the share of pods is to be known, those of nobody have no whole that they are a share of.
fn tell_unmanaged(
    view: &View<'_>,
    budget: &Typed<'_, PodDisruptionBudget>,
    unmanaged: usize,
    outcome: &mut Outcome<'_>,
) {
    if unmanaged > 0 {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(shown);
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status \
             of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods \
             please set \".spec.minAvailable\" field of the PDB to an integer value.",
            selector.unwrap_or_default()
        );
        tell(view, budget, "UnmanagedPods", message, true, outcome);
    }
}

/// A selector as text: `a=b,c in (d,e),!f`.
fn shown(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}={value}"));
    let others = selector.match_expressions.iter().flatten().map(|requirement| {
        let (name, values) = (&requirement.key, requirement.values.as_deref().unwrap_or_default().join(","));
        match requirement.operator.as_str() {
            "In" => format!("{name} in ({values})"),
            "NotIn" => format!("{name} notin ({values})"),
            "DoesNotExist" => format!("!{name}"),
            _ => name.clone(),
        }
    });
    labels.chain(others).collect::<Vec<_>>().join(",")
}

/// Says something of a budget, once.
fn tell(
    view: &View<'_>,
    budget: &Typed<'_, PodDisruptionBudget>,
    reason: &str,
    message: String,
    warning: bool,
    outcome: &mut Outcome<'_>,
) {
    let event = Event { about: budget.object, component: COMPONENT, reason, message, warning };
    events::once(view, outcome, &event);
}
