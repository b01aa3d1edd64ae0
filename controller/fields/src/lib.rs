//! Who manages which field of an object: what server-side apply and `metadata.managedFields` mean, by the schema of the
//! kind. Pure: objects and entries in, objects and entries or conflicts out.
//!
//! ```text
//!  applied configuration ─► check ─► merge into the live object ─► remove what is no longer applied ─┐
//!                                                                                                    ▼
//!  written object ──────────────────────────► compare with the live object ─► who owned what changed: conflict, or loss
//! ```
//!
//! A [`Set`] is a tree of path elements; `fieldsV1` is its JSON. Semantics:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

mod codec;
mod compare;
mod managers;
mod merge;
mod place;
mod remove;
mod set;
mod write;

pub use codec::{BadFields, MOST_ELEMENTS};
pub use compare::{Comparison, compare};
pub use managers::{Entry, Manager, Managers, Operation};
pub use merge::merge;
pub use place::{Fault, check, set_of};
pub use remove::{extract, named, remove};
pub use set::{Element, Path, Set};
pub use write::{Conflict, Conflicts, Versions, Write, apply, update};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
