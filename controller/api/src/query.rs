//! Query strings and the options that verbs read from them. Pure.

use std::str::FromStr;

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
        match self.text("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// No older than asked for.
    NotOlderThan,
    /// Precisely what was asked for.
    Exact,
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
    pub(crate) send_initial_events: bool,
}

impl ListOptions {
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        let revision_match = match query.text("resourceVersionMatch") {
            None => None,
            Some("NotOlderThan") => Some(Match::NotOlderThan),
            Some("Exact") => Some(Match::Exact),
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \
                     \"NotOlderThan\""
                )));
            }
        };
        let limit = query.number::<i64>("limit")?.unwrap_or(0);
        Ok(Self {
            limit: usize::try_from(limit).map_err(|_| {
                Status::bad_request(format!("limit: Invalid value: {limit}: must not be negative"))
            })?,
            continuation: query.text("continue").map(str::to_owned),
            revision: query.number("resourceVersion")?,
            revision_match,
            timeout_seconds: query.number("timeoutSeconds")?,
            bookmarks: query.flag("allowWatchBookmarks")?,
            send_initial_events: query.flag("sendInitialEvents")?,
        })
    }
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
