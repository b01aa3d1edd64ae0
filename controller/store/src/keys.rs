//! The key file: the key-encryption keys, outside of the store that they protect.
//!
//! ```text
//!  # comment
//!  1f0c9a2b 64-hexadecimal-digits
//! ```
//!
//! One key as a rule, two while a rotation is under way; the store says by which one it is sealed, so a rotation
//! that was interrupted is finished or undone by the next start, whichever the store shows.

use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

const FILE: &str = "secrets.key";
const HEAD: &str = "# Warren's key-encryption keys. Whoever has this file and the store can read every Secret.\n\
     # Without this file the store cannot be opened; every `warren backup` contains it.\n";

/// The name of a key; public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A key-encryption key.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

impl Key {
    pub(crate) fn generate() -> Self {
        Self { id: KeyId(rand::random()), secret: Zeroizing::new(rand::random()) }
    }

    fn parse(line: &str) -> Option<Self> {
        let (id, digits) = line.split_once(' ')?;
        let mut secret = Zeroizing::new([0; 32]);
        if id.len() != 8 || digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        for (index, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).ok()?;
        }
        Some(Self { id: KeyId(u32::from_str_radix(id, 16).ok()?), secret })
    }

    fn line(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(format!("{} ", self.id));
        for byte in self.secret.iter() {
            line.push_str(&format!("{byte:02x}"));
        }
        line.push('\n');
        line
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// Where the keys lie.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile {
    directory: PathBuf,
}

impl KeyFile {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// The keys in the file; `None` when there is no file.
    pub(crate) fn load(&self) -> Result<Option<Vec<Key>>, String> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("it cannot be read: {error}")),
        };
        if path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            tracing::warn!(path = %path.display(), "the key file was readable by others; making it private");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|error| format!("it is readable by others, and cannot be made private: {error}"))?;
        }
        parse(&text).map(Some)
    }

    /// Replaces the file, durably and in one step.
    pub(crate) fn save(&self, keys: &[&Key]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut text = Zeroizing::new(HEAD.to_owned());
        keys.iter().for_each(|key| text.push_str(&key.line()));
        let temporary = self.directory.join(format!("{FILE}.new"));
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.path())?;
        fs::File::open(&self.directory)?.sync_all()
    }
}

/// The keys of a key file's text.
pub(crate) fn parse(text: &str) -> Result<Vec<Key>, String> {
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let keys = lines
        .map(|(index, line)| Key::parse(line.trim()).ok_or_else(|| format!("line {} is no key", index + 1)))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err("it holds no key".to_owned()) } else { Ok(keys) }
}

/// A key file's text.
pub(crate) fn text(key: &Key) -> Zeroizing<String> {
    Zeroizing::new(format!("{HEAD}{}", *key.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_private_and_says_what_is_wrong_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = KeyFile::new(&directory.path().join("keys"));
        assert!(file.load().expect("absent").is_none());
        let (a, b) = (Key::generate(), Key::generate());
        file.save(&[&a, &b]).expect("written");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file.path()), mode(&file.directory)), (0o600, 0o700));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("made public");
        let keys = file.load().expect("readable").expect("there");
        assert_eq!(mode(&file.path()), 0o600);
        assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [a.id, b.id]);
        assert_eq!(*keys[1].secret, *b.secret);
        for bad in ["", "# only\n", "12345678 abc", "1234567 ", &format!("xyzxyzxy {}", "0".repeat(64))] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(!format!("{a:?}").contains(&a.line()[9..20]));
    }
}
