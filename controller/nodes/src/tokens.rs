//! Join tokens: single use, short-lived, and pinned to the CA.
//!
//! The text is `wrn1.ID.SECRET.CAHASH`. Only the secret's SHA-256 is stored, under the ID. A join removes the
//! token in the commit that creates the member, so two joins with one token cannot both win.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use warren_store::{CommitError, Key, Object, Snapshot, Transaction};
use warren_vocabulary::{member::MemberRole, resources::TOKENS};
use warren_write::Author;

use crate::writes::{WriteError, Writer};

/// Who writes tokens.
const AUTHOR: &str = "join-tokens";

/// Why a token could not be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The lifetime is zero or beyond the calendar.
    #[error("a token's lifetime must be between one second and ten years")]
    Lifetime,
    /// There is no such token.
    #[error("there is no join token {0:?}; `warren token list` shows those that can still be used")]
    Unknown(String),
    /// The store did not take it.
    #[error("cannot store the token: {0}")]
    Store(#[from] WriteError),
}

/// A token that can still be used. Its secret is known only to whom it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// The public part.
    pub id: String,
    /// What a machine that joins with it becomes.
    pub role: MemberRole,
    /// When it stops to work.
    pub expires: Timestamp,
}

/// Why a presented token is refused. The caller learns none of this; the log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the token is malformed")]
    Malformed,
    #[error("no such token: used, revoked or never made")]
    Unknown,
    #[error("the token's secret is wrong")]
    Secret,
    #[error("the token has expired")]
    Expired,
    #[error("the token was used by another join at the same time")]
    Used,
    #[error("the stored token is damaged")]
    Damaged,
}

impl Refusal {
    /// What the caller is told, whatever the reason.
    pub(crate) fn status(self) -> tonic::Status {
        tonic::Status::unauthenticated(
            "join token is unknown, used or expired; make a new one with `warren token create`",
        )
    }
}

fn key(id: &str) -> Key {
    Key::new(TOKENS, "", id)
}

