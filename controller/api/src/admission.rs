//! What an object becomes before it is stored. Pure.
//!
//! ```text
//!  create: metadata ─► status reset ─► defaults ─► (addresses) ─► validation
//!  update: metadata ─► status kept  ─► allocated fields kept ─► defaults ─► generation ─► validation
//! ```

use std::sync::Arc;

use serde_json::{Value, json};
use warren_objects::{defaults, validate};
use warren_store::{Object, Snapshot};
use warren_vocabulary::resources::{DEFAULT_CLASS, INGRESSCLASSES};

use crate::{kinds::Kind, meta, status::Status};

/// Which part of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything but `status`.
    Main,
    /// `status` and metadata.
    Status,
    /// A namespace's `spec.finalizers`.
    Finalize,
}

/// A new object, its metadata already made: status and defaults.
pub(crate) fn create(kind: &Kind, object: &mut Value) {
    if kind.has_status && kind.resource != "nodes" {
        let zeros = kind.counters.iter().map(|field| ((*field).to_owned(), json!(0)));
        object["status"] = Value::Object(zeros.collect());
    }
    defaults::apply(kind, object);
}

/// On an Ingress: its class, as clients wrote it before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Gives a new Ingress that names no class the default one, if there is one; 403 when several claim to be it.
///
/// Source: <https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class>.
pub(crate) fn default_ingress_class(
    kind: &Kind,
    snapshot: &Snapshot,
    ingress: &mut Value,
) -> Result<(), Status> {
    let annotations = &ingress["metadata"]["annotations"];
    let is_named = !ingress["spec"]["ingressClassName"].is_null() || !annotations[CLASS_ANNOTATION].is_null();
    if is_named {
        return Ok(());
    }
    let is_default = |class: &&Arc<Object>| {
        class.value["metadata"]["annotations"][DEFAULT_CLASS] == "true" && !meta::is_terminating(&class.value)
    };
    let defaults: Vec<&Arc<Object>> = snapshot.list(INGRESSCLASSES).filter(is_default).collect();
    match defaults.as_slice() {
        [] => {}
        [class] => ingress["spec"]["ingressClassName"] = json!(&*class.key.name),
        several => {
            let names: Vec<&str> = several.iter().map(|class| &*class.key.name).collect();
            let why = format!(
                "{} default IngressClasses were found ({}), only 1 is allowed: name one in spec.ingressClassName",
                several.len(),
                names.join(", ")
            );
            return Err(Status::forbidden(kind, meta::text(ingress, "name"), &why));
        }
    }
    Ok(())
}

/// Judges a new object.
pub(crate) fn validate_new(kind: &Kind, object: &Value) -> Result<(), Status> {
    judge(kind, object, &validate::create(kind, object))
}

fn judge(kind: &Kind, object: &Value, errors: &[warren_objects::FieldError]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind, meta::text(object, "name"), errors)) }
}

/// What a changed object becomes: what is out of scope stays, defaults and generation are filled in, the
/// change is judged.
pub(crate) fn update(kind: &Kind, scope: Scope, old: &Value, mut new: Value) -> Result<Value, Status> {
    meta::on_update(kind, old, &mut new)?;
    let mut result = restrict(kind, scope, old, new);
    if scope == Scope::Main && kind.resource == "services" {
        keep_allocated(old, &mut result);
    }
    defaults::apply(kind, &mut result);
    meta::count_generation(kind, old, &mut result);
    judge(kind, old, &validate::update(kind, old, &result))?;
    Ok(result)
}

/// Keeps what the scope does not cover.
fn restrict(kind: &Kind, scope: Scope, old: &Value, new: Value) -> Value {
    let take = |into: &mut Value, field: &str, from: &Value| match (from.get(field), into.as_object_mut()) {
        (Some(value), Some(map)) => drop(map.insert(field.to_owned(), value.clone())),
        (None, Some(map)) => drop(map.remove(field)),
        _ => {}
    };
    match scope {
        Scope::Main => {
            let mut result = new;
            if kind.has_status {
                take(&mut result, "status", old);
            }
            if kind.resource == "namespaces" {
                take(&mut result, "spec", old);
            }
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
    }
}

/// Whether a service has, or is to get, an address.
pub(crate) fn wants_address(service: &Value) -> bool {
    service["spec"]["type"] != "ExternalName" && service["spec"]["clusterIP"] != "None"
}

/// Fields of a service that the server allocated stay when an update leaves them out.
fn keep_allocated(old: &Value, new: &mut Value) {
    let external = |service: &Value| service["spec"]["type"] == "ExternalName";
    let Some(spec) = new["spec"].as_object_mut() else { return };
    if spec.get("type").is_some_and(|kind| kind == "ExternalName") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if !external(old) && spec.get(field) == old["spec"].get(field) {
                spec.remove(field);
            }
        }
        return;
    }
    for field in ["clusterIP", "clusterIPs"] {
        if spec.get(field).is_some_and(|value| value == "" || value == &json!([])) {
            spec.remove(field);
        }
    }
    match (spec.get("clusterIP").cloned(), spec.get("clusterIPs").cloned()) {
        (Some(address), None) => drop(spec.insert("clusterIPs".into(), json!([address]))),
        (None, Some(addresses)) => drop(spec.insert("clusterIP".into(), addresses[0].clone())),
        _ => {}
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
        if let Some(value) = old["spec"].get(field).filter(|_| !external(old)) {
            spec.entry(field).or_insert_with(|| value.clone());
        }
    }
    keep_node_ports(old, new);
}

fn keep_node_ports(old: &Value, new: &mut Value) {
    if !matches!(new["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        return;
    }
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let before = old["spec"]["ports"].as_array().into_iter().flatten();
        let same = before.into_iter().find(|o| o["port"] == port["port"] && protocol(o) == protocol(port));
        if let (Some(node_port), None | Some(Value::Null)) =
            (same.and_then(|o| o.get("nodePort")), port.get("nodePort"))
        {
            port["nodePort"] = node_port.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::find;

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
    fn services_keep_their_addresses() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        keep_allocated(&old, &mut new);
        assert_eq!(new["spec"]["clusterIP"], "10.43.0.7");
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.43.0.7"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        assert!(new["spec"]["ports"][1].get("nodePort").is_none());
        let mut external =
            json!({"spec": {"type": "ExternalName", "externalName": "x", "clusterIP": "10.43.0.7"}});
        keep_allocated(&old, &mut external);
        assert!(external["spec"].get("clusterIP").is_none());
    }

    #[test]
    fn a_namespace_carries_its_name() {
        let mut namespace = json!({"metadata": {"name": "shop"}});
        create(find("", "v1", "namespaces").unwrap(), &mut namespace);
        assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
        assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(namespace["status"]["phase"], "Active");
    }
}
