//! What deleting an object means: at once, gracefully, or held by finalizers. Pure.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use warren_objects::{ErrorKind, FieldError};

use crate::{kinds::Kind, meta, query::Query, status::Status};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// What a pod gets when neither the request nor the pod says.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Namespaces that the cluster cannot do without.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// 403 for what nobody may delete.
pub(crate) fn permit(kind: &Kind, name: &str) -> Result<(), Status> {
    if kind.resource == "namespaces" && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(kind, name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// What happens to the objects that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// The body wins over the query, field by field.
    pub(crate) fn parse(body: &Value, query: &Query) -> Result<Self, Status> {
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
        Ok(Self {
            grace_seconds,
            propagation: propagation(body, query)?,
            uid: text(preconditions, "uid", "preconditions.uid")?,
            resource_version: text(preconditions, "resourceVersion", "preconditions.resourceVersion")?,
            dry_run: dry_run(&body["dryRun"], query)?,
        })
    }

    /// 409 unless the object is the one that is meant.
    pub(crate) fn check(&self, kind: &Kind, object: &Value) -> Result<(), Status> {
        let name = meta::text(object, "name");
        for (what, wanted, field, hint) in [
            ("UID", &self.uid, "uid", "The object might have been deleted and then recreated"),
            (
                "ResourceVersion",
                &self.resource_version,
                "resourceVersion",
                "The object might have been modified",
            ),
        ] {
            let found = meta::text(object, field);
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). {hint}"
                );
                return Err(Status::conflict_because(kind, name, &why));
            }
        }
        Ok(())
    }
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

/// What a deletion does to the stored object.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// It goes now.
    Remove,
    /// It stays, marked.
    Mark(Value),
    /// It is already on its way.
    Pending,
}

/// Decides. Preconditions have been checked.
pub(crate) fn decide(kind: &Kind, object: &Value, options: &DeleteOptions, now: Timestamp) -> Decision {
    let marked = with_propagation(object, options.propagation);
    let first = !meta::is_terminating(object);
    match &*kind.resource {
        "namespaces" => terminate_namespace(object, marked, now),
        "pods" => match pod_grace(object, options) {
            Some(grace) if grace > 0 => mark(object, marked, grace, now),
            None => pending_unless_changed(object, marked),
            Some(_) if meta::finalizers(&marked).is_empty() => Decision::Remove,
            Some(_) => mark(object, marked, 0, now),
        },
        _ if meta::finalizers(&marked).is_empty() => Decision::Remove,
        _ if first => mark(object, marked, 0, now),
        _ => pending_unless_changed(object, marked),
    }
}

fn pending_unless_changed(object: &Value, marked: Value) -> Decision {
    if *object == marked { Decision::Pending } else { Decision::Mark(marked) }
}

/// The finalizers of the garbage collector follow the latest request that names a policy.
fn with_propagation(object: &Value, propagation: Option<Propagation>) -> Value {
    let mut marked = object.clone();
    let Some(propagation) = propagation else { return marked };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let mut finalizers: Vec<&str> = meta::finalizers(object);
    finalizers.retain(|finalizer| ![FOREGROUND, ORPHAN].contains(finalizer) || Some(*finalizer) == wanted);
    if let Some(wanted) = wanted.filter(|wanted| !finalizers.contains(wanted)) {
        finalizers.push(wanted);
    }
    let metadata = meta::of(&mut marked);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
    marked
}

/// Sets the deletion's time; the first mark counts as a change of the desired state.
fn mark(object: &Value, mut marked: Value, grace: i64, now: Timestamp) -> Decision {
    let begun = begun(object).unwrap_or(now);
    let end = begun.checked_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
    let metadata = meta::of(&mut marked);
    metadata.insert("deletionTimestamp".into(), json!(meta::timestamp(end)));
    metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
    if !meta::is_terminating(object) && !object["metadata"]["generation"].is_null() {
        meta::bump_generation(&mut marked);
    }
    if *object == marked { Decision::Pending } else { Decision::Mark(marked) }
}

/// When an earlier deletion began: its end less its grace.
fn begun(object: &Value) -> Option<Timestamp> {
    let end: Timestamp = meta::text(object, "deletionTimestamp").parse().ok()?;
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    end.checked_sub(SignedDuration::from_secs(grace)).ok()
}

/// The grace period that a pod gets; `None`: it is ending already and the request does not shorten it.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> Option<i64> {
    // A negative value means "as soon as possible, but tell the node".
    let wanted = options.grace_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    if meta::is_terminating(pod) {
        let current = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        return wanted.filter(|wanted| *wanted < current);
    }
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or("").is_empty();
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || finished {
        return Some(0);
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    Some(wanted.or(own).unwrap_or(DEFAULT_GRACE_SECONDS).max(0))
}

/// The planner empties the namespace and removes it.
fn terminate_namespace(object: &Value, mut marked: Value, now: Timestamp) -> Decision {
    if meta::is_terminating(object) {
        return pending_unless_changed(object, marked);
    }
    meta::of(&mut marked).insert("deletionTimestamp".into(), json!(meta::timestamp(now)));
    marked["status"]["phase"] = json!("Terminating");
    Decision::Mark(marked)
}

/// Whether an update has removed the last thing that kept a dying object.
pub(crate) fn is_finished(kind: &Kind, object: &Value) -> bool {
    let graceful = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) != 0;
    let held = kind.resource == "namespaces"
        && object["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    meta::is_terminating(object) && meta::finalizers(object).is_empty() && !graceful && !held
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
