//! Everything about the served kinds that is a pure function of JSON: strict decoding, defaults, validation, warnings
//! about what is stored but not acted upon, printed tables, quantities, the table of types and bodies in protobuf.
//!
//! A resource is named by its plural and group ("pods", "deployments.apps"); `kinds` holds the one table that says
//! which function serves which resource for which concern.

pub mod classes;
pub mod defaults;
mod faces;
mod field;
mod human;
pub mod ingress_annotations;
mod json;
pub mod kinds;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod strict;
pub mod table;
pub mod text;
pub mod unsupported;
pub mod validate;

pub use field::{ErrorKind, FieldError};
