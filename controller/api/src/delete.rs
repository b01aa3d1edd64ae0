//! What deleting an object means: at once, gracefully, or held by finalizers. Pure.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

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
        let number = |value: &Value| {
            value.as_i64().ok_or_else(|| {
                Status::bad_request(format!(
                    "DeleteOptions.gracePeriodSeconds: must be a whole number, found {value}"
                ))
            })
        };
        let grace_seconds = match &body["gracePeriodSeconds"] {
            Value::Null => query.number("gracePeriodSeconds")?,
            value => Some(number(value)?),
        };
        let stated = body["propagationPolicy"].as_str().or_else(|| query.text("propagationPolicy"));
        let propagation = match stated {
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "DeleteOptions.propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \
                     \"Foreground\", \"Orphan\""
                )));
            }
            None if body["orphanDependents"] == true || query.flag("orphanDependents")? => {
                Some(Propagation::Orphan)
            }
            None => None,
        };
        let precondition = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        let dry_run = match &body["dryRun"] {
            Value::Null => query.dry_run()?,
            value if *value == json!(["All"]) => true,
            value if *value == json!([]) => false,
            other => {
                let message =
                    format!("DeleteOptions.dryRun: Unsupported value: {other}: supported values: \"All\"");
                return Err(Status::bad_request(message));
            }
        };
        let (uid, resource_version) = (precondition("uid"), precondition("resourceVersion"));
        Ok(Self { grace_seconds, propagation, uid, resource_version, dry_run })
    }

    /// 409 unless the object is the one that is meant.
    pub(crate) fn check(&self, kind: &Kind, object: &Value) -> Result<(), Status> {
        let name = meta::text(object, "name");
        for (what, wanted, field) in
            [("UID", &self.uid, "uid"), ("ResourceVersion", &self.resource_version, "resourceVersion")]
        {
            let found = meta::text(object, field);
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let why = format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                );
                return Err(Status::conflict_because(kind, name, &why));
            }
        }
        Ok(())
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
    match kind.resource {
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
