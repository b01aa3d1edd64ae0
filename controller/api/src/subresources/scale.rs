//! `/scale`: how many, without knowing of what.

use serde_json::{Value, json};
use warren_objects::{ErrorKind, FieldError, schema, strict, unsupported};
use warren_write::Scope;

use crate::{
    body::{self, WriteOptions},
    meta,
    negotiate::{Expected, content_type},
    patch::Patch,
    respond::Reply,
    server::Call,
    state::{ApiState, key_of},
    status::Status,
    verbs,
};

const SCALE: Expected<'static> = Expected { group: "autoscaling", version: "v1", kind: "Scale" };

pub(super) fn get(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let snapshot = api.snapshot();
    let object = snapshot.get(&key_of(&call.target));
    let object = object.ok_or_else(|| Status::not_found(&call.target.kind, &call.target.name))?;
    Ok(Reply::fresh(scale_of(&object.value)))
}

pub(super) async fn update(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let mut scale = body::of_kind(&call.headers, &call.body, SCALE)?;
    meta::agree_with_url(&call.target.kind, &call.target.namespace, &call.target.name, &mut scale)?;
    change(api, call, |_| Ok(scale.clone())).await
}

pub(super) async fn patch(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let patch = Patch::parse(&content_type(&call.headers), &call.body)?;
    change(api, call, |scale| {
        let mut scale = patch.apply(schema::root(SCALE.group, SCALE.version, SCALE.kind), scale)?;
        strict::strip_nulls(&mut scale);
        Ok(scale)
    })
    .await
}

async fn change(
    api: &ApiState,
    call: &Call,
    mut transform: impl FnMut(&Value) -> Result<Value, Status> + Send,
) -> Result<Reply, Status> {
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let result = verbs::write(api, call, Scope::Main, options.dry_run, |old| {
        let scale = transform(&scale_of(old))?;
        let replicas = replicas(&call.target.name, &scale)?;
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(replicas);
        for field in ["resourceVersion", "uid"] {
            if let Some(value) = scale["metadata"].get(field) {
                meta::of(&mut new).insert(field.into(), value.clone());
            }
        }
        Ok(new)
    })
    .await?;
    let warnings = unsupported::warnings(&call.target.kind, &result);
    Ok(Reply::fresh(scale_of(&result)).with_warnings(warnings))
}

fn replicas(name: &str, scale: &Value) -> Result<i64, Status> {
    let found = &scale["spec"]["replicas"];
    let number = if found.is_null() { Some(0) } else { found.as_i64() };
    let Some(number) = number.filter(|number| i32::try_from(*number).is_ok()) else {
        let message = format!("Scale.spec.replicas: must be a whole number of 32 bits, found {found}");
        return Err(Status::bad_request(message));
    };
    if number >= 0 {
        return Ok(number);
    }
    let error = FieldError {
        field: "spec.replicas".into(),
        kind: ErrorKind::Invalid,
        value: Some(json!(number)),
        detail: "must be greater than or equal to 0".into(),
    };
    Err(Status::invalid_kind("autoscaling", "Scale", name, &[error]))
}

/// The `Scale` of an object.
fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector_text(&object["spec"]["selector"]),
        },
    })
}

/// A label selector as text: `a=b,c in (d,e),!f`. That of a ReplicationController is a mere map of labels.
fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<String> = Vec::new();
    let plain = selector.as_object().is_some_and(|map| map.values().all(Value::is_string));
    let labels = if plain { selector } else { &selector["matchLabels"] };
    for (key, value) in labels.as_object().into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str().unwrap_or("")));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or("");
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort();
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_view() {
        let object = json!({
            "metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {
                "matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}],
            }},
            "status": {"replicas": 2},
        });
        let scale = scale_of(&object);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web,tier in (a,b)"}));
        assert!(scale["metadata"].get("labels").is_none());
        assert_eq!(replicas("web", &json!({"spec": {"replicas": -1}})).unwrap_err().code, 422);
        assert_eq!(replicas("web", &json!({"spec": {"replicas": "x"}})).unwrap_err().code, 400);
    }
}
