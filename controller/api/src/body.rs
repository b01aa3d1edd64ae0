//! From a request's body to a checked object.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use warren_objects::strict;

use crate::{
    decode::{self, DEEPEST, Decoded},
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
    let value = map(headers, body, expected)?.value;
    if value["kind"] != "" {
        check_type(&value, "kind", expected.kind)?;
    }
    Ok(value)
}

/// Decodes a body that must be a map; nulls count as absent.
fn map(headers: &HeaderMap, body: &Bytes, expected: Expected<'_>) -> Result<Decoded, Status> {
    if body.is_empty() {
        return Err(Status::bad_request("the body of the request is empty: an object was expected"));
    }
    let mut decoded = decode_body(&content_type(headers), body, expected)?;
    if !decoded.value.is_object() {
        return Err(Status::bad_request("the body of the request is not an object (a JSON or YAML map)"));
    }
    strict::strip_nulls(&mut decoded.value);
    Ok(decoded)
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
    let Decoded { mut value, duplicates } = map(headers, body, expected)?;
    let warnings = check(kind, &mut value, &duplicates, validation)?;
    Ok((value, warnings))
}

/// Checks version, kind and types; unknown fields and fields given twice are refused or dropped, with or without a
/// warning. What comes out is in the version that is stored.
pub(crate) fn check(
    kind: &Kind,
    value: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let (api_version, name) = (kind.api_version(), kind.kind);
    let refuse = |why: String| {
        let version = kind.version;
        Status::bad_request(format!("{name} in version \"{version}\" cannot be handled as a {name}: {why}"))
    };
    if let Some(why) = decode::too_many(value) {
        return Err(Status::request_too_large(format!("Request entity too large: {why}")));
    }
    if !decode::is_within(value, DEEPEST) {
        return Err(refuse(format!("it is nested more than {DEEPEST} levels deep")));
    }
    check_type(value, "kind", name)?;
    check_type(value, "apiVersion", &api_version)?;
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(name);
    let unknown = strict::decode_version(kind, value).map_err(|error| refuse(error.to_string()))?;
    let mut messages = unknown.messages();
    let known = duplicates.iter().filter(|path| !unknown.0.contains(path));
    messages.extend(known.map(|path| format!("duplicate field \"{path}\"")));
    if !messages.is_empty() && validation == FieldValidation::Strict {
        return Err(refuse(format!("strict decoding error: {}", messages.join(", "))));
    }
    strict::prune(kind.resource, value, &unknown);
    if let Some(stored) = kind.stored(value) {
        *value = stored;
    }
    Ok(if validation == FieldValidation::Warn { messages } else { Vec::new() })
}

/// What a body says about its own type must be true.
fn check_type(value: &Value, field: &str, expected: &str) -> Result<(), Status> {
    let Some(found) = value.get(field).filter(|found| **found != json!(expected)) else { return Ok(()) };
    let (found, what) = (bare(found), if field == "kind" { "kind" } else { "API version" });
    Err(Status::bad_request(format!(
        "the {what} in the data ({found}) does not match the expected {what} ({expected})"
    )))
}

/// A text without its quotes; anything else as JSON.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
