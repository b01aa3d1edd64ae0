//! From what a verb answers to an HTTP response in the negotiated form.

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_store::Object;

use crate::{
    encode::{CHUNK, CLOSING, Form, Shown},
    kinds::Kind,
    negotiate::{Format, Negotiated},
    status::Status,
    table::Include,
};

const JSON: &str = "application/json";

/// All `Warning` headers of a response together, as in Kubernetes.
const MOST_WARNING_BYTES: usize = 4096;

/// What a verb answers.
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) content: Content,
    pub(crate) warnings: Vec<String>,
}

/// The body of an answer.
pub(crate) enum Content {
    /// An object as it is stored.
    Stored(Arc<Object>),
    /// An object that was just made: a new state, a Scale.
    Fresh(Value),
    /// A `Status`, as JSON.
    Status(String),
    /// Objects of the served kind.
    List(List),
    /// Anything that is sent bit by bit.
    Stream { body: Body, content_type: &'static str },
}

/// A page of objects.
pub(crate) struct List {
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) revision: u64,
    pub(crate) continuation: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl Reply {
    pub(crate) fn ok(content: Content) -> Self {
        Self { code: StatusCode::OK, content, warnings: Vec::new() }
    }

    pub(crate) fn fresh(value: Value) -> Self {
        Self::ok(Content::Fresh(value))
    }

    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }
}

/// A list on its way out, a bounded part at a time: only the part that is being sent exists as text.
struct Pages {
    form: Form,
    metadata: Value,
    objects: std::vec::IntoIter<Arc<Object>>,
    begun: bool,
    ended: bool,
}

impl Pages {
    fn new(form: Form, list: List) -> Self {
        let mut metadata = json!({"resourceVersion": list.revision.to_string()});
        if let Some(token) = &list.continuation {
            metadata["continue"] = json!(token);
            if let Some(remaining) = list.remaining {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        Self { form, metadata, objects: list.objects.into_iter(), begun: false, ended: false }
    }
}

impl Iterator for Pages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = Vec::with_capacity(if self.objects.len() > 1 { CHUNK + CHUNK / 4 } else { 1_024 });
        let mut separate = std::mem::replace(&mut self.begun, true);
        if !separate {
            self.form.write_opening(&self.metadata, true, &mut out);
        }
        while out.len() < CHUNK {
            let Some(object) = self.objects.next() else {
                out.extend_from_slice(CLOSING);
                self.ended = true;
                break;
            };
            if std::mem::replace(&mut separate, true) {
                out.push(b',');
            }
            self.form.write_item(Shown::Stored(&object), &mut out);
        }
        Some(out.into())
    }
}

/// Renders a reply.
pub(crate) fn render(
    kind: &Arc<Kind>,
    form: Negotiated,
    include: Include,
    reply: Reply,
) -> Result<Response, Status> {
    let shape = Form { kind: Arc::clone(kind), view: form.view, include, now: Timestamp::now() };
    let (body, content_type) = match reply.content {
        Content::Stream { body, content_type } => (body, content_type),
        Content::Stored(object) => text(form.format, one(&shape, Shown::Stored(&object)))?,
        Content::Status(json) => text(form.format, json.into())?,
        Content::Fresh(value) => text(form.format, one(&shape, Shown::Fresh(&value)))?,
        Content::List(list) => {
            let mut pages = Pages::new(shape, list);
            match (form.format, pages.next()) {
                (Format::Json, Some(first)) if !pages.ended => {
                    let end = Bytes::from_static(b"\n");
                    let all = std::iter::once(first).chain(pages).chain([end]).map(Ok::<_, Infallible>);
                    (Body::from_stream(stream::iter(all)), JSON)
                }
                (format, first) => {
                    let all: Vec<u8> = first.into_iter().chain(pages).flatten().collect();
                    text(format, all)?
                }
            }
        }
    };
    Ok(finish(reply.code, body, content_type, &reply.warnings))
}

/// One object. Only objects of the served kind have views; a Scale stays as it is.
fn one(form: &Form, shown: Shown<'_>) -> Vec<u8> {
    let named = &shown.value()["kind"];
    if named.is_string() && *named != *form.kind.kind {
        return shown.value().to_string().into();
    }
    let mut out = Vec::new();
    form.write_one(shown, true, &mut out);
    out
}

/// JSON text in the wanted spelling.
fn text(format: Format, mut json: Vec<u8>) -> Result<(Body, &'static str), Status> {
    if format == Format::Json {
        // Every document of Kubernetes ends its line.
        json.push(b'\n');
        return Ok((Body::from(json), JSON));
    }
    let value: Value = serde_json::from_slice(&json).map_err(|error| Status::internal(error.to_string()))?;
    let yaml = serde_yaml_ng::to_string(&value).map_err(|error| Status::internal(error.to_string()))?;
    Ok((Body::from(yaml), "application/yaml"))
}

fn finish(code: StatusCode, body: Body, content_type: &str, warnings: &[String]) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    let mut room = MOST_WARNING_BYTES;
    for (index, warning) in warnings.iter().enumerate() {
        let mut value = warning_header(warning);
        let fits = value.len() < room;
        room = room.saturating_sub(value.len());
        if !fits {
            value = warning_header(&format!("{} more warnings do not fit here", warnings.len() - index));
        }
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(header::WARNING, value);
        }
        if !fits {
            break;
        }
    }
    response
}

/// `299 - "text"`, quoted; characters that a header cannot hold become `?`.
fn warning_header(text: &str) -> String {
    let mut out = String::from("299 - \"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

/// A JSON document that is no object of a kind.
pub(crate) fn document(value: &Value, content_type: &str) -> Response {
    let mut response = finish(StatusCode::OK, Body::from(value.to_string()), content_type, &[]);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// Bytes of any type.
pub(crate) fn bytes(code: StatusCode, body: impl Into<Body>, content_type: &str) -> Response {
    finish(code, body.into(), content_type, &[])
}

/// A failure.
pub(crate) fn error(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = finish(code, Body::from(status.to_json() + "\n"), "application/json", &[]);
    if let Some(seconds) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
