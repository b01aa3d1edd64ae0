//! What the client sends and what it wants back: content types and Accept. Pure.

use http::{HeaderMap, header};

use crate::{
    decode::{self, Decoded},
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

/// What to do about a body that is not spoken here.
pub(crate) fn unsupported(content_type: &str) -> Status {
    if content_type == "application/vnd.kubernetes.protobuf" {
        return Status::unsupported_media_type(
            "the body of the request is Kubernetes protobuf, which this server does not read yet - accepted media \
             types include: application/json, application/yaml. Mend: write a manifest and use `kubectl apply -f` \
             or `kubectl create -f` (they send JSON), or use kubectl 1.31 or older",
        );
    }
    Status::unsupported_media_type(format!(
        "the body of the request was in an unknown format ({content_type}) - accepted media types include: \
         application/json, application/yaml"
    ))
}

/// Reads a JSON or YAML body. A body without content type is JSON (Python sends none).
pub(crate) fn decode_body(content_type: &str, body: &[u8]) -> Result<Decoded, Status> {
    if body.starts_with(b"k8s\0") {
        return Err(unsupported("application/vnd.kubernetes.protobuf"));
    }
    match content_type {
        "" | "application/json" | "*/*" => decode::json(body).map_err(|error| {
            Status::bad_request(format!("the body of the request is not valid JSON: {error}"))
        }),
        "application/yaml" | "application/x-yaml" | "text/yaml" => decode::yaml(body).map_err(|error| {
            Status::bad_request(format!("the body of the request is not valid YAML: {error}"))
        }),
        other => Err(unsupported(other)),
    }
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
        assert_eq!(accept("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
        assert_eq!(accept("image/png, application/json;q=0").unwrap_err().code, 406);
    }

    #[test]
    fn bodies() {
        assert_eq!(decode_body("", b"{\"a\":1}").unwrap().value["a"], 1);
        assert_eq!(decode_body("application/yaml", b"a: 1\nb: [x]").unwrap().value["b"][0], "x");
        assert_eq!(decode_body("application/json", b"{").unwrap_err().code, 400);
        assert_eq!(decode_body("application/yaml", b"a: [").unwrap_err().code, 400);
        let status = decode_body("application/vnd.kubernetes.protobuf", b"k8s\0x").unwrap_err();
        assert_eq!(status.code, 415);
        assert!(status.message.contains("kubectl apply -f"));
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
        assert_eq!(decode_body("application/yaml", laughs.as_bytes()).unwrap_err().code, 400);
    }
}
