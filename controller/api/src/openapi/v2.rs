//! The same in Swagger 2.0, for clients before kubectl 1.27: `explain`, the client's own validation, and the search
//! for the parameter `dryRun` of PATCH.

use serde_json::{Map, Value, json};

use super::{info, operations, schemas};

/// The whole API in one document.
pub(super) fn document() -> Value {
    let mut definitions = schemas::definitions().into_all();
    definitions.values_mut().for_each(respell);
    let paths: Map<String, Value> =
        operations::paths().into_iter().map(|path| (path.path.clone(), path.v2())).collect();
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
}

/// Swagger 2.0 has other words for references and for values of either type.
fn respell(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                let target = target.replacen(schemas::REFERENCE, "#/definitions/", 1);
                map.insert("$ref".into(), json!(target));
            }
            if let Some(target) = map.get("allOf").and_then(|parts| parts[0]["$ref"].as_str()) {
                let target = target.replacen(schemas::REFERENCE, "#/definitions/", 1);
                map.remove("allOf");
                map.insert("$ref".into(), json!(target));
            }
            // A field may have this name, too: the schema of schemas has it.
            if map.get("oneOf").is_some_and(Value::is_array) {
                map.remove("oneOf");
                map.insert("type".into(), json!("string"));
            }
            map.values_mut().for_each(respell);
        }
        Value::Array(items) => items.iter_mut().for_each(respell),
        _ => {}
    }
}
