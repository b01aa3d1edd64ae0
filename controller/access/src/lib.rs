//! Who may do what: the roles and bindings of `rbac.authorization.k8s.io`, indexed by whom they are about.
//!
//! ```text
//!  snapshots ─► Authorities: the last index, led on by what differs ─► Access
//!  (who, verb, resource or path) ─► Access::judge ─► Why | Denial
//!  a role, and who grants it     ─► grants::missing ─► what its maker does not hold
//! ```
//!
//! A request costs what its own user and groups are bound to, whatever else there is: nothing is looked through. A
//! commit that touches no role and no binding costs the index nothing but passing over it.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.

mod aggregate;
mod authorities;
pub mod defaults;
pub mod grants;
mod index;
mod request;
mod rule;

pub use aggregate::{aggregated, aggregates, selects};
pub use authorities::Authorities;
pub use index::{Access, Denial, Why};
pub use request::{Request, Resource, Who};
pub use rule::Rule;

/// The group of all four kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// The group that may do everything, whatever is stored.
pub const MASTERS: &str = "system:masters";
