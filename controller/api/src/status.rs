//! Kubernetes' `Status`: every error that a client sees, with the messages that clients know.

use serde::Serialize;
use serde_json::Value;
use warren_objects::{FieldError, text};
use warren_write::{Cause, Details, Refusal};

use crate::kinds::{self, Kind};

/// No more of a message is told, nor of the name of what it is about.
const LONGEST_MESSAGE: usize = 64 * 1024;
const LONGEST_NAME: usize = 1024;

/// A failure, as the client will see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Box<Details>>,
    /// With which an expired list can go on all the same.
    pub(crate) continuation: Option<Box<str>>,
}

impl Status {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continuation: None }
    }

    fn with_cause(mut self, reason: &'static str, message: impl Into<String>, field: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.causes.push(Cause { reason, message: message.into(), field: field.to_owned() });
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    pub(crate) fn with_continuation(mut self, token: String) -> Self {
        self.continuation = Some(token.into());
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 about a path that is no resource.
    pub(crate) fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        Self::new(403, "Forbidden", format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\""))
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Refusal::not_found(kind, name).into()
    }

    /// 404 for paths and kinds that are not served.
    pub(crate) fn unknown_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 404 for a path that leads nowhere; groups and kinds of Kubernetes that are refused by name are named.
    pub(crate) fn not_served(path: &str) -> Self {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let why = match segments.as_slice() {
            ["apis", group, _, "namespaces", _, plural, ..] | ["apis", group, _, plural, ..] => {
                kinds::not_served(group, plural)
            }
            ["apis", group, ..] => kinds::not_served(group, ""),
            _ => None,
        };
        why.map_or_else(Self::unknown_path, |why| Self::new(404, "NotFound", why))
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// 405 for what a kind does not allow at all, with the way that is open.
    pub(crate) fn not_allowed_for(kind: &Kind) -> Self {
        if kind.refusal.is_empty() { Self::method_not_allowed() } else { Self::refused(kind.refusal) }
    }

    /// 405 with the reason.
    pub(crate) fn refused(why: &str) -> Self {
        Self::new(405, "MethodNotAllowed", why)
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml";
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        Refusal::already_exists(kind, name).into()
    }

    /// 409 when no free name could be made.
    pub(crate) fn no_name_generated(kind: &Kind, name: &str) -> Self {
        let mut status = Self::already_exists(kind, name).retry_after(1);
        status.message += ", the server was not able to generate a unique name for the object";
        status
    }

    /// 409 because another author wrote first.
    pub(crate) fn conflict(kind: &Kind, name: &str) -> Self {
        Refusal::conflict(kind, name).into()
    }

    pub(crate) fn conflict_because(kind: &Kind, name: &str, why: &str) -> Self {
        Refusal::conflict_because(kind, name, why).into()
    }

    /// 410: history or the continuation's snapshot is gone.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::request_too_large(format!("Request entity too large: limit is {limit}"))
    }

    /// 413 for what would become too large.
    pub(crate) fn request_too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub(crate) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422 naming every field that is wrong.
    pub(crate) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        Refusal::invalid(kind, name, errors).into()
    }

    /// 422 for kinds that are no stored kinds (Scale, PodLogOptions, ...).
    pub(crate) fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        Refusal::invalid_kind(group, kind, name, errors).into()
    }

    /// 422 without fields: a patch that does not fit the object.
    pub(crate) fn unprocessable(why: &str) -> Self {
        let message = format!("the server rejected our request due to an error in our request: {why}");
        Self::new(422, "Invalid", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// 429: the client shall come back.
    pub(crate) fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(1)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message).retry_after(1)
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message).retry_after(1)
    }

    /// 507: the controller's disk is full. No retry is asked for: the operator must free space first.
    pub(crate) fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::new(507, "InsufficientStorage", message)
    }

    /// 504: the wanted revision has not happened yet.
    pub(crate) fn revision_too_large(wanted: u64, current: u64) -> Self {
        Self::timeout(format!("Too large resource version: {wanted}, current: {current}")).with_cause(
            "ResourceVersionTooLarge",
            "Too large resource version",
            "",
        )
    }

    /// The JSON body. What clients sent comes back in it, but not megabytes of it.
    pub(crate) fn to_json(&self) -> String {
        let mut details = self.details.clone();
        if let Some(details) = &mut details {
            details.name = text::cut(&details.name, LONGEST_NAME);
        }
        Body {
            metadata: ListMeta { r#continue: self.continuation.as_deref() },
            message: &text::cut(&self.message, LONGEST_MESSAGE),
            reason: self.reason,
            details: details.as_deref(),
            code: self.code,
            ..Body::of("Failure")
        }
        .to_json()
    }

    /// The same as a value.
    pub(crate) fn to_value(&self) -> Value {
        serde_json::from_str(&self.to_json()).unwrap_or_default()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, reason, message, details } = refusal;
        Self { code, reason, message, details, continuation: None }
    }
}

/// The JSON of a `Status`, its fields in the order in which Kubernetes writes them: there are clients that compare texts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: ListMeta<'a>,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    #[serde(skip_serializing_if = "is_zero")]
    code: u16,
}

#[derive(Serialize, Default)]
struct ListMeta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#continue: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(code: &u16) -> bool {
    *code == 0
}

impl Body<'_> {
    fn of(status: &'static str) -> Self {
        let metadata = ListMeta::default();
        Self {
            kind: "Status",
            api_version: "v1",
            metadata,
            status,
            message: "",
            reason: "",
            details: None,
            code: 0,
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a finished deletion answers, as JSON.
pub(crate) fn deleted(kind: &Kind, name: &str, uid: &str) -> String {
    let details = Details { uid: uid.to_owned(), ..Details::of(kind, name) };
    Body { details: Some(&details), ..Body::of("Success") }.to_json()
}

/// What a Binding or an Eviction answers, as JSON.
pub(crate) fn created() -> String {
    Body { code: 201, ..Body::of("Success") }.to_json()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warren_objects::ErrorKind;

    use super::*;
    use crate::kinds::find;

    #[test]
    fn messages_are_kubernetes_messages() {
        let deployments = find("apps", "v1", "deployments").unwrap();
        assert_eq!(Status::not_found(deployments, "x").message, "deployments.apps \"x\" not found");
        assert_eq!(
            Status::conflict(deployments, "x").message,
            "Operation cannot be fulfilled on deployments.apps \"x\": the object has been modified; please apply \
             your changes to the latest version and try again"
        );
        let error = FieldError {
            field: "spec.replicas".into(),
            kind: ErrorKind::Invalid,
            value: Some(json!(-1)),
            detail: "must be greater than or equal to 0".into(),
        };
        let status = Status::invalid(deployments, "web", &[error]);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        let value = status.to_value();
        assert_eq!(value["details"]["kind"], "Deployment");
        assert_eq!(value["details"]["causes"][0]["field"], "spec.replicas");
        assert_eq!(
            value["details"]["causes"][0]["message"],
            "Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
