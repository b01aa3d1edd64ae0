//! Priorities of pods: a class says it, and the pod has it from its first moment on.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>.

use std::sync::Arc;

use serde_json::{Value, json};
use warren_objects::kinds::SYSTEM_CLASSES;
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::resources::PRIORITYCLASSES;

use crate::{Refusal, Review};

/// What a pod does to others when no class says it.
const DISPLACES: &str = "PreemptLowerPriority";
/// What is the class's to say, and stays as it was.
const RESOLVED: [&str; 2] = ["priority", "preemptionPolicy"];

/// Gives a new pod the priority of its class; 403 when there is no such class, or the pod says something else itself.
pub(crate) fn resolve(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let forbidden = |why: String| Err(Refusal::forbidden(review.kind, &review.key.name, &why));
    let Some(spec) = review.new.as_mut().and_then(|pod| pod["spec"].as_object_mut()) else { return Ok(()) };
    let named = spec.get("priorityClassName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let class = match named {
        Some(name) => match snapshot.get(&Key::new(PRIORITYCLASSES, "", name)) {
            None => return forbidden(format!("no PriorityClass with name {name} was found")),
            found => found,
        },
        None => default_class(snapshot),
    };
    let (priority, policy) =
        class.map_or((0, Some(DISPLACES)), |class| (value(class), class.value["preemptionPolicy"].as_str()));
    if let Some(given) = given(spec.get("priority")).filter(|given| **given != json!(priority)) {
        return forbidden(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        ));
    }
    let stated = given(spec.get("preemptionPolicy")).and_then(Value::as_str);
    if let (Some(given), Some(policy)) = (stated, policy)
        && given != policy
    {
        return forbidden(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        ));
    }
    spec.insert("priority".into(), json!(priority));
    if let Some(policy) = policy {
        spec.insert("preemptionPolicy".into(), json!(policy));
    }
    if let Some(class) = class {
        spec.insert("priorityClassName".into(), json!(&*class.key.name));
    }
    Ok(())
}

/// What a field says, if it says anything: Go's clients send an empty text for "nothing".
fn given(field: Option<&Value>) -> Option<&Value> {
    field.filter(|value| !value.is_null() && **value != "")
}

fn value(class: &Object) -> i64 {
    class.value["value"].as_i64().unwrap_or(0)
}

/// The class of pods that name none. Where several are, it is the one with the lowest priority.
fn default_class(snapshot: &Snapshot) -> Option<&Arc<Object>> {
    defaults(snapshot).min_by_key(|class| value(class))
}

fn defaults(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Object>> {
    snapshot.list(PRIORITYCLASSES).filter(|class| class.value["globalDefault"] == true)
}

/// A client's change of a pod that leaves out what was resolved for it does not mean to take it away.
pub(crate) fn keep(old: &Value, new: &mut Value) {
    let Some(spec) = new["spec"].as_object_mut() else { return };
    for field in RESOLVED {
        if let Some(before) = old["spec"].get(field).filter(|before| !before.is_null())
            && given(spec.get(field)).is_none()
        {
            spec.insert(field.into(), before.clone());
        }
    }
}

/// 403 for a second class of pods that name none.
pub(crate) fn one_default(snapshot: &Snapshot, review: &Review<'_>) -> Result<(), Refusal> {
    if review.new.as_ref().is_none_or(|class| class["globalDefault"] != true) {
        return Ok(());
    }
    // One that was made beside another all the same may be changed.
    let other = default_class(snapshot).filter(|other| other.key != *review.key);
    other.map_or(Ok(()), |other| {
        let name = &*other.key.name;
        let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
        Err(Refusal::forbidden(review.kind, review.name(), &why))
    })
}

/// Why no client may delete a class of the cluster itself.
pub(crate) fn undeletable(name: &str) -> Option<&'static str> {
    let is_ours = SYSTEM_CLASSES.iter().any(|class| class.name == name);
    is_ours.then_some("this is a system priority class and cannot be deleted")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "priority_tests.rs"]
mod tests;
