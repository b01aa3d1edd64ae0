//! From a request's body to a checked object.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use warren_objects::strict;

use crate::{
    kinds::Kind,
    negotiate::{Expected, content_type, decode_body},
    query::{FieldValidation, Query},
    status::Status,
};

/// The largest body, as in Kubernetes.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the whole body.
pub(crate) async fn read(body: Body) -> Result<Bytes, Status> {
    let reading = Limited::new(body, LIMIT).collect();
    let collected = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| {
        Status::timeout(format!("the body of the request did not arrive within {} s", PATIENCE.as_secs()))
    })?;
    collected.map(|body| body.to_bytes()).map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            return Status::too_large(LIMIT);
        }
        Status::bad_request(format!("the body of the request could not be read: {error}"))
    })
}

/// What the query of a write says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        Ok(Self { dry_run: query.dry_run()?, validation: query.field_validation()? })
    }
}

/// Decodes the options of a deletion; an empty body is an empty object.
pub(crate) fn optional(headers: &HeaderMap, body: &Bytes) -> Result<Value, Status> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    of_kind(headers, body, Expected { group: "", version: "v1", kind: "DeleteOptions" })
}

/// Decodes a body that is no object of a served kind but has a kind of its own: an eviction, a binding, a scale.
/// Clients may leave out what it is, and the versions of these kinds do not differ.
pub(crate) fn of_kind(headers: &HeaderMap, body: &Bytes, expected: Expected<'_>) -> Result<Value, Status> {
    let value = map(headers, body, expected)?;
    match value["kind"].as_str() {
        Some(found) if !found.is_empty() && found != expected.kind => Err(wrong_kind(found, expected.kind)),
        _ => Ok(value),
    }
}

/// Decodes a body that must be a map; nulls count as absent.
fn map(headers: &HeaderMap, body: &Bytes, expected: Expected<'_>) -> Result<Value, Status> {
    if body.is_empty() {
        return Err(Status::bad_request("the body of the request is empty: an object was expected"));
    }
    let mut value = decode_body(&content_type(headers), body, expected)?;
    if !value.is_object() {
        return Err(Status::bad_request("the body of the request is not an object (a JSON or YAML map)"));
    }
    strict::strip_nulls(&mut value);
    Ok(value)
}

/// Decodes and checks an object of a kind; the texts are warnings for the client. Fields that the kind does not have
/// are only seen in JSON and YAML: in protobuf they have no names.
pub(crate) fn object(
    kind: &Kind,
    headers: &HeaderMap,
    body: &Bytes,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let expected = Expected { group: kind.group, version: kind.version, kind: kind.kind };
    let mut value = map(headers, body, expected)?;
    let warnings = check(kind, &mut value, validation)?;
    Ok((value, warnings))
}

fn wrong_kind(found: &str, expected: &str) -> Status {
    Status::bad_request(format!(
        "the kind in the data ({found}) does not match the expected kind ({expected})"
    ))
}

/// Checks version, kind and types; unknown fields are refused or dropped, with or without a warning.
pub(crate) fn check(
    kind: &Kind,
    value: &mut Value,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let (api_version, name) = (kind.api_version(), kind.kind);
    if let Some(found) = value.get("kind").filter(|found| **found != json!(name)) {
        return Err(wrong_kind(&bare(found), name));
    }
    if let Some(found) = value.get("apiVersion").filter(|found| **found != json!(api_version)) {
        let found = bare(found);
        let message = format!(
            "the API version in the data ({found}) does not match the expected API version ({api_version})"
        );
        return Err(Status::bad_request(message));
    }
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(name);
    let refuse = |why: String| {
        let version = kind.version;
        Status::bad_request(format!("{name} in version \"{version}\" cannot be handled as a {name}: {why}"))
    };
    let unknown = strict::decode(kind.resource, value).map_err(|error| refuse(error.to_string()))?;
    if unknown.is_empty() {
        return Ok(Vec::new());
    }
    let messages = unknown.messages();
    if validation == FieldValidation::Strict {
        return Err(refuse(format!("strict decoding error: {}", messages.join(", "))));
    }
    strict::prune(kind.resource, value, &unknown);
    Ok(if validation == FieldValidation::Warn { messages } else { Vec::new() })
}

/// A text without its quotes; anything else as JSON.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
