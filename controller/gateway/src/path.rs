//! The path of a request: what is judged by the rules, and what is passed on. Pure.
//!
//! The two must not differ in meaning, or a rule that protects `/admin` is passed by spelling it otherwise. So dot
//! segments are resolved (RFC 3986, 5.2.4) and needless escapes are undone (6.2.2.2) in what is passed on, and rules
//! are compared with a form in which nothing is escaped that could be written plainly, and no element is empty.
//! What a backend may read in two ways is refused.

use std::{borrow::Cow, fmt::Write as _};

/// A path that may be judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Normal<'a> {
    /// What backends get.
    pub(crate) passed: Cow<'a, str>,
    /// What rules are compared with. ASCII.
    pub(crate) judged: Cow<'a, str>,
}

/// Normalises the path of a request. An error says what is wrong with it.
pub(crate) fn normalise(path: &str) -> Result<Normal<'_>, &'static str> {
    if is_plain(path.as_bytes()) {
        return Ok(Normal { passed: Cow::Borrowed(path), judged: Cow::Borrowed(path) });
    }
    if !path.starts_with('/') {
        return Err("the target is neither a path nor an URL");
    }
    let unescaped = unescape(path)?;
    let mut elements: Vec<&str> = Vec::new();
    let mut rest = unescaped.split('/').skip(1).peekable();
    while let Some(element) = rest.next() {
        match element {
            "." | ".." => {
                if element == ".." {
                    elements.pop();
                }
                if rest.peek().is_none() {
                    elements.push("");
                }
            }
            _ if is_ambiguous(element) => {
                return Err("the path contains dot segments that are disguised");
            }
            _ => elements.push(element),
        }
    }
    let mut passed = String::with_capacity(path.len());
    for element in &elements {
        passed.push('/');
        passed.push_str(element);
    }
    if passed.is_empty() {
        passed.push('/');
    }
    let judged = judged(&passed);
    Ok(Normal { passed: Cow::Owned(passed), judged: Cow::Owned(judged) })
}

/// The path of a rule in the form in which requests are judged. A slash at the end stays.
pub(crate) fn of_rule(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        push_target_byte(&mut encoded, byte);
    }
    judged(&encoded)
}

/// No escape, no dot behind a slash, no empty element, nothing that others take for a slash; the usual case.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.first() == Some(&b'/')
        && path.iter().all(|byte| {
            let odd =
                matches!(byte, b'%' | b'\\' | 0x80..) || (before == b'/' && matches!(byte, b'.' | b'/'));
            before = *byte;
            !odd
        })
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Undoes the escapes of unreserved bytes; the others get capital digits. NUL is refused: it ends paths elsewhere.
fn unescape(path: &str) -> Result<String, &'static str> {
    let mut text = String::with_capacity(path.len());
    let mut strays = Vec::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        match escaped(&rest.as_bytes()[at..]) {
            Some(0) => return Err("the path contains an escaped NUL"),
            Some(byte) if is_unreserved(byte) => text.push(byte as char),
            Some(byte) => push_escape(&mut text, byte),
            None => {
                // No escape at all; backends get it as it is.
                strays.push(text.len());
                text.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        }
        rest = &rest[at + 3..];
    }
    text.push_str(rest);
    // `%%32e` would come out as `%2e`, which a backend takes for a dot.
    if strays.iter().any(|at| escaped(&text.as_bytes()[*at..]).is_some()) {
        return Err("the path contains an escape that is itself escaped");
    }
    Ok(text)
}

/// The byte that an escape at the beginning stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    match text {
        [b'%', high, low, ..] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    }
}

fn push_escape(text: &mut String, byte: u8) {
    let _ = write!(text, "%{byte:02X}");
}

/// Whether a backend could find a dot segment in this element that we have not found: behind an escaped slash, a
/// backslash, or before parameters.
fn is_ambiguous(element: &str) -> bool {
    if !element.contains('.') {
        return false;
    }
    let element = element.replace("%2F", "/").replace("%5C", "/").replace('\\', "/");
    let several = element.contains('/');
    element.split('/').any(|part| {
        let (name, parameters) = part.split_once(';').map_or((part, false), |(name, _)| (name, true));
        matches!(name, "." | "..") && (several || parameters)
    })
}

/// What rules are compared with: every ASCII character plain, no empty elements.
fn judged(passed: &str) -> String {
    let mut judged = String::with_capacity(passed.len());
    let mut rest = passed.as_bytes();
    while let Some(first) = rest.first() {
        let (byte, length) = match escaped(rest) {
            Some(byte) if byte.is_ascii() && !byte.is_ascii_control() => (byte, 3),
            Some(byte) => {
                push_escape(&mut judged, byte);
                rest = &rest[3..];
                continue;
            }
            None => (*first, 1),
        };
        rest = &rest[length..];
        match byte {
            b'/' if judged.ends_with('/') => {}
            0x80.. => push_escape(&mut judged, byte),
            _ => judged.push(byte as char),
        }
    }
    judged
}

