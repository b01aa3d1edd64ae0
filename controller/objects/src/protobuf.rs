//! Bodies in Kubernetes protobuf, decoded to the JSON that the same client would have sent: exactly what Go's JSON
//! encoder writes for the object, without its nulls. Decoding only; answers are JSON.
//!
//! An own decoder, because prost-reflect (with descriptors by protox) knows neither the JSON names, inlined messages
//! and special types of Kubernetes nor which fields are pointers: it would need this table beside its descriptors, and
//! a walk over its dynamic messages as long as `decode`.
//!
//! Rules beyond protobuf's: gogo writes every scalar that is no pointer, zero or not, so a zero there is said only
//! where Go's JSON says it; a pointer is written when it is set. Nothing is allocated by a length that a client claims:
//! lengths are checked against what is there, and the number of values is bounded.

mod decode;
mod special;
mod wire;

use std::fmt;

use serde_json::{Map, Value};

use crate::{schema::Message, text};
use wire::Reader;

/// What begins every body.
pub const MAGIC: &[u8] = b"k8s\0";

/// How deep the JSON may be: well below what serde_json reads again (128).
const LEVELS: usize = text::DEEPEST;
/// How many values a body may hold. Two bytes can make a value, which takes a hundred times as much when it is decoded.
const VALUES: usize = text::MOST_VALUES;

/// Why a body cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{prefix}{fault}", prefix = FieldPrefix(.field))]
pub struct DecodeError {
    /// The path of the field, as in JSON; empty when it is the envelope or the object itself.
    pub field: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The body does not begin with [`MAGIC`].
    #[error("the body does not begin with \"k8s\\0\"")]
    NoMagic,
    /// The envelope says that the object is packed in another way.
    #[error("the content encoding {0:?} is not known")]
    Encoding(String),
    /// A length or a number points behind the end.
    #[error("ends in the middle of a value")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number is longer than 64 bits")]
    Overlong,
    /// Field numbers are 1 to 536870911.
    #[error("{0} is not a field number")]
    FieldNumber(u64),
    /// Groups, and wire types that were never defined.
    #[error("wire type {0} is not supported")]
    WireType(u8),
    /// The wire type does not fit the field.
    #[error("has wire type {found}, expected {expected}")]
    Mismatch {
        /// The one that the field's type has.
        expected: u8,
        /// The one that was found.
        found: u8,
    },
    /// Texts are UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A part that must be JSON.
    #[error("is not JSON: {0}")]
    NotJson(String),
    /// A value that JSON or the field's type cannot say.
    #[error("is out of range: {0}")]
    Range(String),
    /// Too many levels.
    #[error("is nested deeper than {LEVELS} levels")]
    TooDeep,
    /// Too many values.
    #[error("the object has more than {VALUES} values")]
    TooLarge,
}

/// A field's path before its fault.
struct FieldPrefix<'a>(&'a str);

impl fmt::Display for FieldPrefix<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "{}: ", self.0) }
    }
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self { field: String::new(), fault }
    }
}

/// A body whose object is not decoded yet (`runtime.Unknown`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`; empty when the client did not say.
    pub api_version: &'a str,
    /// `Deployment`; empty when the client did not say.
    pub kind: &'a str,
    object: &'a [u8],
}

/// Reads a body as far as it says what is in it.
pub fn open(body: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let mut reader = Reader::new(body.strip_prefix(MAGIC).ok_or(Fault::NoMagic)?);
    let mut envelope = Envelope::default();
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => type_meta(payload.bytes()?, &mut envelope)?,
            2 => envelope.object = payload.bytes()?,
            3 => match payload.text()? {
                "" => {}
                other => return Err(Fault::Encoding(other.to_owned()).into()),
            },
            _ => {}
        }
    }
    Ok(envelope)
}

fn type_meta<'a>(data: &'a [u8], envelope: &mut Envelope<'a>) -> Result<(), Fault> {
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => envelope.api_version = payload.text()?,
            2 => envelope.kind = payload.text()?,
            _ => {}
        }
    }
    Ok(())
}

impl Envelope<'_> {
    /// The object as JSON, without `apiVersion` and `kind`. Fields that the message does not have are skipped.
    pub fn decode(&self, message: &'static Message) -> Result<Map<String, Value>, DecodeError> {
        decode::object(message, self.object)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
