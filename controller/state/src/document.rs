//! The JSON of an object: held as a value, or as text until somebody looks.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

use bytes::Bytes;
use serde_json::Value;

/// A JSON value. As text it takes about a tenth of the memory.
pub struct Document(Form);

enum Form {
    Value(Value),
    /// What JSON was made into, so it is JSON.
    Text {
        text: Bytes,
        read: OnceLock<Value>,
    },
}

impl Document {
    /// A value that is read when it is first looked at. `text` must have been made of a value.
    pub(crate) fn of_text(text: Bytes) -> Self {
        Self(Form::Text { text, read: OnceLock::new() })
    }
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self(Form::Value(value))
    }
}

impl Deref for Document {
    type Target = Value;

    fn deref(&self) -> &Value {
        match &self.0 {
            Form::Value(value) => value,
            Form::Text { text, read } => read.get_or_init(|| {
                metrics::counter!("warren_store_decodings_total").increment(1);
                serde_json::from_slice(text).expect("text that was made of a JSON value is JSON")
            }),
        }
    }
}

impl DerefMut for Document {
    fn deref_mut(&mut self) -> &mut Value {
        if let Form::Text { .. } = self.0 {
            *self = Value::clone(self).into();
        }
        let Form::Value(value) = &mut self.0 else { unreachable!("it was made a value just now") };
        value
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl PartialEq<Value> for Document {
    fn eq(&self, other: &Value) -> bool {
        **self == *other
    }
}

impl PartialEq<Document> for Value {
    fn eq(&self, other: &Document) -> bool {
        *self == **other
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
