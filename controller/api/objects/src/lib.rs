//! Everything about the served kinds that is a pure function of JSON (being filled in: signatures first).
mod field;
pub mod quantity;
pub use field::{ErrorKind, FieldError};
/// Typed check.
#[allow(missing_docs)]
pub mod strict {
    use serde_json::Value;
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Unknown(pub Vec<String>);
    impl Unknown {
        pub fn is_empty(&self) -> bool { self.0.is_empty() }
        pub fn messages(&self) -> Vec<String> { Vec::new() }
    }
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    pub enum DecodeError {
        #[error("no kind is known for the resource \"{0}\"")]
        UnknownResource(String),
        #[error("{kind}.{field}: {expectation}")]
        Field { kind: &'static str, field: String, expectation: String },
        #[error("{kind}: {expectation}")]
        Body { kind: &'static str, expectation: String },
    }
    impl DecodeError { pub fn field(&self) -> &str { "" } }
    pub fn decode(_resource: &str, _value: &Value) -> Result<Unknown, DecodeError> { Ok(Unknown::default()) }
    pub fn prune(_resource: &str, _value: &mut Value, _unknown: &Unknown) {}
    pub fn strip_nulls(_value: &mut Value) {}
}
/// Defaults.
#[allow(missing_docs)]
pub mod defaults { pub fn apply(_resource: &str, _value: &mut serde_json::Value) {} }
/// Validation.
#[allow(missing_docs)]
pub mod validate {
    use serde_json::Value;
    pub fn create(_resource: &str, _value: &Value) -> Vec<crate::FieldError> { Vec::new() }
    pub fn update(_resource: &str, _old: &Value, _new: &Value) -> Vec<crate::FieldError> { Vec::new() }
}
/// Warnings.
#[allow(missing_docs)]
pub mod unsupported { pub fn warnings(_resource: &str, _value: &serde_json::Value) -> Vec<String> { Vec::new() } }
/// Tables.
#[allow(missing_docs)]
pub mod table {
    pub struct Column { pub name: &'static str, pub kind: &'static str, pub format: &'static str, pub description: &'static str, pub priority: i32 }
    pub fn columns(_resource: &str) -> &'static [Column] { &[] }
    pub fn row(_resource: &str, _value: &serde_json::Value, _now: jiff::Timestamp) -> Vec<serde_json::Value> { Vec::new() }
}
