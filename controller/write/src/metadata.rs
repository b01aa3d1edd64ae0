//! `metadata`: what the server sets, what it keeps, what it ignores.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use warren_objects::{ErrorKind, FieldError, kinds::Kind};

use crate::{Refusal, scope};

/// Fields that clients cannot set; on updates the stored values win.
const SYSTEM_FIELDS: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
];

const MANAGED_FIELDS: &str = "managedFields";

/// RFC 3339, whole seconds, `Z`.
pub fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A text field of `metadata`; absent is empty.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether deletion has begun.
pub fn is_terminating(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// `metadata` as a map, made when it is absent. `object` is a JSON object: bodies are checked on arrival.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    let slot = &mut object["metadata"];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("it was made a map one line above")
}

/// What a new object's metadata becomes. The name may still have to be generated.
pub fn on_create(kind: &Kind, object: &mut Value, uid: &str, now: Timestamp) -> Result<(), Refusal> {
    if !matches!(text(object, "resourceVersion"), "" | "0") {
        return Err(Refusal::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let metadata = of(object);
    let base = metadata.get("generateName").cloned();
    for field in SYSTEM_FIELDS.into_iter().chain(["resourceVersion", "selfLink"]) {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), json!(uid));
    metadata.insert("creationTimestamp".into(), json!(timestamp(now)));
    if let Some(base) = base {
        metadata.insert("generateName".into(), base);
    }
    if kind.has_generation {
        metadata.insert("generation".into(), json!(1));
    }
    Ok(())
}

/// What the metadata of a changed object becomes: the server's fields stay as they were. So does who manages which field,
/// unless the client says something else.
pub(crate) fn on_update(kind: &Kind, old: &Value, new: &mut Value) -> Result<(), Refusal> {
    let name = text(old, "name").to_owned();
    let (stated, uid) = (text(new, "uid"), text(old, "uid"));
    if !stated.is_empty() && stated != uid {
        let why = format!("Precondition failed: UID in precondition: {stated}, UID in object meta: {uid}");
        return Err(Refusal::conflict_because(kind, &name, &why));
    }
    let metadata = of(new);
    for field in SYSTEM_FIELDS.into_iter().chain(["resourceVersion", "name", "namespace"]) {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    metadata.remove("selfLink");
    if let (false, Some(managed)) =
        (metadata.contains_key(MANAGED_FIELDS), old["metadata"].get(MANAGED_FIELDS))
    {
        metadata.insert(MANAGED_FIELDS.into(), managed.clone());
    }
    refuse_new_finalizers(kind, old, new)
}

fn refuse_new_finalizers(kind: &Kind, old: &Value, new: &Value) -> Result<(), Refusal> {
    if !is_terminating(old) {
        return Ok(());
    }
    let known = finalizers(old);
    let added: Vec<&str> =
        finalizers(new).into_iter().filter(|finalizer| !known.contains(finalizer)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let error = FieldError {
        field: "metadata.finalizers".into(),
        kind: ErrorKind::Forbidden,
        value: None,
        detail: format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.iter().map(|finalizer| format!("{finalizer:?}")).collect::<Vec<_>>().join(", ")
        ),
    };
    Err(Refusal::invalid(kind, text(old, "name"), &[error]))
}

/// Counts a change of the desired state: anything but metadata and status.
pub(crate) fn count_generation(kind: &Kind, old: &Value, new: &mut Value) {
    if kind.has_generation && scope::differ_in_desired_state(old, new) {
        bump_generation(new);
    }
}

/// One more.
pub fn bump_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    of(object).insert("generation".into(), json!(generation.saturating_add(1)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use warren_objects::kinds::find;

    #[test]
    fn creation_ignores_what_the_server_sets() {
        let kind = find("apps", "v1", "deployments").unwrap();
        let mut object =
            json!({"metadata": {"name": "a", "uid": "mine", "deletionTimestamp": "x", "generation": 7}});
        on_create(kind, &mut object, "u", "2026-01-02T03:04:05.678Z".parse().unwrap()).unwrap();
        assert_eq!(object["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
        assert_eq!(object["metadata"]["uid"], "u");
        assert_eq!(object["metadata"]["generation"], 1);
        assert!(object["metadata"].get("deletionTimestamp").is_none());
        let mut versioned = json!({"metadata": {"name": "a", "resourceVersion": "5"}});
        assert_eq!(on_create(kind, &mut versioned, "u", Timestamp::UNIX_EPOCH).unwrap_err().code, 400);
    }

    #[test]
    fn generation_counts_the_desired_state_only() {
        let kind = find("apps", "v1", "deployments").unwrap();
        let old = json!({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let mut new = old.clone();
        new["status"]["replicas"] = json!(2);
        new["metadata"]["labels"] = json!({"a": "b"});
        count_generation(kind, &old, &mut new);
        assert_eq!(new["metadata"]["generation"], 3);
        new["spec"]["replicas"] = json!(2);
        count_generation(kind, &old, &mut new);
        assert_eq!(new["metadata"]["generation"], 4);
    }

    #[test]
    fn who_manages_a_field_is_kept() {
        let kind = find("", "v1", "configmaps").unwrap();
        let managed = |manager: &str| json!([{"manager": manager, "operation": "Update"}]);
        let mut old = json!({"metadata": {"name": "a", "uid": "u", "managedFields": managed("kubectl")}});
        on_create(kind, &mut old, "u", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(old["metadata"]["managedFields"], managed("kubectl"));
        let mut silent = json!({"metadata": {"name": "a"}});
        on_update(kind, &old, &mut silent).unwrap();
        assert_eq!(silent["metadata"]["managedFields"], managed("kubectl"));
        let mut other = json!({"metadata": {"managedFields": managed("helm")}});
        on_update(kind, &old, &mut other).unwrap();
        assert_eq!(other["metadata"]["managedFields"], managed("helm"));
    }

    #[test]
    fn finalizers_only_go_while_deleting() {
        let kind = find("", "v1", "pods").unwrap();
        let old = json!({"metadata": {"name": "a", "uid": "u", "deletionTimestamp": "t", "finalizers": ["x", "y"]}});
        let mut fewer = json!({"metadata": {"name": "a", "finalizers": ["y"]}});
        on_update(kind, &old, &mut fewer).unwrap();
        assert_eq!(fewer["metadata"]["deletionTimestamp"], "t");
        let mut more = json!({"metadata": {"finalizers": ["x", "z"]}});
        assert_eq!(on_update(kind, &old, &mut more).unwrap_err().code, 422);
        let mut other = json!({"metadata": {"uid": "v"}});
        assert_eq!(on_update(kind, &old, &mut other).unwrap_err().code, 409);
    }
}
