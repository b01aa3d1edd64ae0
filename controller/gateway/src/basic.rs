//! Basic authentication (RFC 7617) against a list of users as `htpasswd` writes it.
//!
//! A check may cost a tenth of a second by design, so it happens beside the threads that serve, a few at a time, and
//! what was right once is remembered for as long as the list is in force.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

/// The most that a check by bcrypt may cost: 2^12 rounds, a quarter of a second.
const MAX_COST: u32 = 12;
/// Checks at a time, in all.
const CHECKS: usize = 4;
/// Requests that wait for one.
const WAITING: usize = 256;
/// Right answers that are remembered, for each list.
const REMEMBERED: usize = 4096;
/// The longest name and password.
const LONGEST: usize = 1024;

static CHECKING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(CHECKS));
static QUEUE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(WAITING));
/// So that what is remembered says nothing to anybody else.
static SALT: LazyLock<[u8; 32]> = LazyLock::new(rand::random);

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// No credentials, or wrong ones.
    Wrong,
    /// Too many others are being checked.
    Busy,
}

/// A list of users.
#[derive(Default)]
pub(crate) struct Users {
    hashes: HashMap<String, Hash>,
    passed: Mutex<HashSet<[u8; 32]>>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("count", &self.hashes.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hash {
    Bcrypt(String),
    Apr1 { salt: String, hash: String },
    Sha1(Vec<u8>),
}

impl Users {
    /// Reads a list; the second value names the users who cannot pass, and why.
    pub(crate) fn parse(text: &[u8]) -> (Self, Vec<String>) {
        let text = String::from_utf8_lossy(text);
        let (mut hashes, mut problems) = (HashMap::new(), Vec::new());
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let Some((name, hash)) = line.split_once(':') else {
                problems.push("a line without a colon".to_owned());
                continue;
            };
            match Hash::parse(hash) {
                Ok(hash) => drop(hashes.insert(name.to_owned(), hash)),
                Err(problem) => problems.push(format!("user {name:?}: {problem}")),
            }
        }
        (Self { hashes, passed: Mutex::default() }, problems)
    }

    /// Judges the value of an `Authorization` header.
    pub(crate) async fn check(&self, authorization: Option<&HeaderValue>) -> Verdict {
        let Some((name, password)) = authorization.and_then(credentials) else { return Verdict::Wrong };
        let seal = seal(&name, &password);
        if self.passed.lock().contains(&seal) {
            return Verdict::Passed;
        }
        // A stranger takes as long as a user, so that names cannot be found out.
        let (known, hash) = match self.hashes.get(&name) {
            Some(hash) => (true, hash),
            None => match self.hashes.values().next() {
                Some(hash) => (false, hash),
                None => return Verdict::Wrong,
            },
        };
        let Ok(_place) = QUEUE.try_acquire() else { return Verdict::Busy };
        let Ok(_turn) = CHECKING.acquire().await else { return Verdict::Busy };
        let hash = hash.clone();
        let right = tokio::task::spawn_blocking(move || hash.is_of(&password)).await.unwrap_or(false);
        if !(known && right) {
            return Verdict::Wrong;
        }
        let mut passed = self.passed.lock();
        if passed.len() >= REMEMBERED {
            passed.clear();
        }
        passed.insert(seal);
        Verdict::Passed
    }
}

fn credentials(authorization: &HeaderValue) -> Option<(String, String)> {
    let (scheme, token) = authorization.to_str().ok()?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let token = token.trim();
    let bytes = (token.len() <= 2 * LONGEST).then(|| STANDARD.decode(token).ok())??;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn seal(name: &str, password: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(*SALT);
    hasher.update((name.len() as u64).to_be_bytes());
    hasher.update(name);
    hasher.update(password);
    hasher.finalize().into()
}

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(hash) = text.strip_prefix("{SHA}") {
            let hash = STANDARD.decode(hash).map_err(|_| "its {SHA} hash is malformed".to_owned())?;
            return Ok(Self::Sha1(hash));
        }
        if let Some(rest) = text.strip_prefix("$apr1$") {
            let (salt, hash) = rest.split_once('$').ok_or("its $apr1$ hash is malformed")?;
            let salt = salt.get(..8).unwrap_or(salt).to_owned();
            return Ok(Self::Apr1 { salt, hash: hash.to_owned() });
        }
        if ["$2y$", "$2a$", "$2b$"].iter().any(|prefix| text.starts_with(prefix)) {
            let cost = text.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
            return match cost {
                Some(cost @ 4..=MAX_COST) if text.len() == 60 => {
                    let _ = cost;
                    Ok(Self::Bcrypt(text.to_owned()))
                }
                Some(cost) if cost > MAX_COST => {
                    Err(format!("its bcrypt hash costs 2^{cost} rounds; at most 2^{MAX_COST} are allowed"))
                }
                _ => Err("its bcrypt hash is malformed".to_owned()),
            };
        }
        Err("its hash is none of bcrypt ($2y$), $apr1$ and {SHA}: make it with `htpasswd -B`".to_owned())
    }

