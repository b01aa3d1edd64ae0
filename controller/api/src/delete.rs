//! What a client says about a deletion; what the deletion means is the gate's.

use serde_json::{Value, json};
use warren_objects::{ErrorKind, FieldError};
pub(crate) use warren_write::deletion::{DeleteOptions, Propagation};

use crate::{query::Query, status::Status};

/// `DeleteOptions`, from the body or the query. The body wins over the query, field by field.
pub(crate) fn options(body: &Value, query: &Query) -> Result<DeleteOptions, Status> {
    if let Some(found) = body.get("kind").filter(|found| **found != json!("DeleteOptions")) {
        let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        let message =
            format!("the kind in the data ({found}) does not match the expected kind (DeleteOptions)");
        return Err(Status::bad_request(message));
    }
    let grace_seconds = match body["gracePeriodSeconds"].as_i64() {
        Some(seconds) => Some(seconds),
        None if body["gracePeriodSeconds"].is_null() => query.number("gracePeriodSeconds")?,
        None => {
            let found = &body["gracePeriodSeconds"];
            return Err(wrong("gracePeriodSeconds", &format!("must be a whole number, found {found}")));
        }
    };
    let preconditions = &body["preconditions"];
    if !preconditions.is_null() && !preconditions.is_object() {
        return Err(wrong("preconditions", &format!("must be an object, found {preconditions}")));
    }
    Ok(DeleteOptions {
        grace_seconds,
        propagation: propagation(body, query)?,
        uid: text(preconditions, "uid", "preconditions.uid")?,
        resource_version: text(preconditions, "resourceVersion", "preconditions.resourceVersion")?,
        dry_run: dry_run(&body["dryRun"], query)?,
    })
}

/// 400 for an option of the wrong type.
fn wrong(field: &str, why: &str) -> Status {
    Status::bad_request(format!("DeleteOptions.{field}: {why}"))
}

fn text(map: &Value, field: &str, path: &str) -> Result<Option<String>, Status> {
    match &map[field] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(wrong(path, &format!("must be a string, found {other}"))),
    }
}

/// `propagationPolicy`, or its predecessor `orphanDependents`; 422 for both or for a policy that is none.
fn propagation(body: &Value, query: &Query) -> Result<Option<Propagation>, Status> {
    let stated = text(body, "propagationPolicy", "propagationPolicy")?
        .or_else(|| query.text("propagationPolicy").map(str::to_owned));
    let orphan = match &body["orphanDependents"] {
        Value::Bool(orphan) => Some(*orphan),
        Value::Null if query.get("orphanDependents").is_none() => None,
        Value::Null => Some(query.flag("orphanDependents")?),
        other => return Err(wrong("orphanDependents", &format!("must be true or false, found {other}"))),
    };
    let invalid = |kind: ErrorKind, detail: &str| {
        let value = stated.clone().map(Value::String);
        let error = FieldError { field: "propagationPolicy".into(), kind, value, detail: detail.into() };
        Err(Status::invalid_kind("meta.k8s.io", "DeleteOptions", "", &[error]))
    };
    match (stated.as_deref(), orphan) {
        (Some(_), Some(_)) => {
            invalid(ErrorKind::Invalid, "orphanDependents and deletionPropagation cannot be both set")
        }
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some(_), None) => {
            let supported = "supported values: \"Background\", \"Foreground\", \"Orphan\"";
            invalid(ErrorKind::NotSupported, supported)
        }
        (None, None) => Ok(None),
    }
}

fn dry_run(body: &Value, query: &Query) -> Result<bool, Status> {
    match body {
        Value::Null => query.dry_run(),
        Value::Array(values) if values.iter().all(|value| value == "All") => Ok(!values.is_empty()),
        other => Err(wrong("dryRun", &format!("Unsupported value: {other}: supported values: \"All\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::find;

    #[test]
    fn options_from_body_and_query() {
        let body =
            json!({"kind": "DeleteOptions", "propagationPolicy": "Orphan", "preconditions": {"uid": "u"}});
        let found =
            options(&body, &Query::parse(Some("gracePeriodSeconds=5&propagationPolicy=Foreground"))).unwrap();
        assert_eq!((found.grace_seconds, found.propagation), (Some(5), Some(Propagation::Orphan)));
        let kind = find("", "v1", "pods").unwrap();
        let status = found.check(kind, &json!({"metadata": {"name": "a", "uid": "v"}})).unwrap_err();
        assert_eq!(status.code, 409);
        assert!(
        status.message.ends_with(
            "the UID in the precondition (u) does not match the UID in record (v). The object might have been \
             deleted and then recreated"
        ),
        "{}",
        status.message
    );
        assert!(options(&json!({"dryRun": ["All"]}), &Query::default()).unwrap().dry_run);
        for (wrong, code) in [
            (json!({"dryRun": ["Some"]}), 400),
            (json!({"dryRun": "All"}), 400),
            (json!({"gracePeriodSeconds": "x"}), 400),
            (json!({"kind": "Pod"}), 400),
            (json!({"propagationPolicy": 1}), 400),
            (json!({"preconditions": {"uid": 1}}), 400),
            (json!({"preconditions": "u"}), 400),
            (json!({"orphanDependents": "x"}), 400),
            (json!({"propagationPolicy": "X"}), 422),
            (json!({"propagationPolicy": "Orphan", "orphanDependents": true}), 422),
        ] {
            assert_eq!(options(&wrong, &Query::default()).unwrap_err().code, code, "{wrong}");
        }
        let policy = |body: Value| options(&body, &Query::default()).unwrap().propagation;
        assert_eq!(policy(json!({"orphanDependents": true})), Some(Propagation::Orphan));
        assert_eq!(policy(json!({"orphanDependents": false})), Some(Propagation::Background));
        assert_eq!(policy(json!({})), None);
    }
}
