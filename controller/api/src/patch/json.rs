//! JSON patch, RFC 6902.

use serde_json::Value;

use crate::status::Status;

/// As in Kubernetes.
const MOST_OPERATIONS: usize = 10_000;

pub(super) fn parse(body: &[u8]) -> Result<json_patch::Patch, Status> {
    let patch: json_patch::Patch = serde_json::from_slice(body).map_err(|error| {
        Status::bad_request(format!("the body of the request is not a valid JSON patch: {error}"))
    })?;
    if patch.0.len() > MOST_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            patch.0.len()
        );
        return Err(Status::new(413, "RequestEntityTooLarge", message));
    }
    Ok(patch)
}

pub(super) fn apply(patch: &json_patch::Patch, current: &Value) -> Result<Value, Status> {
    let mut value = current.clone();
    json_patch::patch(&mut value, patch).map_err(|error| Status::unprocessable(&error.to_string()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_test_is_unprocessable() {
        let current = json!({"spec": {"replicas": 1}});
        let patch =
            parse(br#"[{"op":"test","path":"/spec/replicas","value":2},{"op":"remove","path":"/spec"}]"#)
                .unwrap();
        let status = apply(&patch, &current).unwrap_err();
        assert_eq!((status.code, status.reason), (422, "Invalid"));
        assert!(status.message.contains("/spec/replicas"), "{}", status.message);
        let patch = parse(br#"[{"op":"replace","path":"/spec/replicas","value":3}]"#).unwrap();
        assert_eq!(apply(&patch, &current).unwrap()["spec"]["replicas"], 3);
        assert_eq!(parse(b"{}").unwrap_err().code, 400);
    }
}
