//! The member's own WireGuard key. It is made here and never leaves.

use std::{fmt, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use warren_proto::vocabulary::WireGuardKey;
use warren_runtime::identity::write_private;
use x25519_dalek::{PublicKey, StaticSecret};

/// The file inside of the state directory.
pub const FILE: &str = "wireguard.key";

/// A Curve25519 private key.
#[derive(Clone)]
pub struct PrivateKey([u8; 32]);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the private key of {}", self.public())
    }
}

impl PrivateKey {
    /// A new key.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The key of the member with this state directory; made when there is none.
    pub fn load_or_create(state: &Path) -> io::Result<Self> {
        let file = state.join(FILE);
        match std::fs::read_to_string(&file) {
            Ok(text) => Self::parse(&text).ok_or_else(|| {
                let reason = format!(
                    "{} holds no WireGuard key; remove it and the member gets a new one",
                    file.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, reason)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate();
                write_private(&file, format!("{}\n", STANDARD.encode(key.0)).as_bytes())
                    .map_err(io::Error::other)?;
                Ok(key)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text.trim()).ok()?.try_into().ok().map(Self)
    }

    /// The key that others know.
    pub fn public(&self) -> WireGuardKey {
        WireGuardKey(PublicKey::from(&self.secret()).to_bytes())
    }

    pub(super) fn secret(&self) -> StaticSecret {
        StaticSecret::from(self.0)
    }

    pub(super) fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let state = tempfile::tempdir().expect("a directory");
        let first = PrivateKey::load_or_create(state.path()).expect("made");
        let second = PrivateKey::load_or_create(state.path()).expect("read");
        assert_eq!(first.public(), second.public());
        let mode = std::fs::metadata(state.path().join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_not_replaced_silently() {
        let state = tempfile::tempdir().expect("a directory");
        std::fs::write(state.path().join(FILE), "nonsense").expect("written");
        let error = PrivateKey::load_or_create(state.path()).expect_err("damaged").to_string();
        assert!(error.contains("holds no WireGuard key"), "{error}");
    }

    #[test]
    fn a_key_never_shows_itself() {
        let key = PrivateKey([7; 32]);
        assert!(!format!("{key:?}").contains(&STANDARD.encode([7; 32])));
    }
}
