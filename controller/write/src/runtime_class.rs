//! What the runtime class of a pod adds to it: what it costs beside its containers, and where it may run.
//!
//! Source: <https://kubernetes.io/docs/concepts/containers/runtime-class/>.

use serde_json::{Map, Value, json};
use warren_state::{Key, Snapshot};
use warren_vocabulary::resources::RUNTIMECLASSES;

use crate::{Refusal, Review};

/// Completes a new pod by its class; 403 when there is no such class, or the pod says something else itself.
pub(crate) fn resolve(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let Some(spec) = review.new.as_mut().and_then(|pod| pod["spec"].as_object_mut()) else { return Ok(()) };
    complete(snapshot, spec)
        .map_err(|why| Refusal::forbidden(review.kind, &review.key.name, &format!("pod rejected: {why}")))
}

fn complete(snapshot: &Snapshot, spec: &mut Map<String, Value>) -> Result<(), String> {
    let given = spec.get("overhead").filter(|given| given.as_object().is_some_and(|given| !given.is_empty()));
    let named = spec.get("runtimeClassName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let Some(name) = named else {
        // A mirror of nothing: only a class says what a pod costs beside its containers.
        return match given {
            Some(_) => Err("Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned()),
            None => Ok(()),
        };
    };
    let class = snapshot.get(&Key::new(RUNTIMECLASSES, "", name));
    let class = &class.ok_or_else(|| format!("RuntimeClass {name:?} not found"))?.value;
    let overhead = class["overhead"]["podFixed"].as_object().filter(|overhead| !overhead.is_empty());
    if given.is_some_and(|given| given.as_object() != overhead) {
        return Err("Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
    }
    if let Some(overhead) = overhead {
        spec.insert("overhead".into(), json!(overhead));
    }
    place(&class["scheduling"], spec)
}

/// Narrows the nodes of a pod to those of its class, and tolerates what the class does.
fn place(scheduling: &Value, spec: &mut Map<String, Value>) -> Result<(), String> {
    if let Some(wanted) = scheduling["nodeSelector"].as_object().filter(|wanted| !wanted.is_empty()) {
        let selector = spec.entry("nodeSelector").or_insert_with(|| json!({}));
        if !selector.is_object() {
            *selector = json!({});
        }
        for (label, value) in wanted {
            if selector.get(label).is_some_and(|other| other != value) {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{label}] and pod.spec.nodeSelector[{label}] differ"
                ));
            }
            selector[label] = value.clone();
        }
    }
    let more = scheduling["tolerations"].as_array().filter(|more| !more.is_empty());
    let Some(more) = more else { return Ok(()) };
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if !tolerations.is_array() {
        *tolerations = json!([]);
    }
    if let Some(all) = tolerations.as_array_mut() {
        more.iter().for_each(|one| {
            if !all.contains(one) {
                all.push(one.clone());
            }
        });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use warren_state::Object;

    use super::*;

    fn completed(class: Value, spec: Value) -> Result<Value, String> {
        let key = Key::new(RUNTIMECLASSES, "", "gvisor");
        let snapshot = Snapshot::from_objects(9, [Object::new(key, 1, class)]);
        let mut spec = spec.as_object().unwrap().clone();
        complete(&snapshot, &mut spec).map(|()| Value::Object(spec))
    }

    #[test]
    fn a_class_says_what_a_pod_costs_and_where_it_runs() {
        let class = json!({"handler": "runsc", "overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {
            "nodeSelector": {"runtime": "gvisor"}, "tolerations": [{"key": "gvisor", "operator": "Exists"}]}});
        let spec = json!({"runtimeClassName": "gvisor", "nodeSelector": {"disk": "ssd"}});
        let wanted = json!({"runtimeClassName": "gvisor", "overhead": {"cpu": "10m"},
            "nodeSelector": {"disk": "ssd", "runtime": "gvisor"},
            "tolerations": [{"key": "gvisor", "operator": "Exists"}]});
        assert_eq!(completed(class.clone(), spec).unwrap(), wanted);
        assert_eq!(completed(class.clone(), wanted.clone()).unwrap(), wanted, "once is enough");
        for spec in [
            json!({"runtimeClassName": "gvisor", "nodeSelector": {"runtime": "other"}}),
            json!({"runtimeClassName": "gvisor", "overhead": {"cpu": "20m"}}),
            json!({"overhead": {"cpu": "10m"}}),
        ] {
            assert!(completed(class.clone(), spec.clone()).is_err(), "{spec}");
        }
        assert_eq!(completed(class, json!({})).unwrap(), json!({}));
    }

    #[test]
    fn a_class_that_is_not_there_is_told() {
        let why = completed(json!({"handler": "runc"}), json!({"runtimeClassName": "other"})).unwrap_err();
        assert_eq!(why, "RuntimeClass \"other\" not found");
    }
}
