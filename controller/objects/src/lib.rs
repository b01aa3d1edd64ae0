//! Everything about the served kinds that is a pure function of JSON: strict decoding, defaults, validation, warnings
//! about what is stored but not acted upon, printed tables, quantities, the table of types and bodies in protobuf.
//!
//! What is known of a kind is in its own file (`kinds/<group>/<kind>.rs`); the functions of each concern take the kind.
//! Which kinds there are says a [`Registry`]: those that are built in, and those that users defined.

pub mod amounts;
pub mod classes;
mod conversions;
pub mod defaults;
pub mod derived;
pub mod disruption;
pub mod events;
mod field;
mod human;
pub mod ingress_annotations;
mod json;
pub mod kinds;
pub mod protobuf;
pub mod quantity;
pub mod quotas;
mod registry;
pub mod rollback;
pub mod root_certificates;
pub mod schedule;
pub mod schema;
pub mod strict;
pub mod table;
pub mod text;
pub mod unsupported;
pub mod validate;

pub use field::{ErrorKind, Errors, FieldError, Path};
pub use registry::{DEFINITIONS, Registries, Registry};
