//! What Kubernetes fills in when a client leaves it out. Clients and template hashes compare defaulted objects, so the
//! same defaults apply on create, on update, to patch results, and inside nested pod templates.

pub(crate) mod cluster;
pub(crate) mod pod;
pub(crate) mod service;
pub(crate) mod workload;

use serde_json::Value;

use crate::{kinds, strict};

/// Fills in the defaults of an object that [`crate::strict::decode`] accepted. Idempotent. Explicit nulls are removed.
///
/// Addresses, names and times are not defaults: whoever stores the object assigns them.
pub fn apply(resource: &str, value: &mut Value) {
    strict::strip_nulls(value);
    if let (true, Some(kind)) = (value.is_object(), kinds::of(resource)) {
        (kind.defaults)(value);
    }
}
