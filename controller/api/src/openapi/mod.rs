//! OpenAPI: what `kubectl explain` prints, what clients compute strategic patches from, and where they look up
//! which parameters a request may have. One document for version 2, one per group version for version 3.
//!
//! Everything is derived from the table of kinds: `types` names the type of each kind, `schemas` turns types into
//! definitions, `merging` adds what the table of API types knows (`structure` takes all from there, without a type), `operations` lists the paths, `v2` respells the whole for old clients and `gnostic` encodes it as
//! they want it. Documents are made when a client asks for the first of them, never while the controller starts.

mod gnostic;
mod merging;
mod operations;
mod schemas;
mod structure;
#[cfg(test)]
mod tests;
mod types;
mod v2;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::OnceLock,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use warren_objects::Registry;

use crate::{negotiate, query::Query, respond, status::Status};

/// The content type of the protobuf form; with `@` in it (as clients ask) Go refuses to parse it.
const V2_CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What stands first in every document.
fn info() -> Value {
    json!({"title": "Warren", "version": env!("CARGO_PKG_VERSION")})
}

/// A finished document. Kept compressed: it is a tenth of the size, and every Go client accepts it so.
struct Document {
    compressed: Bytes,
    content_type: &'static str,
    /// Of the content, in hexadecimal digits.
    hash: String,
}

impl Document {
    fn new(content: &[u8], content_type: &'static str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).expect("memory takes whatever is written");
        let compressed = encoder.finish().expect("memory takes whatever is written").into();
        let hash = Sha256::digest(content).iter().take(16).map(|byte| format!("{byte:02X}")).collect();
        Self { compressed, content_type, hash }
    }

    fn json(content: &Value) -> Self {
        Self::new(content.to_string().as_bytes(), "application/json")
    }

    fn content(&self) -> Result<Vec<u8>, Status> {
        let mut content = Vec::new();
        let read = GzDecoder::new(&*self.compressed).read_to_end(&mut content);
        read.map_err(|error| Status::internal(format!("cannot read the kept document: {error}")))?;
        Ok(content)
    }

    /// The document, or that the client has it already.
    fn answer(&self, headers: &HeaderMap) -> Result<Response, Status> {
        let tag = format!("\"{}\"", self.hash);
        let known = header_text(headers, header::IF_NONE_MATCH).contains(&tag);
        let compressed = header_text(headers, header::ACCEPT_ENCODING).contains("gzip");
        let mut response = if known {
            respond::bytes(StatusCode::NOT_MODIFIED, Body::empty(), self.content_type)
        } else if compressed {
            respond::bytes(StatusCode::OK, self.compressed.clone(), self.content_type)
        } else {
            respond::bytes(StatusCode::OK, self.content()?, self.content_type)
        };
        let answers = response.headers_mut();
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            answers.insert(header::ETAG, tag);
        }
        answers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if compressed && !known {
            answers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// `/openapi/v2`, in JSON or as protobuf.
pub(crate) fn v2(headers: &HeaderMap) -> Result<Response, Status> {
    static JSON: OnceLock<Document> = OnceLock::new();
    static PROTOBUF: OnceLock<Document> = OnceLock::new();
    let protobuf =
        negotiate::accepted(headers).first().is_some_and(|media| media.essence.ends_with("+protobuf"));
    let document = if protobuf {
        PROTOBUF.get_or_init(|| Document::new(&gnostic::encode(&v2::document()), V2_CONTENT_TYPE))
    } else {
        JSON.get_or_init(|| Document::json(&v2::document()))
    };
    document.answer(headers)
}

/// `/openapi/v3`: where each group version's document is. The hash in the address lets clients keep it for good.
pub(crate) fn v3_index(headers: &HeaderMap) -> Result<Response, Status> {
    static INDEX: OnceLock<Document> = OnceLock::new();
    let document = INDEX.get_or_init(|| {
        let entry = |(path, document): (&String, &Document)| {
            (path.clone(), json!({"serverRelativeURL": address(path, document)}))
        };
        Document::json(&json!({"paths": v3_documents().iter().map(entry).collect::<Map<_, _>>()}))
    });
    document.answer(headers)
}

/// `/openapi/v3/apis/GROUP/VERSION`. A client that has the hash of an older document is sent to the new one.
pub(crate) fn v3(group: &str, version: &str, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let path = operations::prefix(group, version);
    let document = v3_documents().get(&path).ok_or_else(Status::unknown_path)?;
    match query.text("hash") {
        None => document.answer(headers),
        Some(hash) if hash == document.hash => {
            let mut response = document.answer(headers)?;
            let for_good = HeaderValue::from_static("public, immutable, max-age=31536000");
            response.headers_mut().insert(header::CACHE_CONTROL, for_good);
            Ok(response)
        }
        Some(_) => {
            let mut response = respond::bytes(StatusCode::MOVED_PERMANENTLY, Body::empty(), "text/plain");
            if let Ok(address) = HeaderValue::from_str(&address(&path, document)) {
                response.headers_mut().insert(header::LOCATION, address);
            }
            Ok(response)
        }
    }
}

fn address(path: &str, document: &Document) -> String {
    format!("/openapi/v3/{path}?hash={}", document.hash)
}

/// All documents of version 3, by path.
fn v3_documents() -> &'static BTreeMap<String, Document> {
    static DOCUMENTS: OnceLock<BTreeMap<String, Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let definitions = schemas::definitions();
        let registry = Registry::built_in();
        let document = |(group, version): (&str, &str)| {
            let content = v3_document(&definitions, group, version);
            (operations::prefix(group, version), Document::json(&content))
        };
        registry.group_versions().into_iter().map(document).collect()
    })
}

fn v3_document(definitions: &schemas::Definitions, group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    for path in operations::paths().iter().filter(|path| path.group == group && path.version == version) {
        paths.insert(path.path.clone(), path.v3());
    }
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {"schemas": definitions.of(group, version)},
    })
}
