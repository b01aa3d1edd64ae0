//! Other versions of stored kinds, for clients that know no better: shown when they are read, put back when they are
//! written. Fields of Kubernetes' own conversions (Apache-2.0).

use serde_json::{Map, Value, json};

use crate::json::{at, is_empty, items_mut, text};

/// The object as another version with the same fields.
fn renamed(object: &Value, api_version: &str) -> Value {
    let mut object = object.clone();
    if object.is_object() {
        object["apiVersion"] = api_version.into();
    }
    object
}

/// Moves fields of an object to other names; those that say nothing are left out.
fn moved(from: &mut Map<String, Value>, into: &mut Map<String, Value>, names: &[(&str, &str)]) {
    for (old, new) in names {
        if let Some(value) = from.remove(*old).filter(|value| !value.is_null()) {
            into.insert((*new).to_owned(), value);
        }
    }
}

/// A CronJob of `batch/v1` in `batch/v1beta1`.
pub(crate) fn cron_job_v1beta1(stored: &Value) -> Value {
    renamed(stored, "batch/v1beta1")
}

/// The way back.
pub(crate) fn cron_job_from_v1beta1(shown: &Value) -> Value {
    renamed(shown, "batch/v1")
}

/// What an empty selector of `policy/v1beta1`, which selects nothing, is in `policy/v1`, where it would select all.
const SELECTS_NOTHING: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

/// A PodDisruptionBudget of `policy/v1` in `policy/v1beta1`.
pub(crate) fn budget_v1beta1(stored: &Value) -> Value {
    let mut shown = renamed(stored, "policy/v1beta1");
    if at(stored, "spec.selector") == &nothing_selected() {
        shown["spec"]["selector"] = json!({});
    }
    shown
}

/// The way back.
pub(crate) fn budget_from_v1beta1(shown: &Value) -> Value {
    let mut stored = renamed(shown, "policy/v1");
    if at(shown, "spec.selector").as_object().is_some_and(Map::is_empty) {
        stored["spec"]["selector"] = nothing_selected();
    }
    stored
}

fn nothing_selected() -> Value {
    json!({"matchExpressions": [{"key": SELECTS_NOTHING, "operator": "Exists"}]})
}

/// An EndpointSlice of `discovery.k8s.io/v1` in `v1beta1`, where an endpoint's place is in its topology.
pub(crate) fn slice_v1beta1(stored: &Value) -> Value {
    let mut slice = renamed(stored, "discovery.k8s.io/v1beta1");
    slice["kind"] = json!("EndpointSlice");
    for endpoint in items_mut(&mut slice, "endpoints") {
        let Some(endpoint) = endpoint.as_object_mut() else { continue };
        let topology = endpoint.remove("deprecatedTopology");
        let mut topology: Map<String, Value> =
            topology.and_then(|topology| topology.as_object().cloned()).unwrap_or_default();
        for (field, label) in
            [("nodeName", "kubernetes.io/hostname"), ("zone", "topology.kubernetes.io/zone")]
        {
            topology.extend(endpoint.remove(field).map(|place| (label.to_owned(), place)));
        }
        if !topology.is_empty() {
            endpoint.insert("topology".to_owned(), Value::Object(topology));
        }
    }
    slice
}

/// Fields of an Event: in the core group, in `events.k8s.io`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A core Event in `events.k8s.io/v1`.
pub(crate) fn event_v1(stored: &Value) -> Value {
    let mut shown = renamed(stored, "events.k8s.io/v1");
    shown["kind"] = json!("Event");
    if let Some(event) = shown.as_object_mut() {
        let mut from = std::mem::take(event);
        moved(&mut from, event, EVENT_FIELDS);
        event.append(&mut from);
    }
    shown
}

/// The way back.
pub(crate) fn event_from_v1(shown: &Value) -> Value {
    let mut stored = renamed(shown, "v1");
    if let Some(event) = stored.as_object_mut() {
        let mut from = std::mem::take(event);
        let back: Vec<(&str, &str)> = EVENT_FIELDS.iter().map(|(core, new)| (*new, *core)).collect();
        moved(&mut from, event, &back);
        event.append(&mut from);
        event.entry("involvedObject").or_insert_with(|| json!({}));
    }
    stored
}

/// What `autoscaling/v1` has no field for lies in annotations: field of v2, annotation.
const AUTOSCALER_NOTES: [(&str, &str, &str); 4] = [
    ("spec", "metrics", "autoscaling.alpha.kubernetes.io/metrics"),
    ("spec", "behavior", "autoscaling.alpha.kubernetes.io/behavior"),
    ("status", "currentMetrics", "autoscaling.alpha.kubernetes.io/current-metrics"),
    ("status", "conditions", "autoscaling.alpha.kubernetes.io/conditions"),
];

/// Whether a metric is the one that v1 has fields for: the processor's utilization.
fn is_cpu(metric: &Value, value: &str) -> bool {
    text(metric, "type") == "Resource" && text(metric, "resource.name") == "cpu" && {
        !at(metric, &format!("resource.{value}.averageUtilization")).is_null()
    }
}

