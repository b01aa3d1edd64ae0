//! Query strings and the options that verbs read from them. Pure.

use std::str::FromStr;

use warren_objects::{ErrorKind, FieldError};

use crate::status::Status;

/// A decoded query string; the first of several equal keys counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Tolerates empty pairs (`?&a=b`, which kube-rs sends).
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        let pairs = raw.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key, true), decode(value, true))
                })
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a key that may be repeated.
    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
    }

    /// The value when it is there and not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Go's `ParseBool`, and a bare key (`?watch`) is true.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Status> {
        match self.get(key) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(other) => Err(Status::bad_request(format!(
                "invalid value {other:?} for query parameter {key:?}: must be true or false"
            ))),
        }
    }

    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "invalid value {text:?} for query parameter {key:?}: must be a whole number"
            ))
        })
    }

    /// `dryRun=All`.
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        let values: Vec<&str> = self.all("dryRun").into_iter().filter(|value| !value.is_empty()).collect();
        match values.iter().find(|value| **value != "All") {
            None => Ok(!values.is_empty()),
            Some(other) => Err(Status::bad_request(format!(
                "invalid value {other:?} for query parameter \"dryRun\": supported values: \"All\""
            ))),
        }
    }

    /// `fieldValidation`; the default is `Warn`.
    pub(crate) fn field_validation(&self) -> Result<FieldValidation, Status> {
        match self.text("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => Err(Status::bad_request(format!(
                "invalid value {other:?} for query parameter \"fieldValidation\": supported values: \"Ignore\", \
                 \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// What happens to fields that the kind does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped with a `Warning` header.
    Warn,
    /// Refused.
    Strict,
}

/// How a list's revision relates to `resourceVersion`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// No older than asked for.
    NotOlderThan,
    /// Precisely what was asked for.
    Exact,
    /// Something else, to be refused.
    Unknown(String),
}

/// Options of list and watch.
#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    pub(crate) limit: usize,
    pub(crate) continuation: Option<String>,
    /// `None` when unset; zero means "any".
    pub(crate) revision: Option<u64>,
    pub(crate) revision_match: Option<Match>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        let limit = query.number::<i64>("limit")?.unwrap_or(0);
        let initial = query.get("sendInitialEvents").is_some();
        Ok(Self {
            limit: usize::try_from(limit).map_err(|_| {
                Status::bad_request(format!("limit: Invalid value: {limit}: must not be negative"))
            })?,
            continuation: query.text("continue").map(str::to_owned),
            revision: query.number("resourceVersion")?,
            revision_match: query.text("resourceVersionMatch").map(|text| match text {
                "NotOlderThan" => Match::NotOlderThan,
                "Exact" => Match::Exact,
                other => Match::Unknown(other.to_owned()),
            }),
            timeout_seconds: query.number("timeoutSeconds")?,
            bookmarks: query.flag("allowWatchBookmarks")?,
            send_initial_events: initial.then(|| query.flag("sendInitialEvents")).transpose()?,
        })
    }

    /// What is no list's: 422.
    pub(crate) fn check_list(&self) -> Result<(), Status> {
        const FIELD: &str = "resourceVersionMatch";
        let mut errors = Vec::new();
        if let Some(wanted) = &self.revision_match {
            if self.revision.is_none() {
                errors.push(forbidden(
                    FIELD,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if self.continuation.is_some() {
                errors.push(forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
            }
            if let Match::Unknown(found) = wanted {
                errors.push(not_supported(FIELD, found, "\"Exact\", \"NotOlderThan\""));
            }
            if *wanted == Match::Exact && self.revision == Some(0) {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(forbidden(FIELD, why));
            }
        }
        if self.send_initial_events.is_some() {
            errors.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        refuse(&errors)
    }

    /// What is no watch's: 422.
    pub(crate) fn check_watch(&self) -> Result<(), Status> {
        const FIELD: &str = "resourceVersionMatch";
        let mut errors = Vec::new();
        if self.send_initial_events.is_some() && self.revision_match != Some(Match::NotOlderThan) {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(forbidden(FIELD, why));
        }
        if let Some(wanted) = &self.revision_match {
            if self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(forbidden(FIELD, why));
            }
            match wanted {
                Match::NotOlderThan => {}
                Match::Exact => errors.push(not_supported(FIELD, "Exact", "\"NotOlderThan\"")),
                Match::Unknown(found) => errors.push(not_supported(FIELD, found, "\"NotOlderThan\"")),
            }
            if self.continuation.is_some() {
                errors.push(forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
            }
        }
        refuse(&errors)
    }
}

fn forbidden(field: &str, why: &str) -> FieldError {
    FieldError { field: field.to_owned(), kind: ErrorKind::Forbidden, value: None, detail: why.to_owned() }
}

fn not_supported(field: &str, found: &str, supported: &str) -> FieldError {
    FieldError {
        field: field.to_owned(),
        kind: ErrorKind::NotSupported,
        value: Some(found.into()),
        detail: format!("supported values: {supported}"),
    }
}

fn refuse(errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid_kind("meta.k8s.io", "ListOptions", "", errors))
}

/// Percent-decoding; what is no valid escape or no UTF-8 is kept visible rather than refused.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escape = (bytes[index] == b'%').then(|| bytes.get(index + 1..index + 3)).flatten();
        let value = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (value, bytes[index]) {
            (Some(byte), _) => {
                out.push(byte);
                index += 2;
            }
            (None, b'+') if plus_is_space => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        index += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_clients_send() {
        let query = Query::parse(Some("&labelSelector=a%3Db%2Cc+in+%28d%29&watch=1&limit=500&x"));
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert!(query.flag("watch").unwrap());
        assert!(query.flag("x").unwrap());
        assert!(!query.flag("y").unwrap());
        assert_eq!(ListOptions::parse(&query).unwrap().limit, 500);
    }

    #[test]
    fn refuses_nonsense_by_name() {
        assert!(
            Query::parse(Some("limit=many"))
                .number::<i64>("limit")
                .unwrap_err()
                .message
                .contains("\"limit\"")
        );
        assert!(ListOptions::parse(&Query::parse(Some("limit=-1"))).is_err());
        assert!(Query::parse(Some("dryRun=Some")).dry_run().is_err());
        assert!(Query::parse(Some("fieldValidation=Maybe")).field_validation().is_err());
        assert_eq!(decode("%zz%4", false), "%zz%4");
    }
}
