//! The one gate for writes: a client, a planner or a node that wants to write an object says so by an [`Intent`], and
//! gets a transaction or a [`Refusal`]. Nothing else is committed.
//!
//! ```text
//!  client ──► Intent ─┐
//!  planner ─► steps ──┼─► Gate: prepare ─► chain of steps over (snapshot, Review) ─► Transaction | Refusal
//!  node ────► report ─┘      (scope)        namespace, defaults, classes, addresses, rules, ...
//! ```
//!
//! A decision depends on the intent and the snapshot alone, besides service addresses: those that other requests have
//! chosen and not committed yet are avoided. Internal resources (`*.warren.internal`) have no rules of the API: the gate
//! lets everybody but clients write them. What is special about a kind is in `kinds`' table of hooks.

pub mod chain;
pub mod deletion;
pub mod metadata;

mod addresses;
mod births;
mod eviction;
mod gate;
mod grants;
mod identity;
mod intent;
mod kinds;
mod limits;
mod priority;
mod quotas;
mod refusal;
mod rules;
mod runtime_class;
mod scope;
mod service_account;
mod services;

pub use addresses::Claim;
pub use gate::{Admitted, Effect, Gate, Passed, Refused};
pub use identity::{Actor, Author, User};
pub use intent::{Intent, Operation, Review, Verb};
pub use refusal::{Cause, Details, Refusal};
pub use scope::Scope;
