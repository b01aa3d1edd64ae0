//! What the client sends and what it wants back: content types and Accept. Pure.

use http::{HeaderMap, header};
use serde_json::Value;
use warren_objects::{
    protobuf::{self, DecodeError, Fault},
    schema,
};

use crate::{
    decode::{self, Decoded},
    kinds::api_version,
    status::Status,
};

/// How a resource is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// The objects themselves.
    Object,
    /// Columns made on the server; the version of `meta.k8s.io` is echoed.
    Table(&'static str),
    /// Metadata alone.
    PartialMetadata(&'static str),
}

/// How the answer is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// What the answer will look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) view: View,
    pub(crate) format: Format,
}

/// One element of an Accept header.
#[derive(Debug)]
pub(crate) struct Media {
    /// `application/json`.
    pub(crate) essence: String,
    parameters: Vec<(String, String)>,
}

impl Media {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }
}

/// The elements of Accept, best first. No header means anything.
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<Media> {
    let all: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let text = if all.is_empty() { "*/*".to_owned() } else { all.join(",") };
    let mut media: Vec<(u32, Media)> = text.split(',').filter_map(parse_media).collect();
    media.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    media.into_iter().filter(|(quality, _)| *quality > 0).map(|(_, media)| media).collect()
}

/// One element and its quality in thousandths.
fn parse_media(text: &str) -> Option<(u32, Media)> {
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().filter(|essence| !essence.is_empty())?.to_ascii_lowercase();
    let parameters: Vec<(String, String)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
        .collect();
    let quality = parameters.iter().find(|(key, _)| key == "q").and_then(|(_, q)| q.parse::<f64>().ok());
    let quality = (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32;
    Some((quality, Media { essence, parameters }))
}

/// Chooses the first acceptable form; 406 when there is none.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Negotiated, Status> {
    accepted(headers).iter().find_map(serve).ok_or_else(Status::not_acceptable)
}

/// The same for what is no object with metadata, of which there are no rows and no part.
pub(crate) fn whole(headers: &HeaderMap) -> Result<Negotiated, Status> {
    let mut forms = accepted(headers).into_iter().filter_map(|media| serve(&media));
    forms.find(|form| form.view == View::Object).ok_or_else(Status::not_acceptable)
}

fn serve(media: &Media) -> Option<Negotiated> {
    let format = match media.essence.as_str() {
        "application/json" | "application/*" | "*/*" | "text/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        _ => return None,
    };
    let version = match media.parameter("v") {
        "v1" | "" => "meta.k8s.io/v1",
        "v1beta1" => "meta.k8s.io/v1beta1",
        _ => return None,
    };
    let view = match (media.parameter("as"), media.parameter("g")) {
        ("", _) => View::Object,
        ("Table", "meta.k8s.io") => View::Table(version),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => {
            View::PartialMetadata(version)
        }
        _ => return None,
    };
    Some(Negotiated { view, format })
}

/// The content type without parameters, lower case; empty when the client said nothing.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    text.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Kubernetes protobuf, which typed Go clients send since 1.32.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What to do about a body that is not spoken here.
pub(crate) fn unsupported(content_type: &str) -> Status {
    Status::unsupported_media_type(format!(
        "the body of the request was in an unknown format ({content_type}) - accepted media types include: \
         application/json, application/yaml"
    ))
}

/// 400 for what is not well formed, 413 for what means too much.
pub(crate) fn unreadable(what: &str, fault: &decode::Fault) -> Status {
    match fault {
        decode::Fault::Syntax(why) => Status::bad_request(format!("{what}: {why}")),
        decode::Fault::TooLarge(why) => Status::request_too_large(format!("Request entity too large: {why}")),
    }
}

/// What a body is, if it does not say so itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
}

/// Reads a body in JSON, YAML or protobuf. A body without content type is JSON (Python sends none).
pub(crate) fn decode_body(
    content_type: &str,
    body: &[u8],
    expected: Expected<'_>,
) -> Result<Decoded, Status> {
    match content_type {
        "" | "application/json" | "*/*" => decode::json(body)
            .map_err(|fault| unreadable("the body of the request is not valid JSON", &fault)),
        "application/yaml" | "application/x-yaml" | "text/yaml" => decode::yaml(body)
            .map_err(|fault| unreadable("the body of the request is not valid YAML", &fault)),
        PROTOBUF => decode_protobuf(body, expected).map(Decoded::from),
        other => Err(unsupported(other)),
    }
}

