//! What Kubernetes fills in when a client leaves it out. Clients and template hashes compare defaulted objects, so the
//! same defaults apply on create, on update, to patch results, and inside nested pod templates.

pub(crate) mod pod;
pub(crate) mod storage;
pub(crate) mod workload;

use serde_json::Value;

use crate::{
    json::{default_to, items_mut},
    kinds::Kind,
    strict,
};

/// How Go writes a time that nobody set.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

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

/// The conditions of a status whose time a client did not say.
pub(crate) fn condition_times(value: &mut Value) {
    if let Some(status) = value.get_mut("status") {
        items_mut(status, "conditions")
            .for_each(|condition| default_to(condition, "lastTransitionTime", NO_TIME));
    }
}

/// Adapts a changed object that a client built on the stored one: fields that the server once filled in, and that the
/// object's new type does not allow, go when the client did not touch them. Call it before [`apply`].
pub fn adapt(kind: &Kind, old: &Value, new: &mut Value) {
    kind.adapt(old, new);
}
