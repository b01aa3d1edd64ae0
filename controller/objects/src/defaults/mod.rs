//! What Kubernetes fills in when a client leaves it out. Clients and template hashes compare defaulted objects, so the
//! same defaults apply on create, on update, to patch results, and inside nested pod templates.

pub(crate) mod pod;
pub(crate) mod storage;
pub(crate) mod workload;

use serde_json::Value;

use crate::{kinds::Kind, strict};

/// Fills in the defaults of an object that [`crate::strict::decode`] accepted. Idempotent. Explicit nulls are removed
/// where they count as absent.
///
/// Addresses, names and times are not defaults: the API assigns them when it stores the object.
pub fn apply(kind: &Kind, value: &mut Value) {
    strict::strip_nulls_of(kind, value);
    if value.is_object() {
        kind.fill(value);
    }
}

/// Adapts a changed object that a client built on the stored one: fields that the server once filled in, and that the
/// object's new type does not allow, go when the client did not touch them. Call it before [`apply`].
pub fn adapt(kind: &Kind, old: &Value, new: &mut Value) {
    kind.adapt(old, new);
}
