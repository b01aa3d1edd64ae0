//! Small things that several files do to Kubernetes' JSON.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The text at a path (`/a/b`), or nothing.
pub(crate) fn text_at<'a>(value: &'a Value, path: &str) -> &'a str {
    warren_state::at(value, path).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) use warren_write::metadata::timestamp as rfc3339;

/// A reported RFC 3339 time in whole seconds; `None` when it is absent, senseless, or Docker's year one.
pub(crate) fn seconds(text: &str) -> Option<String> {
    let time: Timestamp = text.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then(|| rfc3339(time))
}

/// Sets one of `status.conditions`. The time of the last transition moves only with the status.
pub(crate) fn set_condition(
    status: &mut Map<String, Value>,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let known = list.iter_mut().find(|condition| condition["type"] == kind);
    let mut condition = match &known {
        Some(known) => known.as_object().cloned().unwrap_or_default(),
        None => Map::new(),
    };
    if condition.get("status").and_then(Value::as_str) != Some(value) {
        condition.insert("lastTransitionTime".into(), rfc3339(now).into());
    }
    condition.insert("type".into(), kind.into());
    condition.insert("status".into(), value.into());
    for (field, text) in [("reason", reason), ("message", message)] {
        match text {
            "" => condition.remove(field),
            text => condition.insert(field.into(), text.into()),
        };
    }
    match known {
        Some(known) => *known = Value::Object(condition),
        None => list.push(Value::Object(condition)),
    }
}
