//! Tokens of service accounts: who signs them, what they say, and when they are believed.
//!
//! ```text
//!  store ─► keys (sealed) ─► KeyRing ─┬─ signs ──► a token: a JSON Web Token, ES256
//!                                     └─ verifies ─► claims ─► check against the state ─► User
//! ```
//!
//! A token is good as long as it says, and only while the account that it is of, and what it is bound to (a pod, a secret, a
//! node), are there with the same uid. Its claims are those of Kubernetes, so that whoever reads tokens of Kubernetes
//! reads these.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>.

mod bind;
mod check;
mod claims;
mod discovery;
mod keys;
mod signer;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use bind::{Binding, Reference, Unbound, bind, node_asks};
pub use check::Refusal;
pub use claims::{Claims, Named, Private};
pub use keys::{KeyError, KeyRing, LONGEST, Purpose, SigningKey};
pub use signer::{Issued, SignError, Tokens};
