//! Names and identifiers that are the same for the same parts: whoever makes an object twice makes the same one.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

/// The letters of generated names: no vowels, so no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn digest<'p>(parts: impl IntoIterator<Item = &'p str>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A UUID in the shape of version 4.
pub fn uuid(parts: &[&str]) -> String {
    let mut bytes = digest(parts.iter().copied());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |range: Range<usize>| hex(&bytes[range]);
    format!("{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

/// Sixteen hexadecimal digits.
pub(crate) fn hex16<'p>(parts: impl IntoIterator<Item = &'p str>) -> String {
    hex(&digest(parts)[..8])
}

/// `length` (at most 32) letters.
pub fn letters(parts: &[&str], length: usize) -> String {
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    digest(parts.iter().copied()).iter().take(length).map(letter).collect()
}
