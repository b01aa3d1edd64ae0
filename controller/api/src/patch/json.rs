//! JSON patch, RFC 6902.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::{
    body::LIMIT,
    decode::{self, DEEPEST},
    negotiate::unreadable,
    status::Status,
};

/// As in Kubernetes.
const MOST_OPERATIONS: usize = 10_000;

pub(super) fn parse(body: &[u8]) -> Result<json_patch::Patch, Status> {
    const WHAT: &str = "the body of the request is not a valid JSON patch";
    // First as any JSON: what is in a patch is bounded while it is read, as in every other body.
    let operations = decode::json(body).map_err(|fault| unreadable(WHAT, &fault))?.value;
    let patch: json_patch::Patch = serde_json::from_value(operations)
        .map_err(|error| Status::bad_request(format!("{WHAT}: {error}")))?;
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
    let mut copied = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        bound(operation, &value, &mut copied)?;
        json_patch::patch(&mut value, std::slice::from_ref(operation)).map_err(|mut error| {
            error.operation = index;
            Status::unprocessable(&error.to_string())
        })?;
    }
    Ok(value)
}

/// A short patch could double its object with each copy, or nest it without end.
fn bound(operation: &PatchOperation, value: &Value, copied: &mut usize) -> Result<(), Status> {
    let (path, placed) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Move(moving) => (&moving.path, value.pointer(moving.from.as_str())),
        PatchOperation::Copy(copy) => {
            let from = value.pointer(copy.from.as_str());
            *copied += from.map_or(0, decode::encoded_length);
            (&copy.path, from)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if *copied > LIMIT {
        return Err(Status::request_too_large(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {LIMIT}"
        )));
    }
    let room = DEEPEST.checked_sub(path.count());
    if placed.is_none_or(|placed| room.is_some_and(|room| decode::is_within(placed, room))) {
        return Ok(());
    }
    let message = format!("the patch nests the object more than {DEEPEST} levels deep at {path:?}");
    Err(Status::unprocessable(&message))
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

    #[test]
    fn a_small_patch_stays_small() {
        let mut doubling = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(1_000)]})];
        doubling.extend((0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})));
        let patch = parse(json!(doubling).to_string().as_bytes()).unwrap();
        assert_eq!(apply(&patch, &json!({})).unwrap_err().code, 413);
        let nest = |deep: usize| {
            let value = (0..deep).fold(json!(1), |value, _| json!([value]));
            json!({"op": "add", "path": "/a", "value": value})
        };
        let deepening = json!([nest(80), {"op": "copy", "from": "/a", "path": "/a/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0"}]);
        let patch = parse(deepening.to_string().as_bytes()).unwrap();
        assert_eq!(apply(&patch, &json!({})).unwrap_err().code, 422);
        let inside = json!([nest(3), {"op": "move", "from": "/a", "path": "/a/0"}]);
        let patch = parse(inside.to_string().as_bytes()).unwrap();
        assert_eq!(apply(&patch, &json!({})).unwrap_err().code, 422);
    }

    #[test]
    fn the_operation_that_failed_is_named() {
        let patch = parse(br#"[{"op":"add","path":"/a","value":1},{"op":"remove","path":"/b"}]"#).unwrap();
        let status = apply(&patch, &json!({})).unwrap_err();
        assert_eq!(
            status.message,
            "the server rejected our request due to an error in our request: operation '/1' failed at path '/b': path \
             is invalid"
        );
    }
}
