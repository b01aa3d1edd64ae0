//! The keys: P-256, made by the controller, kept sealed in the store.
//!
//! One key signs tokens that expire; every [`ROTATE_AFTER`] another takes its place. It is published [`PUBLISHED_BEFORE`]
//! it signs, so that those who hold the list of keys for a while know it in time, and is forgotten when the last token
//! that it may have signed has expired. Another key signs the tokens that lie in secrets: these end with their secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{DecodingKey, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::resources::SIGNINGKEYS;

/// The longest that a token is good which expires.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
const ROTATE_AFTER: SignedDuration = SignedDuration::from_hours(90 * 24);
const PUBLISHED_BEFORE: SignedDuration = SignedDuration::from_hours(24);

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What is stored is no key.
    #[error("the stored signing key {0} is damaged ({1}): restore the data directory from a backup")]
    Damaged(String, String),
    /// None could be made.
    #[error("cannot make a signing key: {0}")]
    Generate(#[from] rcgen::Error),
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Tokens that expire.
    Bound,
    /// Tokens that lie in secrets.
    Secret,
}

/// A key as the store keeps it.
#[derive(Deserialize)]
struct Stored {
    purpose: Purpose,
    created: String,
    /// PKCS#8, in base64.
    key: String,
}

/// A key that signs and verifies.
pub struct SigningKey {
    /// What the header of its tokens calls it.
    pub id: String,
    /// What it signs.
    pub purpose: Purpose,
    pub(crate) created: Timestamp,
    pub(crate) signs: EncodingKey,
    pub(crate) verifies: DecodingKey,
    /// The two halves of its public point.
    pub(crate) point: (Vec<u8>, Vec<u8>),
    der: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, purpose, created, .. } = self;
        write!(f, "SigningKey({id}, {purpose:?}, {created})")
    }
}

impl SigningKey {
    /// A new one.
    pub fn generate(purpose: Purpose, now: Timestamp) -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Self::of(&pair, purpose, now).map_err(|why| KeyError::Damaged("made now".into(), why))
    }

    fn of(pair: &KeyPair, purpose: Purpose, created: Timestamp) -> Result<Self, String> {
        let public = pair.public_key_raw();
        // An uncompressed point: 4, and two numbers of 32 bytes.
        let [4, halves @ ..] = public else { return Err("it is no key of P-256".into()) };
        let (x, y) =
            halves.split_at_checked(32).filter(|(_, y)| y.len() == 32).ok_or("it is no key of P-256")?;
        let encoded = |half: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(half);
        let verifies =
            DecodingKey::from_ec_components(&encoded(x), &encoded(y)).map_err(|error| error.to_string())?;
        let id = Sha256::digest(public).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let der = pair.serialize_der();
        let (signs, point) = (EncodingKey::from_ec_der(&der), (x.to_vec(), y.to_vec()));
        Ok(Self { id, purpose, created, signs, verifies, point, der })
    }

    /// Where it is stored.
    pub fn key(&self) -> Key {
        Key::new(SIGNINGKEYS, "", &self.id)
    }

    /// What is stored of it.
    pub fn to_value(&self) -> Value {
        let Self { id, purpose, created, der, .. } = self;
        json!({
            "metadata": {"name": id},
            "spec": {"purpose": purpose, "created": created.to_string(), "key": STANDARD.encode(der)},
        })
    }

    fn from_object(object: &Object) -> Result<Self, KeyError> {
        let damaged = |why: String| KeyError::Damaged(object.key.name.to_string(), why);
        let stored =
            Stored::deserialize(&object.value["spec"]).map_err(|error| damaged(error.to_string()))?;
        let der = STANDARD.decode(&stored.key).map_err(|error| damaged(error.to_string()))?;
        let pair = KeyPair::try_from(der.as_slice()).map_err(|error| damaged(error.to_string()))?;
        let created = stored.created.parse().map_err(|error: jiff::Error| damaged(error.to_string()))?;
        let key = Self::of(&pair, stored.purpose, created).map_err(damaged)?;
        if *key.id == *object.key.name { Ok(key) } else { Err(damaged("it has the name of another".into())) }
    }
}

/// All keys of a cluster, in the order in which they were made.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<SigningKey>,
}

impl KeyRing {
    /// Those that a state holds.
    pub fn of(snapshot: &Snapshot) -> Result<Self, KeyError> {
        let keys = snapshot.list(SIGNINGKEYS).map(|object| SigningKey::from_object(object));
        Ok(Self::from_keys(keys.collect::<Result<_, _>>()?))
    }

    /// These.
    pub fn from_keys(mut keys: Vec<SigningKey>) -> Self {
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Self { keys }
    }

    /// Those that verify, in the order in which they were made.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    #[cfg(test)]
    pub(crate) fn into_keys(self) -> Vec<SigningKey> {
        self.keys
    }

    pub(crate) fn find(&self, id: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    fn of_purpose(&self, purpose: Purpose) -> impl DoubleEndedIterator<Item = &SigningKey> {
        self.keys.iter().filter(move |key| key.purpose == purpose)
    }

    /// The key that signs now: the newest that has been published for long enough, or else the first one.
    pub(crate) fn signer(&self, purpose: Purpose, now: Timestamp) -> Option<&SigningKey> {
        let known = |key: &&SigningKey| now.duration_since(key.created) >= PUBLISHED_BEFORE;
        self.of_purpose(purpose).rev().find(known).or_else(|| self.of_purpose(purpose).next())
    }

    /// Which kinds of keys are to be made now: those that there are none of, and the successor of one that is old.
    pub fn missing(&self, now: Timestamp) -> Vec<Purpose> {
        let is_missing = |purpose: &Purpose| match self.of_purpose(*purpose).next_back() {
            None => true,
            Some(newest) => *purpose == Purpose::Bound && now.duration_since(newest.created) >= ROTATE_AFTER,
        };
        [Purpose::Bound, Purpose::Secret].into_iter().filter(is_missing).collect()
    }

    /// The keys of which no token is good any more.
    pub fn outlived(&self, now: Timestamp) -> Vec<&SigningKey> {
        let bound: Vec<&SigningKey> = self.of_purpose(Purpose::Bound).collect();
        let pairs = bound.windows(2).filter_map(|pair| match pair {
            [key, successor] => Some((*key, *successor)),
            _ => None,
        });
        let last = PUBLISHED_BEFORE.saturating_add(LONGEST);
        pairs
            .filter(|(_, successor)| now.duration_since(successor.created) > last)
            .map(|(key, _)| key)
            .collect()
    }
}
