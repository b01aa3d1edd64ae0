//! Evictions: the deletion of a pod that its disruption budget must allow. What the budget says is in
//! [`warren_objects::disruption`].

use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::{
    disruption::{self, Objection, TARGET},
    kinds::Kind,
};
use warren_state::{Object, Snapshot, Transaction};
use warren_vocabulary::resources::PODDISRUPTIONBUDGETS;

use crate::{
    Refusal,
    deletion::{self, Decision, DeleteOptions},
    metadata,
};

/// When a budget that is not counted is asked again, in seconds.
const PATIENCE: u32 = 10;
/// The cause by which clients know that a budget holds a pod.
const CAUSE: &str = "DisruptionBudget";
const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What is written to the pod's budget when the pod goes; nothing when it goes unasked.
pub(crate) fn spend(snapshot: &Snapshot, pod: &Object, now: Timestamp) -> Result<Transaction, Refusal> {
    let budgets = snapshot.list_namespace(PODDISRUPTIONBUDGETS, &pod.key.namespace);
    let budget = disruption::judge(&pod.value, budgets).map_err(refusal)?;
    Ok(budget.map_or_else(Transaction::new, |budget| {
        let spent = disruption::spent(&budget.value, &pod.key.name, now);
        Transaction::new().replace(budget.key.clone(), budget.revision, spent)
    }))
}

/// What becomes of the pod; `None`: it is removed. Whoever counts it learns that its end is not its own.
pub(crate) fn decide(kind: &Kind, pod: &Value, options: &DeleteOptions, now: Timestamp) -> Option<Value> {
    let told = told(pod, now);
    match deletion::decide(kind, &told, options, now) {
        Decision::Pending => Some(told),
        Decision::Remove => None,
        Decision::Mark(marked) => Some(marked),
    }
}

/// The pod with the condition that says why it goes.
fn told(pod: &Value, now: Timestamp) -> Value {
    let mut pod = pod.clone();
    let Some(conditions) = conditions(&mut pod) else { return pod };
    let mut condition = json!({
        "type": TARGET,
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": metadata::timestamp(now),
    });
    match conditions.iter_mut().find(|condition| condition["type"] == TARGET) {
        Some(before) => {
            if before["status"] == "True" {
                condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
            }
            *before = condition;
        }
        None => conditions.push(condition),
    }
    pod
}

fn conditions(pod: &mut Value) -> Option<&mut Vec<Value>> {
    let status = pod.as_object_mut()?.entry("status").or_insert_with(|| json!({}));
    status.as_object_mut()?.entry("conditions").or_insert_with(|| json!([])).as_array_mut()
}

/// In the words of Kubernetes. When a budget that is spent of allows the next one, nobody knows: no time is told.
fn refusal(objection: Objection) -> Refusal {
    match objection {
        Objection::Several => Refusal::several_budgets(),
        Objection::Uncounted { budget } => {
            let why = format!("The disruption budget {budget} is still being processed by the server.");
            Refusal::too_many_requests(VIOLATED, Some(PATIENCE)).with_cause(CAUSE, why, "")
        }
        Objection::Unseen { budget } => Refusal::forbidden_resource(
            PODDISRUPTIONBUDGETS,
            &budget,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ),
        Objection::Spent { budget, needed, healthy } => {
            let why = format!(
                "The disruption budget {budget} needs {needed} healthy pods and has {healthy} currently"
            );
            Refusal::too_many_requests(VIOLATED, None).with_cause(CAUSE, why, "")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "eviction_tests.rs"]
mod tests;
