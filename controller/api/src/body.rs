//! From a request's body to a checked object.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use warren_objects::{ErrorKind, FieldError, strict, text};

use crate::{
    decode::{self, DEEPEST, Decoded},
    kinds::Kind,
    negotiate::{Expected, content_type, decode_body},
    query::{FieldValidation, Query},
    status::Status,
};

/// The largest body, as in Kubernetes.
pub(crate) const LIMIT: usize = text::MOST_BYTES;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(60);

/// All bodies together that administrators may have under way.
const ROOM: usize = 64 * 1024 * 1024;
/// All bodies together of users who write by roles.
const WRITERS_ROOM: usize = 32 * 1024 * 1024;
/// The largest body of anybody else, who may ask and nothing more.
const SMALL: usize = 64 * 1024;
/// All bodies together of everybody else.
const SMALL_ROOM: usize = 4 * 1024 * 1024;

/// Whose body it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sender {
    Administrator,
    /// A user with a name whom a role lets write.
    Writer,
    /// Whoever may only ask, about himself for instance.
    Asker,
}

/// Room for bodies: what is sent at the same time, and what is made of it, never adds up to more than there is memory.
/// Each sort of senders has its own, so that no administrator waits for a member or a user that has gone mad.
pub(crate) struct Bodies {
    administrators: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    askers: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        let room = |bytes: usize| Arc::new(Semaphore::new(kibibytes(bytes)));
        Self { administrators: room(ROOM), writers: room(WRITERS_ROOM), askers: room(SMALL_ROOM) }
    }
}

fn kibibytes(bytes: usize) -> usize {
    bytes.div_ceil(1024).max(1)
}

/// A body, with the room that it takes until it is dropped.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Reads a whole body. One that does not say its length takes the room of the largest.
    pub(crate) async fn read(&self, body: Body, sender: Sender) -> Result<Received, Status> {
        let (room, most) = match sender {
            Sender::Administrator => (&self.administrators, LIMIT),
            Sender::Writer => (&self.writers, LIMIT),
            Sender::Asker => (&self.askers, SMALL),
        };
        let length = body.size_hint();
        if length.lower() > most as u64 {
            return Err(Status::too_large(most));
        }
        let claimed = length.exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(most);
        let permits = u32::try_from(kibibytes(claimed)).unwrap_or(u32::MAX);
        let deadline = Instant::now() + PATIENCE;
        let taken = timeout_at(deadline, Arc::clone(room).acquire_many_owned(permits)).await;
        let Ok(Ok(taken)) = taken else {
            return Err(Status::too_many_requests("too many large requests are under way: try again"));
        };
        let collected = timeout_at(deadline, Limited::new(body, most).collect()).await.map_err(|_| {
            Status::timeout(format!("the body of the request did not arrive within {} s", PATIENCE.as_secs()))
        })?;
        let collected = collected.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                return Status::too_large(most);
            }
            Status::bad_request(format!("the body of the request could not be read: {error}"))
        })?;
        Ok(Received { bytes: collected.to_bytes(), _room: Some(taken) })
    }
}

/// What the query of a write says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// `options` is what Kubernetes calls them: `CreateOptions`.
    pub(crate) fn parse(query: &Query, options: &str) -> Result<Self, Status> {
        let faults = query.get("fieldManager").map(field_manager).unwrap_or_default();
        if !faults.is_empty() {
            return Err(Status::invalid_kind("meta.k8s.io", options, "", &faults));
        }
        Ok(Self { dry_run: query.dry_run()?, validation: query.field_validation()? })
    }
}

/// What is wrong with the name of a field manager, by the rules of Kubernetes.
fn field_manager(name: &str) -> Vec<FieldError> {
    const LONGEST: usize = 128;
    let fault = |kind, value: Option<&str>, detail: String| FieldError {
        field: "fieldManager".into(),
        kind,
        value: value.map(Value::from),
        detail,
    };
    let mut faults = Vec::new();
    if name.len() > LONGEST {
        faults.push(fault(ErrorKind::TooLong, None, format!("may not be more than {LONGEST} bytes")));
    }
    if let Some(at) = name.chars().position(char::is_control) {
        let shown: String = name.chars().take(LONGEST).collect();
        let detail = format!("should only contain printable characters, the one at {at} is none");
        faults.push(fault(ErrorKind::Invalid, Some(&shown), detail));
    }
    faults
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
    let mut value = map(headers, body, expected)?.value;
    strict::strip_nulls(&mut value);
    if value["kind"] != "" {
        check_type(&value, "kind", expected.kind)?;
    }
    Ok(value)
}