fn decode_protobuf(body: &[u8], expected: Expected<'_>) -> Result<Value, Status> {
    // Custom resources have no message: for them protobuf is a format that is not spoken.
    if schema::root(expected.group, expected.version, expected.kind).is_none() {
        return Err(unsupported(PROTOBUF));
    }
    let refuse = |error: DecodeError| match error.fault {
        Fault::TooLarge => Status::request_too_large(format!("Request entity too large: {error}")),
        _ => {
            Status::bad_request(format!("the body of the request is not valid Kubernetes protobuf: {error}"))
        }
    };
    let envelope = protobuf::open(body).map_err(refuse)?;
    let kind = if envelope.kind.is_empty() { expected.kind } else { envelope.kind };
    let (group, version) = match envelope.api_version {
        "" => (expected.group, expected.version),
        stated => stated.split_once('/').unwrap_or(("", stated)),
    };
    let api_version = api_version(group, version);
    let message = schema::root(group, version, kind).ok_or_else(|| {
        Status::bad_request(format!("no kind \"{kind}\" is registered for version \"{api_version}\""))
    })?;
    let mut object = envelope.decode(message).map_err(refuse)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(text: &str) -> Result<Negotiated, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(text).unwrap());
        negotiate(&headers)
    }

    #[test]
    fn kubectl_gets_its_table() {
        let table = accept(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        );
        assert_eq!(table.unwrap(), Negotiated { view: View::Table("meta.k8s.io/v1"), format: Format::Json });
    }

    #[test]
    fn typed_clients_fall_back_to_json() {
        let object = Negotiated { view: View::Object, format: Format::Json };
        assert_eq!(accept("application/vnd.kubernetes.protobuf,application/json").unwrap(), object);
        assert_eq!(accept("application/vnd.kubernetes.protobuf, */*").unwrap(), object);
        assert_eq!(accept("application/json;q=0.5, application/yaml").unwrap().format, Format::Yaml);
        assert_eq!(negotiate(&HeaderMap::new()).unwrap(), object);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let of_answers = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT, text.parse().unwrap());
            whole(&headers)
        };
        assert_eq!(of_answers(table).unwrap_err().code, 406, "an answer has no rows");
        assert_eq!(of_answers(&format!("{table}, application/json")).unwrap(), object);
        assert_eq!(accept("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
        assert_eq!(accept("image/png, application/json;q=0").unwrap_err().code, 406);
    }

    #[test]
    fn bodies() {
        let decode_body = |content_type: &str, body: &[u8]| {
            super::decode_body(content_type, body, Expected { group: "", version: "v1", kind: "ConfigMap" })
        };
        assert_eq!(decode_body("", b"{\"a\":1}").unwrap().value["a"], 1);
        assert_eq!(decode_body("application/yaml", b"a: 1\nb: [x]").unwrap().value["b"][0], "x");
        assert_eq!(decode_body("application/json", b"{").unwrap_err().code, 400);
        assert_eq!(decode_body("application/yaml", b"a: [").unwrap_err().code, 400);
        let malformed = decode_body("application/vnd.kubernetes.protobuf", b"k8s\0x").unwrap_err();
        assert_eq!(malformed.code, 400);
        assert!(malformed.message.contains("protobuf: ends in the middle"), "{}", malformed.message);
        assert_eq!(decode_body("application/vnd.kubernetes.protobuf", b"{}").unwrap_err().code, 400);
        assert_eq!(decode_body("application/json", b"k8s\0").unwrap_err().code, 400);
        assert_eq!(decode_body("application/cbor", b"x").unwrap_err().code, 415);
        let deep = "[".repeat(10_000);
        assert_eq!(decode_body("", deep.as_bytes()).unwrap_err().code, 400);
        assert_eq!(decode_body("application/yaml", deep.as_bytes()).unwrap_err().code, 400);
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = level - 1;
            laughs
                .push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 9].join(", ")));
        }
        assert_eq!(decode_body("application/yaml", laughs.as_bytes()).unwrap_err().code, 413);
    }

    #[test]
    fn protobuf_without_a_kind_is_what_the_path_expects() {
        let decode = |body: &[u8], kind| {
            super::decode_body(PROTOBUF, body, Expected { group: "", version: "v1", kind })
        };
        let unnamed = b"k8s\0\x12\x06\x0a\x04\x0a\x02cm";
        let expected = serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cm"}});
        assert_eq!(decode(unnamed, "Secret").unwrap().value, expected);
        assert_eq!(decode(unnamed, "Widget").unwrap_err().code, 415);
        let widget = b"k8s\0\x0a\x08\x12\x06Widget";
        let status = decode(widget, "Secret").unwrap_err();
        assert_eq!(
            (status.code, &*status.message),
            (400, "no kind \"Widget\" is registered for version \"v1\"")
        );
    }
}