    fn is_of(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Apr1 { salt, hash } => same(apr1(password, salt).as_bytes(), hash.as_bytes()),
            Self::Sha1(hash) => same(&sha1::Sha1::digest(password), hash),
        }
    }
}

/// Compares in a time that does not depend on where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Apache's variant of the MD5 password hash: only what comes after the salt.
fn apr1(password: &str, salt: &str) -> String {
    use md5::Md5;

    let (password, salt) = (password.as_bytes(), salt.as_bytes());
    let digest = |parts: &[&[u8]]| -> [u8; 16] {
        let mut hasher = Md5::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize().into()
    };
    let inner = digest(&[password, salt, password]);
    let mut hasher = Md5::new();
    hasher.update(password);
    hasher.update(b"$apr1$");
    hasher.update(salt);
    for piece in password.chunks(16) {
        hasher.update(&inner[..piece.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        hasher.update(if bits & 1 == 1 { &[0][..] } else { password.get(..1).unwrap_or_default() });
        bits >>= 1;
    }
    let mut hash: [u8; 16] = hasher.finalize().into();
    for round in 0..1000 {
        let first: &[u8] = if round & 1 == 1 { password } else { &hash };
        let last: &[u8] = if round & 1 == 1 { &hash } else { password };
        let salt = if round % 3 == 0 { &[][..] } else { salt };
        let again = if round % 7 == 0 { &[][..] } else { password };
        hash = digest(&[first, salt, again, last]);
    }
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(22);
    let mut push = |mut bits: u32, count: usize| {
        for _ in 0..count {
            text.push(LETTERS[(bits & 63) as usize] as char);
            bits >>= 6;
        }
    };
    for at in 0..5 {
        let last = if at == 4 { 5 } else { 12 + at };
        push(u32::from(hash[at]) << 16 | u32::from(hash[6 + at]) << 8 | u32::from(hash[last]), 4);
    }
    push(u32::from(hash[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, password: &str) -> HeaderValue {
        let token = STANDARD.encode(format!("{name}:{password}"));
        HeaderValue::try_from(format!("Basic {token}")).expect("a value")
    }

    #[test]
    fn apr1_is_what_openssl_makes_of_it() {
        // openssl passwd -apr1 -salt SALT PASSWORD
        assert_eq!(apr1("password", "lZL6V/ci"), "eIMz/iKDkbtys/uU7LEK00");
        assert_eq!(apr1("password", "RandSalt"), "PgCXHRrkpSt4cbyC2C6bm/");
    }

    #[tokio::test]
    async fn every_kind_of_hash_is_checked() {
        let bcrypt = bcrypt::hash("blue", 4).expect("a hash");
        let list = format!(
            "# users\nanna:{bcrypt}\nbert:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n\ncleo:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"
        );
        let (users, problems) = Users::parse(list.as_bytes());
        assert_eq!(problems, Vec::<String>::new());
        for (name, password) in [("anna", "blue"), ("bert", "password"), ("cleo", "password")] {
            assert_eq!(users.check(Some(&header(name, password))).await, Verdict::Passed, "{name}");
            assert_eq!(
                users.check(Some(&header(name, password))).await,
                Verdict::Passed,
                "{name}, remembered"
            );
            assert_eq!(users.check(Some(&header(name, "wrong"))).await, Verdict::Wrong, "{name}");
        }
        assert_eq!(users.passed.lock().len(), 3);
        for header in [
            header("dora", "password"),
            header("", ""),
            HeaderValue::from_static("Bearer x"),
            HeaderValue::from_static("Basic ?"),
        ] {
            assert_eq!(users.check(Some(&header)).await, Verdict::Wrong, "{header:?}");
        }
        assert_eq!(users.check(None).await, Verdict::Wrong);
        assert_eq!(Users::default().check(Some(&header("a", "b"))).await, Verdict::Wrong);
    }

    #[test]
    fn what_cannot_be_checked_is_named_and_its_password_is_not() {
        let (users, problems) =
            Users::parse(b"a:plain-secret\nb:$2y$31$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuuabcdefghijklm\nno-colon\nc:$6$salt$hash\nd:$2y$10$short");
        assert!(users.hashes.is_empty());
        assert_eq!(problems.len(), 5);
        assert!(problems[1].contains("at most 2^12"), "{problems:?}");
        assert!(!problems.join(" ").contains("plain-secret"), "{problems:?}");
    }
}
