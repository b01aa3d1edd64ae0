//! Whose a new pod is: its service account, and what it gets of it: a token, the API's certificates and its namespace in
//! every container, and the account's pull secrets.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller>.

use serde_json::{Map, Value, json};
use warren_objects::{derived::letters, root_certificates};
use warren_state::{Key, Snapshot};
use warren_vocabulary::resources::SERVICEACCOUNTS;

use crate::{Refusal, Review, births};

/// Where every client looks for its token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the volumes of tokens are called, before five letters.
const VOLUME: &str = "kube-api-access-";
/// An hour, and seven seconds by which such a token is told from one that somebody asked for.
const SECONDS: u32 = 3_607;
/// On a pod that a node made by itself, and that the API only shows.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Completes a new pod by its account; 403 when there is no such account.
pub(crate) fn complete(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let Some(pod) = &mut review.new else { return Ok(()) };
    let outcome = if pod["metadata"]["annotations"][MIRROR].is_string() {
        mirrored(&pod["spec"])
    } else {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let Some(spec) = pod["spec"].as_object_mut() else { return Ok(()) };
        account(snapshot, &review.key.namespace, spec).map(|account| give(spec, account, &uid))
    };
    outcome.map_err(|why| Refusal::forbidden(review.kind, &review.key.name, &why))
}

/// What stands for a pod of a node's own is nobody to the API.
fn mirrored(spec: &Value) -> Result<(), String> {
    // Absent, it was given the usual name with all other defaults.
    if spec["serviceAccountName"].as_str().is_some_and(|name| !matches!(name, "" | "default")) {
        return Err("a mirror pod may not reference service accounts".to_owned());
    }
    let sources = spec["volumes"].as_array().into_iter().flatten();
    let mut sources =
        sources.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    match sources.any(|source| !source["serviceAccountToken"].is_null()) {
        true => Err("a mirror pod may not use ServiceAccountToken volume projections".to_owned()),
        false => Ok(()),
    }
}

/// The pod's account, `default` if it names none.
fn account<'s>(
    snapshot: &'s Snapshot,
    namespace: &str,
    spec: &mut Map<String, Value>,
) -> Result<&'s Value, String> {
    let named = spec.get("serviceAccountName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = named.unwrap_or(births::ACCOUNT).to_owned();
    let found = snapshot.get(&Key::new(SERVICEACCOUNTS, namespace, &name));
    let found = found.ok_or_else(|| {
        format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found")
    })?;
    spec.insert("serviceAccountName".to_owned(), json!(name));
    spec.insert("serviceAccount".to_owned(), json!(name));
    Ok(&found.value)
}

fn give(spec: &mut Map<String, Value>, account: &Value, uid: &str) {
    let is_empty = |value: Option<&Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
    if is_empty(spec.get("imagePullSecrets"))
        && let secrets @ Value::Array(_) = &account["imagePullSecrets"]
        && !is_empty(Some(secrets))
    {
        spec.insert("imagePullSecrets".to_owned(), secrets.clone());
    }
    let asked = |value: Option<&Value>| value.and_then(Value::as_bool);
    let automount = asked(spec.get("automountServiceAccountToken"));
    if automount.or_else(|| asked(account.get("automountServiceAccountToken"))).unwrap_or(true) {
        mount(spec, uid);
    }
}

/// Mounts the token's volume wherever nothing else is mounted in that place.
fn mount(spec: &mut Map<String, Value>, uid: &str) {
    // A pod that was copied brings the volume that its original had.
    let names: Vec<String> = list(spec.get("volumes")).map(|volume| text(&volume["name"])).collect();
    let brought = names.iter().find(|name| name.starts_with(VOLUME));
    let name = brought.cloned().unwrap_or_else(|| format!("{VOLUME}{}", letters(&[VOLUME, uid], 5)));
    let mut is_used = false;
    for containers in ["initContainers", "containers"] {
        let all = spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten();
        for container in all.filter_map(Value::as_object_mut) {
            if list(container.get("volumeMounts")).any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            is_used |= push(container, "volumeMounts", mount);
        }
    }
    if is_used && brought.is_none() {
        push(spec, "volumes", json!({"name": name, "projected": projection()}));
    }
}

fn projection() -> Value {
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    let certificates = json!([{"key": root_certificates::KEY, "path": root_certificates::KEY}]);
    json!({"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": SECONDS, "path": "token"}},
        {"configMap": {"name": root_certificates::NAME, "items": certificates}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
    ]})
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Adds to a list; false when what is there is no list, which the rules refuse.
fn push(map: &mut Map<String, Value>, field: &str, value: Value) -> bool {
    let list = map.entry(field).or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return false };
    list.push(value);
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "service_account_tests.rs"]
mod tests;
