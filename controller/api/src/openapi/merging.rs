//! What k8s-openapi's types do not say and the table of API types does: how fields merge, in the words of OpenAPI's
//! extensions, and which fields are required. Clients compute patches from it by the same rows by which the server
//! applies them.

use serde_json::{Map, Value, json};
use warren_objects::schema::{self, Apply, Field, Message, Patch, Type};

/// Lists whose items merge, but by naming the keys that may stay: (type, field). The server needs not know it, because
/// the patch carries `$retainKeys`.
const RETAIN_KEYS: &[(&str, &str)] =
    &[("PodSpec", "resourceClaims"), ("PodSpec", "volumes"), ("PodStatus", "resourceClaimStatuses")];

/// The row of a definition: `io.k8s.api.core.v1.PodSpec` is `PodSpec` of `k8s.io.api.core.v1`.
fn message(definition: &str) -> Option<&'static Message> {
    let (package, name) = definition.strip_prefix("io.k8s.")?.rsplit_once('.')?;
    let is_it =
        |message: &&Message| message.name == name && message.package.strip_prefix("k8s.io.") == Some(package);
    schema::messages().iter().copied().find(|message| is_it(message))
}

/// The name of a message's definition.
pub(super) fn definition(message: &Message) -> String {
    let package = message.package.strip_prefix("k8s.io.").unwrap_or(message.package);
    format!("io.k8s.{package}.{}", message.name)
}

/// Completes a definition.
pub(super) fn complete(name: &str, schema: &mut Value) {
    let (Some(message), Some(schema)) = (message(name), schema.as_object_mut()) else { return };
    let mut required = Vec::new();
    for field in message.json_fields() {
        let property = schema.get_mut("properties").and_then(|properties| properties.get_mut(field.json));
        let Some(property) = property.and_then(Value::as_object_mut) else { continue };
        property.extend(extensions(message, field));
        if field.is_required() {
            required.push(field.json);
        }
    }
    required.sort_unstable();
    schema.remove("required");
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    if message.atomic {
        schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
}

fn extensions(message: &Message, field: &Field) -> Map<String, Value> {
    let mut all = Map::new();
    let mut say = |name: &str, value: Value| {
        all.insert(format!("x-kubernetes-{name}"), value);
    };
    match field.patch() {
        Patch::Default => {}
        Patch::By(key) => {
            let retains = RETAIN_KEYS.contains(&(message.name, field.json));
            say("patch-strategy", json!(if retains { "merge,retainKeys" } else { "merge" }));
            say("patch-merge-key", json!(key));
        }
        Patch::Union => say("patch-strategy", json!("merge")),
        Patch::Replace => say("patch-strategy", json!("replace")),
        Patch::RetainKeys => say("patch-strategy", json!("retainKeys")),
    }
    let is_list = matches!(field.kind, Type::List(_) | Type::Items(_));
    match field.apply() {
        Apply::Default => {}
        Apply::Atomic => say(if is_list { "list-type" } else { "map-type" }, json!("atomic")),
        Apply::Set => say("list-type", json!("set")),
        Apply::Keys(keys) => {
            say("list-type", json!("map"));
            say("list-map-keys", json!(keys));
        }
    }
    all
}
