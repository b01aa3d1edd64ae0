//! From what a verb answers to an HTTP response in the negotiated form.

use std::{borrow::Cow, sync::Arc};

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use warren_store::Object;

use crate::{
    kinds::Kind,
    negotiate::{Format, Negotiated, View},
    status::Status,
    table::{self, Include},
};

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
    /// An object that was just made: a new state, a Scale, a Status.
    Fresh(Value),
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

    pub(crate) fn created(value: Value) -> Self {
        Self { code: StatusCode::CREATED, ..Self::fresh(value) }
    }

    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }
}

/// An object in the version that is served, with `kind` and `apiVersion`, which objects made inside the
/// controller may lack.
pub(crate) fn with_type<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    if let Some(shown) = kind.shown(object) {
        return Cow::Owned(shown);
    }
    if object["kind"].is_string() && object["apiVersion"].is_string() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    Cow::Owned(object)
}

/// Renders a reply.
pub(crate) fn render(kind: &Kind, form: Negotiated, include: Include, reply: Reply) -> Response {
    let rendered = match reply.content {
        Content::Stream { body, content_type } => {
            return finish(reply.code, body, content_type, &reply.warnings);
        }
        Content::Stored(object) => encode(form.format, &one(kind, form.view, include, &object.value)),
        Content::Fresh(value) => encode(form.format, &one(kind, form.view, include, &value)),
        Content::List(list) => page(kind, form, include, &list),
    };
    match rendered {
        Ok((body, content_type)) => finish(reply.code, Body::from(body), content_type, &reply.warnings),
        Err(why) => error(&Status::internal(why)),
    }
}

/// One object in the wanted view. Only objects of the served kind have columns; a Status or Scale stays as it is.
fn one<'a>(kind: &Kind, view: View, include: Include, object: &'a Value) -> Cow<'a, Value> {
    if object["kind"].is_string() && object["kind"] != kind.kind {
        return Cow::Borrowed(object);
    }
    match view {
        View::Object => with_type(kind, object),
        View::PartialMetadata(version) => Cow::Owned(table::partial(version, object)),
        View::Table(version) => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            let rows = std::iter::once(object);
            Cow::Owned(table::of(kind, version, rows, metadata, include, true, Timestamp::now()))
        }
    }
}

/// A list, written without copying its objects.
#[derive(Serialize)]
struct ListBody<'a> {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: String,
    metadata: Value,
    items: Vec<Cow<'a, Value>>,
}

fn page(
    kind: &Kind,
    form: Negotiated,
    include: Include,
    list: &List,
) -> Result<(Vec<u8>, &'static str), String> {
    let mut metadata = json!({"resourceVersion": list.revision.to_string()});
    if let Some(token) = &list.continuation {
        metadata["continue"] = json!(token);
        if let Some(remaining) = list.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let values = list.objects.iter().map(|object| &object.value);
    let (kind_name, api_version, items) = match form.view {
        View::Table(version) => {
            let table = table::of(kind, version, values, metadata, include, true, Timestamp::now());
            return encode(form.format, &table);
        }
        View::PartialMetadata(version) => {
            let items = values.map(|value| Cow::Owned(table::partial(version, value))).collect();
            ("PartialObjectMetadataList".to_owned(), version.to_owned(), items)
        }
        View::Object => (
            format!("{}List", kind.kind),
            kind.api_version(),
            values.map(|value| with_type(kind, value)).collect(),
        ),
    };
    encode(form.format, &ListBody { kind: kind_name, api_version, metadata, items })
}

fn encode<T: Serialize>(format: Format, value: &T) -> Result<(Vec<u8>, &'static str), String> {
    match format {
        Format::Json => serde_json::to_vec(value)
            .map(|body| (body, "application/json"))
            .map_err(|error| error.to_string()),
        Format::Yaml => serde_yaml_ng::to_string(value)
            .map(|text| (text.into_bytes(), "application/yaml"))
            .map_err(|error| error.to_string()),
    }
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
    for warning in warnings {
        let value = warning_header(warning);
        room = room.saturating_sub(value.len());
        if room == 0 {
            break;
        }
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(header::WARNING, value);
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
    let mut response = finish(code, Body::from(status.to_value().to_string()), "application/json", &[]);
    if let Some(seconds) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