/// A byte of a request's target as URLs have it: what browsers send raw is escaped.
pub(crate) fn push_target_byte(text: &mut String, byte: u8) {
    if must_be_escaped(byte) { push_escape(text, byte) } else { text.push(byte as char) }
}

/// Whether a byte of a target is escaped on its way in: what the parser behind us refuses though clients send it.
/// Controls and spaces stay: they end targets, or make them malformed.
pub(crate) fn must_be_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

/// The text as a part of a path: escaped where it must be.
pub(crate) fn push_escaped_path(path: &mut String, text: &str) {
    for byte in text.bytes() {
        let plain = is_unreserved(byte) || b"/:@!$&'()*+,;=%".contains(&byte);
        if plain { path.push(byte as char) } else { push_escape(path, byte) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(path: &str) -> String {
        normalise(path).expect("a good path").passed.into_owned()
    }

    #[test]
    fn dot_segments_are_resolved_however_they_are_spelt() {
        for (path, expected) in [
            ("/public/../admin", "/admin"),
            ("/public/%2e%2e/admin", "/admin"),
            ("/public/.%2E/admin", "/admin"),
            ("/public/%2e/admin", "/public/admin"),
            ("/a/./b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/../../x", "/x"),
            ("/a//../b", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a%2Fb"),
            ("/...", "/..."),
            ("/.well-known/acme", "/.well-known/acme"),
            ("/a..b/..c/d..", "/a..b/..c/d.."),
            ("/100%", "/100%"),
            ("/%zz%2", "/%zz%2"),
            ("/%252e%252e/x", "/%252e%252e/x"),
            ("//a//b", "//a//b"),
            ("/v1.2;a=b/x", "/v1.2;a=b/x"),
        ] {
            assert_eq!(passed(path), expected, "{path}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for path in [
            "/public/..%2fadmin",
            "/public/..%2Fadmin",
            "/public%2f..%2fadmin",
            "/public/%2e%2e%2fadmin",
            "/public/..%5cadmin",
            "/public/..\\admin",
            "/a%2f..",
            "/a%5c.",
            "/public/..;/admin",
            "/public/..;x=y/admin",
            "/%2e%2e;/x",
            "/a%00b",
            "/public/%%32e%%32e/admin",
            "/%2%65%2%65/admin",
            "/%%61a",
        ] {
            assert!(normalise(path).is_err(), "{path}");
        }
    }

    #[test]
    fn rules_are_compared_with_what_a_backend_may_understand() {
        for (path, expected) in [
            ("//admin", "/admin"),
            ("/%61dmin%24", "/admin$"),
            ("/a%2Fb", "/a/b"),
            ("/group%2Fproject/x", "/group/project/x"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/plain/path", "/plain/path"),
        ] {
            assert_eq!(normalise(path).expect("a good path").judged, expected, "{path}");
        }
        assert_eq!(of_rule("/café/%61"), "/caf%C3%A9/a");
        assert_eq!(of_rule("/a/"), "/a/");
        assert_eq!(of_rule(""), "");
    }

    fn path() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "/", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", "a", "b", "%", "2", "%32",
            "%61", "%25", "//", "é", "%00",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// As a careless backend might read it: everything decoded, any slash, then resolved.
    fn careless(path: &str) -> String {
        let mut text = path.to_owned();
        for (from, to) in [
            ("%2E", "."),
            ("%2e", "."),
            ("%2F", "/"),
            ("%2f", "/"),
            ("%5C", "/"),
            ("%5c", "/"),
            ("\\", "/"),
            ("%61", "a"),
        ] {
            text = text.replace(from, to);
        }
        let mut elements = Vec::new();
        for element in text.split('/') {
            match element.split(';').next().unwrap_or_default() {
                ".." => drop(elements.pop()),
                "." => {}
                _ if element.is_empty() => {}
                _ => elements.push(element),
            }
        }
        elements.join("/")
    }

    proptest! {
        #[test]
        fn a_careless_backend_finds_no_dots_in_what_is_passed_on(path in path()) {
            if let Ok(normal) = normalise(&path) {
                let again = careless(&normal.passed);
                prop_assert!(!normal.passed.split('/').any(|element| matches!(element, "." | "..")));
                let plain: Vec<_> = normal.passed.replace("%2F", "/").replace("%5C", "/").replace('\\', "/")
                    .split('/').filter(|element| !element.is_empty()).map(str::to_owned).collect();
                prop_assert_eq!(again, plain.join("/"));
            }
        }

        #[test]
        fn to_normalise_twice_changes_nothing(path in path()) {
            if let Ok(first) = normalise(&path) {
                let second = normalise(&first.passed).expect("it was good");
                prop_assert_eq!(&first.passed, &second.passed);
                prop_assert_eq!(&first.judged, &second.judged);
            }
        }

        #[test]
        fn a_plain_path_is_left_alone(path in "(/[a-z0-9_-]{1,5}){1,4}/?") {
            prop_assert!(matches!(normalise(&path).expect("a good path").passed, Cow::Borrowed(_)));
        }
    }
}
