//! What is wrong with one field, in Kubernetes' words.

use std::fmt;

use serde_json::Value;

use crate::text::{cut, is_longer};

/// The class of a field's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The value breaks a rule.
    Invalid,
    /// The value is missing.
    Required,
    /// The value is not one of the known ones.
    NotSupported,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// The field must not be set here, or not be changed.
    Forbidden,
    /// The value has too many bytes.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value refers to something that does not exist.
    NotFound,
    /// The value has the wrong type.
    TypeInvalid,
}

impl ErrorKind {
    /// The text that begins the message.
    pub fn title(self) -> &'static str {
        match self {
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }

    /// The `reason` of a `Status` cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One fault of one field; displayed as `spec.replicas: Invalid value: -1: must be greater than or equal to 0`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {}", self.body())]
pub struct FieldError {
    /// The path: `spec.template.spec.containers[0].image`.
    pub field: String,
    /// The class of the fault.
    pub kind: ErrorKind,
    /// The value found, where it is worth showing.
    pub value: Option<Value>,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    /// The `reason` of a `Status` cause: `FieldValueInvalid`.
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }

    /// The message without the field, as in a `Status` cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.title().to_owned();
        let shows_value =
            !matches!(self.kind, ErrorKind::Required | ErrorKind::Forbidden | ErrorKind::TooLong);
        if let (true, Some(value)) = (shows_value, &self.value) {
            text.push_str(": ");
            text.push_str(&value.to_string());
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// Where in an object we are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field, or of a dotted chain of them.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// A field of this.
    pub fn child(&self, field: &str) -> Self {
        if self.0.is_empty() { Self(field.to_owned()) } else { Self(format!("{}.{field}", self.0)) }
    }

    /// An item of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as it is worth showing.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text, LONGEST_VALUE)),
        Value::Array(_) | Value::Object(_) if is_longer(value, LONGEST_VALUE) => Value::from("..."),
        value => value.clone(),
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Errors(pub(crate) Vec<FieldError>);

/// More faults of one object are not told: there is enough to mend.
const MOST_FAULTS: usize = 100;
/// Longer values are not shown whole. An object of megabytes may be wrong in each of its values.
const LONGEST_VALUE: usize = 1024;
/// Longer paths are cut: a key may be as long as its text.
const LONGEST_FIELD: usize = 512;

impl Errors {
    fn push(&mut self, path: &Path, kind: ErrorKind, value: Option<&Value>, detail: impl Into<String>) {
        if self.0.len() >= MOST_FAULTS {
            return;
        }
        self.0.push(FieldError {
            field: cut(&path.0, LONGEST_FIELD),
            kind,
            value: value.map(shown),
            detail: detail.into(),
        });
        if self.0.len() == MOST_FAULTS
            && let Some(last) = self.0.last_mut()
        {
            last.detail.push_str(" (there may be more faults: no more are looked for)");
        }
    }

    /// The value may not be so.
    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, ErrorKind::Invalid, Some(&value.into()), detail);
    }

    /// The same of a value that would not be worth showing.
    pub fn wrong(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, ErrorKind::Invalid, None, detail);
    }

    /// There must be a value.
    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, ErrorKind::Required, None, detail);
    }

    /// There may not be such a value here.
    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, ErrorKind::Forbidden, None, detail);
    }

    /// Another one has the same value.
    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, ErrorKind::Duplicate, Some(&value.into()), "");
    }

    /// What the value names is not there.
    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, ErrorKind::NotFound, Some(&value.into()), "");
    }

    /// There are more bytes than may be.
    pub fn too_long(&mut self, path: &Path, most: usize) {
        self.push(path, ErrorKind::TooLong, None, format!("may not be more than {most} bytes"));
    }

    /// There are more items than may be.
    pub fn too_many(&mut self, path: &Path, count: usize, most: usize) {
        self.push(path, ErrorKind::TooMany, Some(&count.into()), format!("must have at most {most} items"));
    }

    /// The value is of another type.
    pub fn type_invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, ErrorKind::TypeInvalid, Some(&value.into()), detail);
    }

    /// The value is none of the supported ones.
    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        let detail = format!("supported values: {}", list.join(", "));
        self.push(path, ErrorKind::NotSupported, Some(&value.into()), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(report: impl FnOnce(&mut Errors, &Path)) -> String {
        let mut errors = Errors::default();
        report(&mut errors, &Path::new("spec").child("containers").index(0).child("x"));
        errors.0[0].to_string()
    }

    #[test]
    fn what_is_told_is_bounded() {
        let mut errors = Errors::default();
        let long = "ü".repeat(1_000_000);
        for _ in 0..100_000 {
            errors.invalid(&Path::new("data").key(&long), long.as_str(), "bad");
        }
        assert_eq!(errors.0.len(), MOST_FAULTS);
        assert!(errors.0[MOST_FAULTS - 1].detail.contains("more faults"));
        assert!(errors.0.iter().all(|error| error.to_string().len() < 6_000));
        let mut errors = Errors::default();
        errors.invalid(&Path::new("spec"), vec![long.as_str()], "bad");
        assert_eq!(errors.0[0].to_string(), "spec: Invalid value: \"...\": bad");
    }

    #[test]
    fn wording() {
        assert_eq!(
            message(|e, p| e.invalid(p, -1, "must be greater than or equal to 0")),
            "spec.containers[0].x: Invalid value: -1: must be greater than or equal to 0"
        );
        assert_eq!(message(|e, p| e.required(p, "")), "spec.containers[0].x: Required value");
        assert_eq!(
            message(|e, p| e.not_supported(p, "x", &["A", "B"])),
            r#"spec.containers[0].x: Unsupported value: "x": supported values: "A", "B""#
        );
        assert_eq!(message(|e, p| e.duplicate(p, "a")), r#"spec.containers[0].x: Duplicate value: "a""#);
        assert_eq!(
            message(|e, p| e.too_long(p, 63)),
            "spec.containers[0].x: Too long: may not be more than 63 bytes"
        );
        assert_eq!(message(|e, p| e.forbidden(p, "no")), "spec.containers[0].x: Forbidden: no");
    }
}