/// Decodes a body that must be a map.
fn map(headers: &HeaderMap, body: &Bytes, expected: Expected<'_>) -> Result<Decoded, Status> {
    if body.is_empty() {
        return Err(Status::bad_request("the body of the request is empty: an object was expected"));
    }
    let decoded = decode_body(&content_type(headers), body, expected)?;
    if !decoded.value.is_object() {
        return Err(Status::bad_request("the body of the request is not an object (a JSON or YAML map)"));
    }
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
    let expected = Expected { group: &kind.group, version: &kind.version, kind: &kind.kind };
    let Decoded { mut value, duplicates } = map(headers, body, expected)?;
    strict::strip_nulls_of(kind, &mut value);
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
    let (api_version, name) = (kind.api_version(), &*kind.kind);
    let refuse = |why: String| {
        let version = &kind.version;
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
    let unknown = strict::decode(kind, value).map_err(|error| refuse(error.to_string()))?;
    let mut messages = unknown.messages();
    let known = duplicates.iter().filter(|path| !unknown.0.contains(path));
    messages.extend(known.map(|path| format!("duplicate field \"{path}\"")));
    if !messages.is_empty() && validation == FieldValidation::Strict {
        return Err(refuse(format!("strict decoding error: {}", messages.join(", "))));
    }
    if !unknown.is_empty() {
        strict::prune(kind, value);
    }
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn code(outcome: Result<Received, Status>) -> u16 {
        outcome.map_or_else(|status| status.code, |_| 200)
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_a_room_of_their_own() {
        let bodies = Bodies::default();
        let all = u32::try_from(kibibytes(ROOM)).unwrap();
        let held = Arc::clone(&bodies.administrators).acquire_many_owned(all).await.unwrap();
        assert_eq!(
            code(bodies.read(Body::from("x"), Sender::Administrator).await),
            429,
            "nobody gives room in time"
        );
        assert_eq!(code(bodies.read(Body::from("x"), Sender::Asker).await), 200, "others have their own");
        assert_eq!(code(bodies.read(Body::from("x"), Sender::Writer).await), 200, "and users who write");
        drop(held);
        let received = bodies.read(Body::from("x"), Sender::Administrator).await.unwrap();
        assert_eq!(
            (&*received.bytes, bodies.administrators.available_permits()),
            (&b"x"[..], kibibytes(ROOM) - 1)
        );
        drop(received);
        assert_eq!(bodies.administrators.available_permits(), kibibytes(ROOM));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_bounded_in_size_and_time() {
        let bodies = Bodies::default();
        let pieces = |count: usize| {
            let piece = || Ok::<_, Infallible>(Bytes::from(vec![b' '; 1024]));
            Body::from_stream(stream::iter((0..count).map(move |_| piece())))
        };
        for (most, sender) in
            [(LIMIT, Sender::Administrator), (LIMIT, Sender::Writer), (SMALL, Sender::Asker)]
        {
            assert_eq!(code(bodies.read(Body::from(vec![b' '; most]), sender).await), 200);
            assert_eq!(code(bodies.read(Body::from(vec![b' '; most + 1]), sender).await), 413);
            // Of a body that does not say how long it is, no more is read.
            assert_eq!(code(bodies.read(pieces(most / 1024), sender).await), 200);
            assert_eq!(code(bodies.read(pieces(most / 1024 + 1), sender).await), 413);
            let endless = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
            assert_eq!(code(bodies.read(endless, sender).await), 504);
        }
        assert_eq!(bodies.askers.available_permits(), kibibytes(SMALL_ROOM), "all room is given back");
    }
}
