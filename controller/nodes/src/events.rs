//! Events about pods that their nodes report. How they are counted and combined says [`warren_objects::events`].

use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::events::Telling;
use warren_proto::control::EventReport;
use warren_store::{Key, Snapshot};

const COMPONENT: &str = "warren-agent";

/// Where an event is kept, and what it is then.
pub(crate) fn next(
    snapshot: &Snapshot,
    event: &EventReport,
    node: &str,
    uid: &str,
    now: Timestamp,
) -> (Key, Value) {
    let mut involved = json!({
        "kind": "Pod", "apiVersion": "v1", "namespace": event.pod_namespace, "name": event.pod_name,
        "uid": event.pod_uid,
    });
    if !event.field_path.is_empty() {
        involved["fieldPath"] = event.field_path.clone().into();
    }
    let telling = Telling {
        namespace: &event.pod_namespace,
        involved: &involved,
        component: COMPONENT,
        host: node,
        reason: &event.reason,
        message: &event.message,
        warning: event.warning,
    };
    let place = telling.place(snapshot, 0, now);
    let known = snapshot.get(&place.key).map(|known| &**known);
    // When it happened, if the node says something sensible.
    let at = event.time.parse().ok().filter(|at| *at > Timestamp::UNIX_EPOCH).unwrap_or(now);
    let value = telling.value(&place, known, 1, at, uid);
    (place.key, value)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use warren_store::Object;

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

    /// Reports events one after the other, a second apart.
    fn reported(events: &[EventReport]) -> Vec<Value> {
        let mut snapshot = Snapshot::default();
        let mut now: Timestamp = "2026-01-01T00:00:01Z".parse().expect("a time");
        for event in events {
            let (key, value) = next(&snapshot, event, "node-1", "e", now);
            snapshot.insert(Object::new(key, 1, value).into());
            now += SignedDuration::from_secs(1);
        }
        snapshot.iter().map(|object| object.value.clone()).collect()
    }

    #[test]
    fn repetitions_are_counted_in_one_object() {
        let later = EventReport { time: "2026-01-01T00:01:00Z".into(), ..event() };
        let told = reported(&[event(), later]);
        assert_eq!(told.len(), 1);
        let told = &told[0];
        assert_eq!(told["involvedObject"]["uid"], "u");
        assert_eq!(told["involvedObject"]["fieldPath"], "spec.containers{web}");
        assert_eq!((&told["count"], &told["type"]), (&json!(2), &json!("Warning")));
        assert_eq!(told["firstTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(told["lastTimestamp"], "2026-01-01T00:01:00Z");
        assert_eq!(told["series"], json!({"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}));
        assert_eq!(told["source"], json!({"component": "warren-agent", "host": "node-1"}));
        assert_eq!((&told["reportingInstance"], &told["metadata"]["uid"]), (&json!("node-1"), &json!("e")));
    }

    #[test]
    fn a_time_that_makes_no_sense_is_that_of_the_report() {
        for time in ["", "yesterday", "0001-01-01T00:00:00Z"] {
            let told = reported(&[EventReport { time: time.into(), ..event() }]);
            assert_eq!(told[0]["firstTimestamp"], "2026-01-01T00:00:01Z", "{time}");
        }
    }

    #[test]
    fn what_differs_is_another_event() {
        for other in [
            EventReport { reason: "Killing".into(), ..event() },
            EventReport { message: "x".into(), ..event() },
            EventReport { pod_uid: "v".into(), ..event() },
            EventReport { field_path: "spec.containers{side}".into(), ..event() },
            EventReport { warning: false, ..event() },
        ] {
            assert_eq!(reported(&[event(), other.clone()]).len(), 2, "{other:?}");
        }
    }

    #[test]
    fn a_loop_that_says_something_else_each_time_fills_nothing() {
        let time = String::new();
        let said =
            |number: usize| EventReport { message: format!("try {number}"), time: time.clone(), ..event() };
        let told = reported(&(0..100).map(said).collect::<Vec<_>>());
        assert_eq!(told.len(), 10);
        let combined = told.iter().find(|told| told["count"] == 91).expect("one combines the rest");
        assert_eq!(combined["message"], "(combined from similar events): try 99");
    }
}
