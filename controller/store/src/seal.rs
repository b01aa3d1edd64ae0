//! Envelope encryption of objects that must not lie readable on a disk.
//!
//! ```text
//!  v1:KEKID: │ nonce 24 │ data key, wrapped 32+16 │ nonce 24 │ JSON, sealed n+16
//! ```
//!
//! Each value has a random data key, wrapped by the key-encryption key of the key file. The wrapping is bound to
//! the object's key and the KEK's name, the content to the object's key and revision: values cannot be exchanged.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use zeroize::Zeroizing;

use crate::{
    Key,
    keys::{self, KeyId},
};

/// Resources whose objects are sealed.
const SEALED: [&str; 3] = ["secrets", "signingkeys.warren.internal", "tokens.warren.internal"];
const NONCE: usize = 24;
const WRAPPED: usize = 32 + 16;

/// Whether objects of this key's resource are sealed.
pub(crate) fn is_sealed(key: &Key) -> bool {
    SEALED.contains(&&*key.resource)
}

fn prefix(id: KeyId) -> String {
    format!("v1:{id}:")
}

fn name(key: &Key) -> String {
    [&*key.resource, &*key.namespace, &*key.name].join("\0")
}

/// What the wrapped data key is bound to.
fn binding(key: &Key, id: KeyId) -> Vec<u8> {
    format!("{}\0{id}", name(key)).into_bytes()
}

/// What the content is bound to.
fn content_binding(key: &Key, revision: u64) -> Vec<u8> {
    format!("{}\0{revision}", name(key)).into_bytes()
}

fn encrypt(secret: &[u8; 32], message: &[u8], bound_to: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = rand::random();
    let sealed = XChaCha20Poly1305::new(secret.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: message, aad: bound_to })
        .expect("a message is shorter than 256 GiB");
    [&nonce[..], &sealed].concat()
}

fn decrypt(secret: &[u8; 32], sealed: &[u8], bound_to: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, message) = sealed.split_at_checked(NONCE)?;
    let cipher = XChaCha20Poly1305::new(secret.into());
    let opened = cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: message, aad: bound_to });
    opened.ok().map(Zeroizing::new)
}

/// Seals a value under a data key of its own.
pub(crate) fn seal(kek: &keys::Key, key: &Key, revision: u64, plain: &[u8]) -> Vec<u8> {
    let data_key = Zeroizing::new(rand::random::<[u8; 32]>());
    let mut sealed = prefix(kek.id).into_bytes();
    sealed.extend(encrypt(&kek.secret, &data_key[..], &binding(key, kek.id)));
    sealed.extend(encrypt(&data_key, plain, &content_binding(key, revision)));
    sealed
}

/// Opens a sealed value.
pub(crate) fn open(
    kek: &keys::Key,
    key: &Key,
    revision: u64,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, String> {
    let rest = sealed.strip_prefix(prefix(kek.id).as_bytes()).ok_or_else(|| {
        format!("{key}: it is not sealed by the key {}, which is the one of this store", kek.id)
    })?;
    let opened = rest.split_at_checked(NONCE + WRAPPED).and_then(|(wrapped, content)| {
        let data_key = decrypt(&kek.secret, wrapped, &binding(key, kek.id))?;
        let data_key: Zeroizing<[u8; 32]> = Zeroizing::new(data_key.as_slice().try_into().ok()?);
        decrypt(&data_key, content, &content_binding(key, revision))
    });
    opened.ok_or_else(|| format!("{key}: what is stored was damaged, exchanged or sealed by another key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_in_its_place_and_undamaged() {
        let kek = keys::Key::generate();
        let key = Key::new("secrets", "default", "db");
        let plain = br#"{"data":{"password":"aHVudGVyMg=="}}"#;
        let sealed = seal(&kek, &key, 7, plain);
        assert_eq!(open(&kek, &key, 7, &sealed).expect("its place")[..], plain[..]);
        assert_ne!(seal(&kek, &key, 7, plain), sealed, "never twice the same");
        assert!(!sealed.windows(8).any(|window| plain.windows(8).any(|other| window == other)));
        assert!(open(&kek, &key, 8, &sealed).is_err(), "another revision");
        assert!(open(&kek, &Key::new("secrets", "default", "dc"), 7, &sealed).is_err(), "another object");
        let same_name = keys::Key { id: kek.id, secret: keys::Key::generate().secret };
        assert!(open(&same_name, &key, 7, &sealed).is_err(), "another key of the same name");
        assert!(
            open(&keys::Key::generate(), &key, 7, &sealed).expect_err("another key").contains("not sealed")
        );
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            assert!(open(&kek, &key, 7, &damaged).is_err(), "byte {index}");
            assert!(open(&kek, &key, 7, &sealed[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn secrets_and_tokens_are_sealed_and_nothing_else_is() {
        for (resource, sealed) in [
            ("secrets", true),
            ("tokens.warren.internal", true),
            ("signingkeys.warren.internal", true),
            ("configmaps", false),
            ("secretsx", false),
        ] {
            assert_eq!(is_sealed(&Key::new(resource, "a", "b")), sealed, "{resource}");
        }
    }
}
