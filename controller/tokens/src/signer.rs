//! Signs tokens, and tells whose a token is.

use std::{collections::BTreeMap, mem, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Header, Validation};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use warren_state::Snapshot;
use warren_write::User;

use crate::{
    Binding, Claims, KeyRing, LONGEST, Purpose, Refusal,
    check::{judge, user},
    claims::subject,
    discovery,
};

/// Longer than any token: names have at most 253 characters, and audiences are few.
const LONGEST_TOKEN: usize = 8 << 10;
/// Verified signatures that are remembered, twice.
const REMEMBERED: usize = 2_048;

/// A token was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is no key.
    #[error("there is no key to sign tokens with")]
    NoKey,
    /// The key did not sign.
    #[error("cannot sign a token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// It would be longer than what is read again.
    #[error("the token would have more than {LONGEST_TOKEN} bytes: ask for fewer or shorter audiences")]
    TooLong,
}

/// A token and how long it is good.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// What tells it from all others.
    pub id: String,
    /// When it expires; none of those in secrets do.
    pub expires: Option<Timestamp>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The tokens of a cluster.
pub struct Tokens {
    issuer: String,
    audiences: Vec<String>,
    ring: RwLock<Arc<KeyRing>>,
    verified: Mutex<Verified>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// What a token said whose signature was good, and by which key.
#[derive(Clone)]
struct Read {
    claims: Arc<Claims>,
    purpose: Purpose,
}

/// Signatures that were verified, by the hash of their tokens: those of the last time, and those before.
#[derive(Default)]
struct Verified {
    new: BTreeMap<[u8; 32], Read>,
    old: BTreeMap<[u8; 32], Read>,
}

impl Verified {
    fn find(&mut self, hash: &[u8; 32]) -> Option<Read> {
        if let Some(found) = self.new.get(hash) {
            return Some(found.clone());
        }
        let found = self.old.remove(hash)?;
        self.keep(*hash, found.clone());
        Some(found)
    }

    fn keep(&mut self, hash: [u8; 32], read: Read) {
        if self.new.len() >= REMEMBERED {
            self.old = mem::take(&mut self.new);
        }
        self.new.insert(hash, read);
    }
}

impl Tokens {
    /// Those of the cluster with this domain.
    pub fn new(domain: &str, ring: KeyRing) -> Arc<Self> {
        let issuer = format!("https://kubernetes.default.svc.{domain}");
        let audiences = vec![issuer.clone()];
        let ring = RwLock::new(Arc::new(ring));
        Arc::new(Self { issuer, audiences, ring, verified: Mutex::default() })
    }

    /// The names of the API itself: for whom a token is when nothing is said.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Takes other keys. What one of the keys verified that are gone is forgotten.
    pub fn replace(&self, ring: KeyRing) {
        *self.ring.write() = Arc::new(ring);
        *self.verified.lock() = Verified::default();
    }

    /// The keys.
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read())
    }

    /// How long a token may be good that is asked to be good for so many seconds.
    pub fn shortened(seconds: i64) -> i64 {
        seconds.min(LONGEST.as_secs())
    }

    /// Signs a token that is good for so many seconds from now on.
    pub fn issue(
        &self,
        binding: Binding,
        audiences: &[String],
        seconds: i64,
        now: Timestamp,
    ) -> Result<Issued, SignError> {
        let seconds = SignedDuration::from_secs(Self::shortened(seconds));
        // The end is a whole second: what is answered is what the token says.
        let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let expires = second.saturating_add(seconds).unwrap_or(Timestamp::MAX);
        let audiences = if audiences.is_empty() { &self.audiences } else { audiences };
        self.sign(Purpose::Bound, binding, audiences, Some(expires), now)
    }

    /// Signs a token that lies in a secret and is good as long as it does.
    pub fn issue_for_secret(&self, binding: Binding, now: Timestamp) -> Result<Issued, SignError> {
        self.sign(Purpose::Secret, binding, &self.audiences, None, now)
    }

    fn sign(
        &self,
        purpose: Purpose,
        binding: Binding,
        audiences: &[String],
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Issued, SignError> {
        let ring = self.ring();
        let key = ring.signer(purpose, now).ok_or(SignError::NoKey)?;
        let Binding { private } = binding;
        let id = uuid::Uuid::new_v4().to_string();
        let claims = Claims {
            aud: audiences.to_vec(),
            exp: expires.map(Timestamp::as_second),
            iat: now.as_second(),
            iss: self.issuer.clone(),
            jti: id.clone(),
            nbf: now.as_second(),
            sub: subject(&private.namespace, &private.serviceaccount.name),
            private,
        };
        let header = Header { typ: None, kid: Some(key.id.clone()), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &claims, &key.signs)?;
        if token.len() > LONGEST_TOKEN {
            return Err(SignError::TooLong);
        }
        Ok(Issued { token, id, expires })
    }

    /// Whose a token is that is shown to the API itself.
    pub fn authenticate(&self, snapshot: &Snapshot, token: &str, now: Timestamp) -> Result<User, Refusal> {
        self.review(snapshot, token, &self.audiences, now).map(|(user, _)| user)
    }

    /// Whose a token is that is shown to one of these audiences, and to which of them it may be.
    pub fn review(
        &self,
        snapshot: &Snapshot,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(User, Vec<String>), Refusal> {
        let Read { claims, purpose } = self.read(token)?;
        let audiences = judge(&claims, &self.issuer, purpose, audiences, now)?;
        Ok((user(snapshot, &claims, purpose, token, now)?, audiences))
    }

    /// What a token says, if a key of ours has signed it. Nothing of it is believed before.
    fn read(&self, token: &str) -> Result<Read, Refusal> {
        if token.len() > LONGEST_TOKEN {
            return Err(Refusal::TooLong(LONGEST_TOKEN));
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(read) = self.verified.lock().find(&hash) {
            return Ok(read);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Malformed)?;
        let ring = self.ring();
        let key = header.kid.as_deref().and_then(|id| ring.find(id)).ok_or(Refusal::Foreign)?;
        if header.alg != Algorithm::ES256 {
            return Err(Refusal::Foreign);
        }
        let mut validation = Validation::new(Algorithm::ES256);
        // These are judged by us, with our clock and our words.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.verifies, &validation);
        let claims = Arc::new(decoded.map_err(|_| Refusal::Malformed)?.claims);
        let read = Read { claims, purpose: key.purpose };
        self.verified.lock().keep(hash, read.clone());
        Ok(read)
    }

    /// `/.well-known/openid-configuration`.
    pub fn configuration(&self) -> Value {
        discovery::configuration(&self.issuer)
    }

    /// `/openid/v1/jwks`.
    pub fn key_set(&self) -> Value {
        discovery::key_set(&self.ring())
    }
}
