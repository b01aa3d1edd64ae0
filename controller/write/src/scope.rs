//! Which part of an object a client's write may reach. Pure.

use serde_json::{Value, json};
use warren_objects::kinds::Kind;

use crate::{Verb, kinds};

/// Which part of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything but `status`.
    Main,
    /// `status` and metadata.
    Status,
    /// A namespace's `spec.finalizers`.
    Finalize,
    /// A pod's node, and what its status says of it.
    Binding,
}

impl Scope {
    /// What a write of this scope is called.
    pub(crate) fn verb(self) -> Verb {
        match self {
            Self::Main => Verb::Update,
            Self::Status => Verb::UpdateStatus,
            Self::Finalize => Verb::Finalize,
            Self::Binding => Verb::Bind,
        }
    }
}

/// The status of an object that a client makes is the server's; fields begin at 0 that typed clients do not decode one
/// without.
pub(crate) fn first_status(kind: &Kind, object: &mut Value) {
    if kind.has_status && !kinds::hooks(kind).brings_status {
        let zeros = kind.counters.iter().map(|field| ((*field).to_owned(), json!(0)));
        object["status"] = Value::Object(zeros.collect());
    }
}

/// Whether two states of an object differ in more than metadata and status.
pub(crate) fn differ_in_desired_state(old: &Value, new: &Value) -> bool {
    let beside = |field: &str| matches!(field, "metadata" | "status" | "apiVersion" | "kind");
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old != new };
    let gone = old.keys().any(|field| !beside(field) && !new.contains_key(field));
    gone || new.iter().any(|(field, value)| !beside(field) && old.get(field) != Some(value))
}

/// Keeps what the scope does not cover.
pub(crate) fn restrict(kind: &Kind, scope: Scope, old: &Value, new: Value) -> Value {
    match scope {
        Scope::Main => {
            let mut result = new;
            if kind.has_status {
                take(&mut result, "status", old);
            }
            (kinds::hooks(kind).keep)(old, &mut result);
            result
        }
        Scope::Status => {
            let mut result = old.clone();
            take(&mut result, "status", &new);
            take(&mut result, "metadata", &new);
            result
        }
        Scope::Finalize => {
            let mut result = old.clone();
            take(&mut result, "spec", &new);
            result
        }
        Scope::Binding => new,
    }
}

/// Gives an object another's field.
pub(crate) fn take(into: &mut Value, field: &str, from: &Value) {
    match (from.get(field), into.as_object_mut()) {
        (Some(value), Some(map)) => drop(map.insert(field.to_owned(), value.clone())),
        (None, Some(map)) => drop(map.remove(field)),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use warren_objects::kinds::find;

    #[test]
    fn status_belongs_to_the_server() {
        let kind = find("apps", "v1", "deployments").unwrap();
        let old = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let new = json!({"metadata": {"name": "a"}, "spec": {"replicas": 2}, "status": {"replicas": 9}});
        let main = restrict(kind, Scope::Main, &old, new.clone());
        assert_eq!((&main["spec"]["replicas"], &main["status"]["replicas"]), (&json!(2), &json!(1)));
        let status = restrict(kind, Scope::Status, &old, new);
        assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(9)));
    }

    #[test]
    fn a_namespace_carries_its_name() {
        let mut namespace = json!({"metadata": {"name": "shop"}});
        let kind = find("", "v1", "namespaces").unwrap();
        first_status(kind, &mut namespace);
        crate::rules::complete(kind, &mut namespace);
        assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
        assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(namespace["status"]["phase"], "Active");
    }
}