fn random_hex<const N: usize>() -> String {
    rand::random::<[u8; N]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares without telling by its duration where the first difference is.
fn equal(a: &str, b: &str) -> bool {
    let difference = a.bytes().zip(b.bytes()).fold(0u8, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

/// Makes a token; the answer is its text.
pub(crate) async fn create(
    writer: &Writer,
    fingerprint: &str,
    role: MemberRole,
    lifetime: Duration,
    now: Timestamp,
) -> Result<String, TokenError> {
    if lifetime.as_secs() == 0 || lifetime.as_secs() > 10 * 366 * 86_400 {
        return Err(TokenError::Lifetime);
    }
    let expires = now.checked_add(lifetime).map_err(|_| TokenError::Lifetime)?;
    let (id, secret) = (random_hex::<4>(), random_hex::<16>());
    let value = json!({
        "metadata": {"name": id},
        "spec": {"secretSha256": hash(&secret), "expires": expires.to_string(), "role": role},
    });
    let snapshot = writer.store.snapshot();
    let transaction = expired(&snapshot, now)
        .into_iter()
        .fold(Transaction::new(), |transaction, object| {
            transaction.delete(object.key.clone(), object.revision)
        })
        .create(key(&id), value);
    writer.commit(Author::controller(AUTHOR), &snapshot, transaction).await?;
    tracing::info!(id, %expires, ?role, "made a join token");
    Ok(format!("wrn1.{id}.{secret}.{fingerprint}"))
}

/// The tokens that can still be used.
pub(crate) fn list(snapshot: &Snapshot, now: Timestamp) -> Vec<TokenInfo> {
    snapshot
        .list(TOKENS)
        .filter_map(|object| {
            let (id, role) = (object.key.name.to_string(), role(object)?);
            Some(TokenInfo { id, role, expires: expires(object)? })
        })
        .filter(|token| token.expires > now)
        .collect()
}

/// Removes a token before it is used.
pub(crate) async fn revoke(writer: &Writer, id: &str) -> Result<(), TokenError> {
    let snapshot = writer.store.snapshot();
    let object = snapshot.get(&key(id)).ok_or_else(|| TokenError::Unknown(id.to_owned()))?;
    let transaction = Transaction::new().delete(key(id), object.revision);
    match writer.commit(Author::controller(AUTHOR), &snapshot, transaction).await {
        Ok(_) => Ok(()),
        Err(WriteError::Store(CommitError::Conflict(_))) => Err(TokenError::Unknown(id.to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// The stored token behind `ID.SECRET`, if it may be used now.
pub(crate) fn check(snapshot: &Snapshot, presented: &str, now: Timestamp) -> Result<Arc<Object>, Refusal> {
    // The whole text is accepted too: a person who copies it into a tool should not have to cut it.
    let presented = presented.strip_prefix("wrn1.").unwrap_or(presented);
    let mut parts = presented.split('.');
    let (Some(id), Some(secret)) = (parts.next(), parts.next()) else { return Err(Refusal::Malformed) };
    if id.is_empty() || secret.is_empty() {
        return Err(Refusal::Malformed);
    }
    let object = snapshot.get(&key(id)).ok_or(Refusal::Unknown)?;
    let stored =
        object.value.pointer("/spec/secretSha256").and_then(|v| v.as_str()).ok_or(Refusal::Damaged)?;
    if !equal(stored, &hash(secret)) {
        return Err(Refusal::Secret);
    }
    if role(object).is_none() {
        return Err(Refusal::Damaged);
    }
    if expires(object).ok_or(Refusal::Damaged)? <= now {
        return Err(Refusal::Expired);
    }
    Ok(Arc::clone(object))
}

fn expires(object: &Object) -> Option<Timestamp> {
    object.value.pointer("/spec/expires")?.as_str()?.parse().ok()
}

/// Tokens of versions that had no roles are for nodes.
pub(crate) fn role(object: &Object) -> Option<MemberRole> {
    match object.value.pointer("/spec/role") {
        None => Some(MemberRole::Node),
        Some(role) => MemberRole::deserialize(role).ok(),
    }
}

fn expired(snapshot: &Snapshot, now: Timestamp) -> Vec<Arc<Object>> {
    snapshot.list(TOKENS).filter(|object| expires(object).is_none_or(|at| at <= now)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn stored(expires: &str) -> Snapshot {
        let value =
            json!({"metadata": {"name": "ab"}, "spec": {"secretSha256": hash("s3"), "expires": expires}});
        Snapshot::from_objects(1, [Object::new(key("ab"), 1, value)])
    }

    #[test]
    fn a_token_is_accepted_until_it_expires() {
        let snapshot = stored("2026-01-01T00:00:01Z");
        assert!(check(&snapshot, "ab.s3", now()).is_ok());
        assert!(check(&snapshot, "wrn1.ab.s3.cafe", now()).is_ok());
        let later = now() + Duration::from_secs(1);
        assert_eq!(check(&snapshot, "ab.s3", later).err(), Some(Refusal::Expired));
        assert_eq!(list(&snapshot, now()).len(), 1);
        assert_eq!(list(&snapshot, now())[0].role, MemberRole::Node, "it is of a version without roles");
        assert_eq!(list(&snapshot, later).len(), 0);
        assert_eq!(expired(&snapshot, later).len(), 1);
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let snapshot = stored("2026-01-02T00:00:00Z");
        for (presented, reason) in [
            ("", Refusal::Malformed),
            ("ab", Refusal::Malformed),
            ("ab.", Refusal::Malformed),
            (".s3", Refusal::Malformed),
            ("cd.s3", Refusal::Unknown),
            ("ab.s4", Refusal::Secret),
            ("ab.s33", Refusal::Secret),
        ] {
            assert_eq!(check(&snapshot, presented, now()).err(), Some(reason), "{presented:?}");
        }
        let damaged = stored("soon");
        assert_eq!(check(&damaged, "ab.s3", now()).err(), Some(Refusal::Damaged));
    }

    #[test]
    fn comparison_is_exact() {
        assert!(equal("", "") && equal("abc", "abc"));
        assert!(!equal("abc", "abd") && !equal("abc", "ab") && !equal("ab", "abc"));
    }
}
