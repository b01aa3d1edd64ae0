//! To what a token is bound when it is asked for. Pure.

use std::sync::Arc;

use serde_json::Value;
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::resources::{NODES, PODS, SECRETS, SERVICEACCOUNTS};

use crate::{Named, Private};

/// What a token is to be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// `v1`, or empty.
    pub api_version: &'a str,
    /// `Pod`, `Secret` or `Node`.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid; empty when whoever has the name is meant.
    pub uid: &'a str,
}

/// Of whom a token is to be, and bound to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// What the token says of it.
    pub private: Private,
}

/// Why no token can be bound like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbound {
    /// An object is not there.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// `pods`.
        resource: &'static str,
        /// Its name.
        name: String,
    },
    /// The pod is of another account.
    #[error(
        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
    )]
    OtherAccount {
        /// Whose token was asked for.
        account: String,
    },
    /// Another object has the name now.
    #[error(
        "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
    )]
    OtherUid {
        /// `Pod`.
        kind: String,
        /// Its name.
        name: String,
        /// The uid that was asked for.
        asked: String,
    },
    /// Tokens are not bound to such objects.
    #[error("cannot bind token to object of type {0}")]
    Kind(String),
}

fn text<'a>(object: &'a Object, pointer: &str) -> &'a str {
    object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn uid(object: &Object) -> &str {
    text(object, "/metadata/uid")
}

pub(crate) fn node_of(pod: &Object) -> &str {
    text(pod, "/spec/nodeName")
}

/// The account of a pod.
pub(crate) fn account_of(pod: &Object) -> &str {
    match text(pod, "/spec/serviceAccountName") {
        "" => "default",
        name => name,
    }
}

fn find<'a>(
    snapshot: &'a Snapshot,
    resource: &'static str,
    namespace: &str,
    name: &str,
) -> Result<&'a Arc<Object>, Unbound> {
    let found = snapshot.get(&Key::new(resource, namespace, name));
    found.ok_or_else(|| Unbound::NotFound { resource, name: name.to_owned() })
}

fn named(object: &Object) -> Named {
    Named { name: object.key.name.to_string(), uid: uid(object).to_owned() }
}

/// Binds a token of an account to what is asked for, as the state is.
pub fn bind(
    snapshot: &Snapshot,
    namespace: &str,
    account: &str,
    reference: Option<Reference<'_>>,
) -> Result<Binding, Unbound> {
    let serviceaccount = named(find(snapshot, SERVICEACCOUNTS, namespace, account)?);
    let mut private = Private { namespace: namespace.to_owned(), serviceaccount, ..Private::default() };
    let Some(reference) = reference else { return Ok(Binding { private }) };
    let is_core = !reference.api_version.contains('/');
    let object = match reference.kind {
        "Pod" if is_core => {
            let pod = find(snapshot, PODS, namespace, reference.name)?;
            if account_of(pod) != account {
                return Err(Unbound::OtherAccount { account: account.to_owned() });
            }
            private.pod = Some(named(pod));
            private.node = Some(node_of(pod)).filter(|node| !node.is_empty()).map(|name| {
                let gone = || Named { name: name.to_owned(), uid: String::new() };
                snapshot.get(&Key::new(NODES, "", name)).map_or_else(gone, |node| named(node))
            });
            pod
        }
        "Secret" if is_core => {
            let secret = find(snapshot, SECRETS, namespace, reference.name)?;
            private.secret = Some(named(secret));
            secret
        }
        "Node" if is_core => {
            let node = find(snapshot, NODES, "", reference.name)?;
            private.node = Some(named(node));
            node
        }
        kind => {
            let (group, version) =
                reference.api_version.split_once('/').unwrap_or(("", reference.api_version));
            return Err(Unbound::Kind(format!("{group}/{version}, Kind={kind}")));
        }
    };
    if !reference.uid.is_empty() && reference.uid != uid(object) {
        let (kind, name) = (reference.kind.to_owned(), reference.name.to_owned());
        return Err(Unbound::OtherUid { kind, name, asked: reference.uid.to_owned() });
    }
    Ok(Binding { private })
}

/// A node asks for a token of a pod: the account is the pod's, and the pod must be the one of this uid, on that node.
/// `None`: it is not, whatever the reason.
pub fn node_asks(
    snapshot: &Snapshot,
    node: &str,
    namespace: &str,
    pod: &str,
    pod_uid: &str,
) -> Option<Binding> {
    let object = snapshot.get(&Key::new(PODS, namespace, pod))?;
    if node_of(object) != node || uid(object) != pod_uid || pod_uid.is_empty() {
        return None;
    }
    let reference = Reference { api_version: "v1", kind: "Pod", name: pod, uid: pod_uid };
    bind(snapshot, namespace, account_of(object), Some(reference)).ok()
}
