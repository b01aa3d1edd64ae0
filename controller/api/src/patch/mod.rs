//! Patches: JSON (RFC 6902), merge (RFC 7396) and strategic merge. Pure.

mod json;
mod merge;
mod strategic;
mod topology;

use serde_json::Value;

use warren_objects::schema::Message;

use crate::status::Status;

/// A patch as it came in.
#[derive(Debug)]
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a patch; the content type says which kind it is.
    pub(crate) fn parse(content_type: &str, body: &[u8]) -> Result<Self, Status> {
        match content_type {
            "application/json-patch+json" => json::parse(body).map(Self::Json),
            "application/merge-patch+json" => object(body).map(Self::Merge),
            "application/strategic-merge-patch+json" => object(body).map(Self::Strategic),
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

    /// What the object becomes. Strategic patches need to know its type: custom resources have none.
    pub(crate) fn apply(&self, kind: Option<&'static Message>, current: &Value) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => json::apply(patch, current),
            Self::Merge(patch) => Ok(merge::apply(patch, current)),
            Self::Strategic(patch) => {
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

fn object(body: &[u8]) -> Result<Value, Status> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("the patch is not valid JSON: {error}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Status::bad_request("the patch must be a JSON object"))
}
