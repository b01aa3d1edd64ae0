//! Patches: JSON (RFC 6902), merge (RFC 7396) and strategic merge. Pure.

mod json;
mod merge;
mod strategic;
mod topology;

use serde_json::Value;

use warren_objects::schema::Message;

use crate::{
    decode::{self, Decoded},
    negotiate::unreadable,
    status::Status,
};

/// A patch as it came in.
#[derive(Debug)]
pub(crate) struct Patch {
    form: Form,
    duplicates: Vec<String>,
}

#[derive(Debug)]
enum Form {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a patch; the content type says which kind it is.
    pub(crate) fn parse(content_type: &str, body: &[u8]) -> Result<Self, Status> {
        let of = |form: fn(Value) -> Form| {
            object(body).map(|Decoded { value, duplicates }| Self { form: form(value), duplicates })
        };
        match content_type {
            "application/json-patch+json" => {
                Ok(Self { form: Form::Json(json::parse(body)?), duplicates: Vec::new() })
            }
            "application/merge-patch+json" => of(Form::Merge),
            "application/strategic-merge-patch+json" => of(Form::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                Err(Status::unsupported_media_type(
                    "server-side apply is not served yet - accepted media types include: application/json-patch+json, \
                 application/merge-patch+json, application/strategic-merge-patch+json. Mend: use client-side apply \
                 (`kubectl apply` without --server-side)",
                ))
            }
            other => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
            ))),
        }
    }

    /// The fields that the patch gives more than once.
    pub(crate) fn duplicates(&self) -> &[String] {
        &self.duplicates
    }

    /// What the object becomes. Strategic patches need to know its type: custom resources have none.
    pub(crate) fn apply(&self, kind: Option<&'static Message>, current: &Value) -> Result<Value, Status> {
        match &self.form {
            Form::Json(patch) => json::apply(patch, current),
            Form::Merge(patch) => Ok(merge::apply(patch, current)),
            Form::Strategic(patch) => {
                let kind = kind.ok_or_else(|| {
                    Status::unsupported_media_type(
                        "the body of the request was in an unknown format - accepted media types include: \
                         application/json-patch+json, application/merge-patch+json",
                    )
                })?;
                strategic::apply(kind, current, patch).map_err(|error| Status::bad_request(error.to_string()))
            }
        }
    }
}

fn object(body: &[u8]) -> Result<Decoded, Status> {
    let decoded = decode::json(body).map_err(|fault| unreadable("the patch is not valid JSON", &fault))?;
    if decoded.value.is_object() {
        return Ok(decoded);
    }
    Err(Status::bad_request("the patch must be a JSON object"))
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod corpus;
