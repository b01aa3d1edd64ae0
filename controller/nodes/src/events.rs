//! Events about pods, as core/v1 objects: one per (object, reason, message), with a count.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use warren_proto::control::EventReport;
use warren_store::Key;
use warren_vocabulary::resources::EVENTS;

use crate::json::{rfc3339, seconds};

const COMPONENT: &str = "warren-agent";
/// Where an event is kept: repetitions meet under one name.
pub(crate) fn key(event: &EventReport) -> Key {
    let identity = [
        event.pod_uid.as_str(),
        &event.field_path,
        &event.reason,
        &event.message,
        if event.warning { "Warning" } else { "Normal" },
    ];
    let mut hash = Sha256::new();
    for part in identity {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Key::new(EVENTS, &event.pod_namespace, &format!("{}.{hash}", event.pod_name))
}

/// The event object; `known` is its predecessor.
pub(crate) fn next(
    known: Option<&Value>,
    event: &EventReport,
    node: &str,
    uid: &str,
    now: Timestamp,
) -> Value {
    let time = seconds(&event.time).unwrap_or_else(|| rfc3339(now));
    if let Some(known) = known {
        let mut value = known.clone();
        // A number of 32 bits in the API.
        value["count"] = known["count"].as_u64().unwrap_or(1).saturating_add(1).min(i32::MAX as u64).into();
        value["lastTimestamp"] = time.into();
        return value;
    }
    let mut involved = json!({
        "kind": "Pod", "apiVersion": "v1", "namespace": event.pod_namespace, "name": event.pod_name,
        "uid": event.pod_uid,
    });
    if !event.field_path.is_empty() {
        involved["fieldPath"] = event.field_path.clone().into();
    }
    let key = key(event);
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": *key.name, "namespace": *key.namespace, "uid": uid, "creationTimestamp": rfc3339(now),
        },
        "involvedObject": involved,
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": event.message,
        "count": 1,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventReport {
        EventReport {
            pod_uid: "u".into(),
            pod_namespace: "default".into(),
            pod_name: "web".into(),
            field_path: "spec.containers{web}".into(),
            warning: true,
            reason: "BackOff".into(),
            message: "Back-off restarting failed container".into(),
            time: "2026-01-01T00:00:00.7Z".into(),
        }
    }

    #[test]
    fn repetitions_are_counted_in_one_object() {
        let now: Timestamp = "2026-01-01T00:00:01Z".parse().expect("a time");
        let first = next(None, &event(), "node-1", "e", now);
        assert_eq!(first["metadata"]["name"], *key(&event()).name);
        assert_eq!(first["involvedObject"]["uid"], "u");
        assert_eq!(first["involvedObject"]["fieldPath"], "spec.containers{web}");
        let later = EventReport { time: "2026-01-01T00:01:00Z".into(), ..event() };
        assert_eq!(key(&later), key(&event()));
        let second = next(Some(&first), &later, "node-1", "other", now);
        assert_eq!((&second["count"], &second["type"]), (&json!(2), &json!("Warning")));
        assert_eq!(second["firstTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(second["lastTimestamp"], "2026-01-01T00:01:00Z");
        assert_eq!(second["metadata"]["uid"], "e");
    }

    #[test]
    fn what_differs_is_another_event() {
        for other in [
            EventReport { reason: "Killing".into(), ..event() },
            EventReport { message: "x".into(), ..event() },
            EventReport { pod_uid: "v".into(), ..event() },
            EventReport { warning: false, ..event() },
        ] {
            assert_ne!(key(&other), key(&event()));
        }
    }
}
