//! How much a pod matters: it takes that from a PriorityClass when it is made.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/#priorityclass>.

use std::sync::Arc;

use serde_json::{Value, json};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::resources::PRIORITYCLASSES;

use crate::{Refusal, Review};

/// What a class says.
struct Priority {
    name: String,
    value: i64,
    policy: String,
}

impl Priority {
    fn of(class: &Object) -> Self {
        let policy = class.value["preemptionPolicy"].as_str().unwrap_or(DEFAULT_POLICY);
        Self { name: class.key.name.to_string(), value: value(class), policy: policy.to_owned() }
    }
}

const DEFAULT_POLICY: &str = "PreemptLowerPriority";

fn value(class: &Object) -> i64 {
    class.value["value"].as_i64().unwrap_or(0)
}

/// Gives a new pod the priority of the class that it names, or of the default class. A pod may say itself what it gets
/// anyway, and nothing else.
pub(crate) fn of_pod(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let Some(spec) = review.new.as_mut().and_then(|pod| pod.get_mut("spec")?.as_object_mut()) else {
        return Ok(());
    };
    let named = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = match &*named {
        "" => default_class(snapshot).map(|class| Priority::of(class)),
        name => match snapshot.get(&Key::new(PRIORITYCLASSES, "", name)) {
            Some(class) => Some(Priority::of(class)),
            None => {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(Refusal::forbidden(review.kind, review.name(), &why));
            }
        },
    };
    let computed = class.as_ref().map_or(0, |class| class.value);
    let policy = class.as_ref().map_or(DEFAULT_POLICY, |class| &*class.policy);
    let said = spec.get("priority").and_then(Value::as_i64).filter(|said| *said != 0 && *said != computed);
    let other = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|said| *said != policy);
    let refused = match (said, other) {
        (Some(said), _) => Some(format!(
            "the integer value of priority ({said}) must not be provided in pod spec; priority admission controller \
             computed {computed} from the given PriorityClass name"
        )),
        (None, Some(said)) => Some(format!(
            "the string value of PreemptionPolicy ({said}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        )),
        (None, None) => None,
    };
    let Some(why) = refused else {
        if let Some(class) = class {
            spec.insert("priorityClassName".into(), json!(class.name));
            spec.insert("priority".into(), json!(class.value));
            spec.insert("preemptionPolicy".into(), json!(class.policy));
        }
        return Ok(());
    };
    Err(Refusal::forbidden(review.kind, review.name(), &why))
}

/// The class of pods that name none. Of several, which nobody may make, the one that matters least.
fn default_class(snapshot: &Snapshot) -> Option<&Arc<Object>> {
    let defaults = snapshot.list(PRIORITYCLASSES).filter(|class| class.value["globalDefault"] == true);
    defaults.min_by_key(|class| value(class))
}

/// There is one default class at most.
pub(crate) fn of_class(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    if review.new.as_ref().is_none_or(|class| class["globalDefault"] != true) {
        return Ok(());
    }
    match default_class(snapshot).filter(|class| class.key.name != review.key.name) {
        None => Ok(()),
        Some(other) => {
            let name = &other.key.name;
            let why =
                format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(Refusal::forbidden(review.kind, review.name(), &why))
        }
    }
}
