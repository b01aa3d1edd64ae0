//! Whether what a token says still holds. Pure.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::resources::{NODES, PODS, SECRETS, SERVICEACCOUNTS};
use warren_write::User;

use crate::{
    Claims, Named, Purpose,
    bind::{node_of, uid},
    claims::subject,
};

/// How long a token is believed after its pod or account should be gone: they may have something to tidy up.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is longer than any token.
    #[error("token is longer than {0} bytes")]
    TooLong(usize),
    /// It is no token, or its signature is not that of the key that it names.
    #[error("token is malformed or its signature is invalid")]
    Malformed,
    /// No key of this cluster has signed it, or another algorithm was used.
    #[error("token was not signed by a key of this cluster")]
    Foreign,
    /// Somebody else issued it.
    #[error("token was not issued by {0:?}")]
    Issuer(String),
    /// It expired.
    #[error("service account token has expired")]
    Expired,
    /// It is not good yet.
    #[error("service account token is not valid yet")]
    Early,
    /// It is meant for others.
    #[error("token audiences {got:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// For whom it is.
        got: Vec<String>,
        /// Who asks.
        wanted: Vec<String>,
    },
    /// What it is of or bound to is not there any more.
    #[error("service account token has been invalidated: {0} {1:?} is gone or is another now")]
    Gone(&'static str, String),
    /// What it says contradicts itself.
    #[error("service account claims are inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// Judges what does not need the state: who issued it, for whom, and when. The answer has the audiences that both sides
/// name.
pub(crate) fn judge(
    claims: &Claims,
    issuer: &str,
    purpose: Purpose,
    audiences: &[String],
    now: Timestamp,
) -> Result<Vec<String>, Refusal> {
    if claims.iss != issuer {
        return Err(Refusal::Issuer(issuer.to_owned()));
    }
    let now = now.as_second();
    match (purpose, claims.exp) {
        (Purpose::Bound, None) => return Err(Refusal::Inconsistent("it does not say when it expires")),
        (_, Some(expiry)) if expiry <= now => return Err(Refusal::Expired),
        _ => {}
    }
    // Another second, for whoever has another clock than the one it was issued by: ours, a moment ago.
    if claims.nbf > now.saturating_add(1) {
        return Err(Refusal::Early);
    }
    let both: Vec<String> = audiences.iter().filter(|wanted| claims.aud.contains(wanted)).cloned().collect();
    if both.is_empty() {
        return Err(Refusal::Audience { got: claims.aud.clone(), wanted: audiences.to_vec() });
    }
    Ok(both)
}

/// Judges by the state: the account and what the token is bound to must be there, with the same uid.
pub(crate) fn user(
    snapshot: &Snapshot,
    claims: &Claims,
    purpose: Purpose,
    token: &str,
    now: Timestamp,
) -> Result<User, Refusal> {
    let private = &claims.private;
    let (namespace, account) = (&private.namespace, &private.serviceaccount);
    if claims.sub != subject(namespace, &account.name) {
        return Err(Refusal::Inconsistent("its subject is another account than the one it names"));
    }
    living(snapshot, SERVICEACCOUNTS, namespace, account, now)?;
    let mut extra = BTreeMap::new();
    let mut say = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    say("credential-id", &format!("JTI={}", claims.jti));
    if let Some(pod) = &private.pod {
        let found = living(snapshot, PODS, namespace, pod, now)?;
        if private.node.as_ref().is_some_and(|node| node_of(found) != node.name) {
            return Err(Refusal::Gone("node", node_of(found).to_owned()));
        }
        say("pod-name", &pod.name);
        say("pod-uid", &pod.uid);
    }
    if let Some(node) = &private.node {
        // A pod's token says where the pod runs; only one that is bound to the node itself ends with it.
        if private.pod.is_none() {
            living(snapshot, NODES, "", node, now)?;
        }
        say("node-name", &node.name);
        say("node-uid", &node.uid);
    }
    match (&private.secret, purpose) {
        (Some(secret), Purpose::Bound) => {
            living(snapshot, SECRETS, namespace, secret, now)?;
        }
        (Some(secret), Purpose::Secret) => {
            let found = living(snapshot, SECRETS, namespace, secret, now)?;
            if !holds(found, token) {
                return Err(Refusal::Gone("secret", secret.name.clone()));
            }
        }
        (None, Purpose::Secret) => return Err(Refusal::Inconsistent("it names no secret")),
        (None, Purpose::Bound) => {}
    }
    Ok(User { name: claims.sub.clone(), uid: account.uid.clone(), groups: groups(namespace), extra })
}

/// The groups of every account of a namespace.
pub(crate) fn groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ]
}

/// Whether a secret holds this very token: one that was taken out of it is worth nothing any more.
fn holds(secret: &Object, token: &str) -> bool {
    secret.value["data"]["token"].as_str() == Some(&*STANDARD.encode(token))
}

fn living<'a>(
    snapshot: &'a Snapshot,
    resource: &'static str,
    namespace: &str,
    wanted: &Named,
    now: Timestamp,
) -> Result<&'a Arc<Object>, Refusal> {
    let found = snapshot.get(&Key::new(resource, namespace, &wanted.name));
    let lives = |object: &&Arc<Object>| {
        let deleted = object.value["metadata"]["deletionTimestamp"].as_str().map(str::parse::<Timestamp>);
        uid(object) == wanted.uid
            && deleted.is_none_or(|at| at.is_ok_and(|at| now.duration_since(at) <= GRACE))
    };
    let singular = resource.trim_end_matches('s');
    found.filter(lives).ok_or_else(|| Refusal::Gone(singular, wanted.name.clone()))
}