/// A HorizontalPodAutoscaler of `autoscaling/v2` in `v1`.
pub(crate) fn autoscaler_v1(stored: &Value) -> Value {
    let mut shown = renamed(stored, "autoscaling/v1");
    shown["kind"] = json!("HorizontalPodAutoscaler");
    let mut notes = Vec::new();
    for (part, field, note) in AUTOSCALER_NOTES {
        let Some(found) =
            shown.get_mut(part).and_then(Value::as_object_mut).and_then(|map| map.remove(field))
        else {
            continue;
        };
        let kept = match (field, found) {
            ("metrics", found) => {
                let (cpu, rest) = split(&found, "target");
                if let Some(cpu) = cpu {
                    shown["spec"]["targetCPUUtilizationPercentage"] =
                        at(&cpu, "resource.target.averageUtilization").clone();
                }
                rest
            }
            ("currentMetrics", found) => {
                let (cpu, rest) = split(&found, "current");
                if let Some(cpu) = cpu {
                    shown["status"]["currentCPUUtilizationPercentage"] =
                        at(&cpu, "resource.current.averageUtilization").clone();
                }
                rest
            }
            (_, found) => found,
        };
        if !is_empty(&kept) {
            notes.push((note, kept.to_string()));
        }
    }
    for (note, content) in notes {
        shown["metadata"]["annotations"][note] = content.into();
    }
    shown
}

/// The metric of the processor, and the others.
fn split(metrics: &Value, value: &str) -> (Option<Value>, Value) {
    let mut cpu = None;
    let mut rest = Vec::new();
    for metric in metrics.as_array().into_iter().flatten() {
        if cpu.is_none() && is_cpu(metric, value) {
            cpu = Some(metric.clone());
        } else {
            rest.push(metric.clone());
        }
    }
    (cpu, Value::Array(rest))
}

/// The way back.
pub(crate) fn autoscaler_from_v1(shown: &Value) -> Value {
    let mut stored = renamed(shown, "autoscaling/v2");
    let annotations = stored
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut);
    let mut notes = Vec::new();
    if let Some(annotations) = annotations {
        for (part, field, note) in AUTOSCALER_NOTES {
            let content = annotations.remove(note);
            let content = content.and_then(|text| serde_json::from_str::<Value>(text.as_str()?).ok());
            notes.extend(content.map(|content| (part, field, content)));
        }
        if annotations.is_empty()
            && let Some(metadata) = stored.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    for (part, field, content) in notes {
        if stored.get(part).is_some_and(Value::is_object) {
            stored[part][field] = content;
        }
    }
    let cpu = [
        ("spec", "targetCPUUtilizationPercentage", "metrics", "target"),
        ("status", "currentCPUUtilizationPercentage", "currentMetrics", "current"),
    ];
    for (part, field, list, value) in cpu {
        let Some(part) = stored.get_mut(part).and_then(Value::as_object_mut) else { continue };
        let Some(percent) = part.remove(field).filter(|percent| !percent.is_null()) else { continue };
        let mut amount = json!({"averageUtilization": percent});
        if value == "target" {
            amount["type"] = json!("Utilization");
        }
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", value: amount}});
        let mut all = vec![metric];
        all.extend(part.remove(list).and_then(|list| list.as_array().cloned()).unwrap_or_default());
        part.insert(list.to_owned(), Value::Array(all));
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{entries, get, has, items};

    #[test]
    fn events_go_there_and_back() {
        let stored = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a", "namespace": "d"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "message": "hello", "reason": "Started", "count": 3,
            "source": {"component": "agent"}, "reportingComponent": "agent", "type": "Normal",
            "firstTimestamp": "2026-01-01T00:00:00Z"});
        let shown = event_v1(&stored);
        assert_eq!((&shown["note"], &shown["regarding"]["name"]), (&json!("hello"), &json!("p")));
        assert_eq!(shown["deprecatedCount"], 3);
        assert!(shown.get("message").is_none() && shown.get("involvedObject").is_none());
        assert_eq!(event_from_v1(&shown), stored);
    }

    #[test]
    fn autoscalers_go_there_and_back() {
        let stored = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 70}}},
                {"type": "Resource", "resource": {"name": "memory",
                    "target": {"type": "AverageValue", "averageValue": "1Gi"}}}]},
            "status": {"currentReplicas": 1, "desiredReplicas": 1}});
        let shown = autoscaler_v1(&stored);
        assert_eq!(shown["apiVersion"], "autoscaling/v1");
        assert_eq!(shown["spec"], json!({"maxReplicas": 5, "targetCPUUtilizationPercentage": 70}));
        assert!(has(at(&shown, "metadata.annotations"), "autoscaling.alpha.kubernetes.io/metrics"));
        assert_eq!(autoscaler_from_v1(&shown), stored);
        let plain = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 2}});
        assert_eq!(items(&autoscaler_from_v1(&plain), "spec.metrics").len(), 0);
    }

    #[test]
    fn an_empty_selector_of_the_old_budgets_selects_nothing() {
        let shown = json!({"apiVersion": "policy/v1beta1", "spec": {"minAvailable": 1, "selector": {}}});
        let stored = budget_from_v1beta1(&shown);
        assert_eq!(stored["apiVersion"], "policy/v1");
        assert_eq!(entries(&stored, "spec.selector").count(), 1);
        assert_eq!(budget_v1beta1(&stored), shown);
        assert_eq!(get(&cron_job_v1beta1(&json!({"apiVersion": "batch/v1"})), "apiVersion"), "batch/v1beta1");
    }
}
