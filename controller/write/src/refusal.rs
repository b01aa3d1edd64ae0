//! Why a write does not happen, in the words of Kubernetes.

use serde::Serialize;
use warren_objects::{FieldError, kinds::Kind};

/// Why one field or precondition failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// A word in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the refusal is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource, except for invalid objects, where it is the kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What is wrong, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl Details {
    /// About an object of a kind.
    pub fn of(kind: &Kind, name: &str) -> Self {
        let (group, kind) = (kind.group.to_string(), kind.plural.to_string());
        Self { name: name.to_owned(), group, kind, ..Self::default() }
    }
}

/// Why a write does not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code of HTTP.
    pub code: u16,
    /// A word in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// About what.
    pub details: Option<Box<Details>>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = Some(Box::new(Details::of(kind, name)));
        self
    }

    /// The same with a cause.
    pub fn with_cause(mut self, reason: &'static str, message: impl Into<String>, field: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.causes.push(Cause { reason, message: message.into(), field: field.to_owned() });
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403 about a resource.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        Self::forbidden_resource(&kind.resource, name, why).about(kind, name)
    }

    /// 403 about a resource that is no kind of the API.
    pub fn forbidden_resource(resource: &str, name: &str, why: &str) -> Self {
        let subject = if name.is_empty() { resource.to_owned() } else { format!("{resource} \"{name}\"") };
        Self::new(403, "Forbidden", format!("{subject} is forbidden: {why}"))
    }

    /// 403 for creations in a namespace that is going away.
    pub fn namespace_terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Self::forbidden(kind, name, &why).with_cause(
            "NamespaceTerminating",
            format!("namespace {namespace} is being terminated"),
            "metadata.namespace",
        )
    }

    /// 404.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.resource)).about(kind, name)
    }

    /// 409: the name is taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.resource))
            .about(kind, name)
    }

    /// 409 for a name whose object is still on its way out.
    pub fn still_being_deleted(kind: &Kind, name: &str) -> Self {
        let mut refusal = Self::already_exists(kind, name);
        refusal.message = format!("object is being deleted: {}", refusal.message);
        refusal
    }

    /// 409 because another author wrote first.
    pub fn conflict(kind: &Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict_because(kind, name, why)
    }

    /// 409 for another reason.
    pub fn conflict_because(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource);
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// 429: it may go another time; after so many seconds, if anybody knows.
    pub fn too_many_requests(message: impl Into<String>, retry_after: Option<u32>) -> Self {
        let details = Details { retry_after_seconds: retry_after, ..Details::default() };
        Self { details: Some(Box::new(details)), ..Self::new(429, "TooManyRequests", message) }
    }

    /// 500 for a pod that more than one disruption budget is about. As in Kubernetes it has no reason.
    pub(crate) fn several_budgets() -> Self {
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        Self::new(500, "", message)
    }

    /// 422 naming every field that is wrong.
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_kind(&kind.group, &kind.kind, name, errors)
    }

    /// 422 for kinds that are no stored kinds (Scale, PodLogOptions, ...).
    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let group_kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let text = match errors {
            [one] => one.to_string(),
            many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let mut refusal = Self::new(422, "Invalid", format!("{group_kind} \"{name}\" is invalid: {text}"));
        refusal.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes: errors.iter().map(cause).collect(),
            ..Details::default()
        }));
        refusal
    }
}

fn cause(error: &FieldError) -> Cause {
    Cause { reason: error.reason(), message: error.body(), field: error.field.clone() }
}
