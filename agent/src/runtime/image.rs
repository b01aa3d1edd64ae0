//! Image names, by the grammar of Docker's own references.
//!
//! A name becomes part of a path of the engine's API: what is no name must not get there. Crates that know the grammar
//! bring regular expressions or whole registry clients along; it is a page.

use std::net::Ipv6Addr;

/// An image name, split as the engine's pull call wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// Registry and repository, as written.
    pub repository: String,
    /// `latest` when nothing was said; a digest (`sha256:…`) counts as a tag here.
    pub tag: String,
}

impl ImageName {
    /// Splits a name, or says what is wrong with it.
    pub fn parse(image: &str) -> Result<Self, String> {
        let bad = |rule: &str| {
            Err(format!(
                "image name \"{image}\" is invalid: {rule}; expected [REGISTRY/]NAME[:TAG|@DIGEST], lower case"
            ))
        };
        if image.is_empty() {
            return bad("it is empty");
        }
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to the registry's port.
        let last_slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[last_slash..].find(':') {
            Some(colon) => (&name[..last_slash + colon], Some(&name[last_slash + colon + 1..])),
            None => (name, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return bad("the digest is not ALGORITHM:HEX");
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return bad(
                "the tag must be letters, digits, '.', '_' or '-', and begin with none of the last two",
            );
        }
        // Docker takes the first part for a registry if it looks like one.
        let (registry, path) = match repository.split_once('/') {
            Some((head, path)) if head.contains(['.', ':']) || head == "localhost" => (Some(head), path),
            _ => (None, repository),
        };
        if registry.is_some_and(|registry| !is_registry(registry)) {
            return bad("the registry must be a host name or an address, with a port or without");
        }
        if repository.len() > LONGEST_REPOSITORY || !path.split('/').all(is_component) {
            return bad("the repository must be lower case words joined by '/'");
        }
        if path.len() == 64 && registry.is_none() && tag.is_none() && path.bytes().all(is_hex) {
            return bad("it is an image's identifier, not its name");
        }
        let tag = digest.or(tag).unwrap_or("latest").to_owned();
        Ok(Self { repository: repository.to_owned(), tag })
    }
}

/// As Docker counts: registry and path.
const LONGEST_REPOSITORY: usize = 255;

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Words of lower case letters and digits, with one '.', one or two '_', or any number of '-' between two of them.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|between| !between.is_empty());
    let ends_well = |byte: Option<u8>| byte.is_some_and(is_word);
    ends_well(text.bytes().next())
        && ends_well(text.bytes().last())
        && separators
            .into_iter()
            .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || b".-".contains(&byte))
}

/// `ALGORITHM:HEX`, where the algorithm may have several parts (`sha256+b64u`).
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['+', '.', '-', '_']).all(is_part)
        && hex.len() >= 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A host name, an IPv4 address or an IPv6 address in brackets; then a port or none.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => match rest.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if rest.is_empty() => (None, None),
            None => return false,
        },
        Some(_) => return false,
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let is_label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.is_none_or(|host| host.split('.').all(is_label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_where_docker_splits_them() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = format!("quay.io/a/b@{digest}");
        let pinned_and_tagged = format!("a:1@{digest}");
        let cases = [
            ("nginx", "nginx", "latest"),
            ("nginx:1.25", "nginx", "1.25"),
            ("a--b/c__d.e_f:_x", "a--b/c__d.e_f", "_x"),
            ("[fd00::1]:5000/web", "[fd00::1]:5000/web", "latest"),
            ("Registry.Example/web", "Registry.Example/web", "latest"),
            ("localhost:5000/web", "localhost:5000/web", "latest"),
            ("registry.example:5000/team/web:v1", "registry.example:5000/team/web", "v1"),
            (&pinned, "quay.io/a/b", &digest),
            (&pinned_and_tagged, "a", &digest),
        ];
        for (image, repository, tag) in cases {
            let name = ImageName::parse(image).expect(image);
            assert_eq!((name.repository.as_str(), name.tag.as_str()), (repository, tag), "{image}");
        }
    }

    #[test]
    fn a_bad_name_is_refused_with_the_rule() {
        let identifier = "0123456789abcdef".repeat(4);
        let long = format!("{}/a", "a".repeat(256));
        let colon_in_digest = format!("a@sha256:../{}", "ab".repeat(32));
        for image in [
            "",
            "Nginx",
            "a b",
            "nginx:",
            "nginx:a/b:c:d",
            "a//b",
            "/a",
            "a@sha256:12",
            ":tag",
            // What would lead elsewhere in the engine's API.
            "../containers/x",
            "..",
            "./a",
            "a/../b",
            "a/..",
            "a.b?x=y/c",
            "a#b",
            "a%2fb",
            "a.b%2f/c",
            "localhost:80:80/a",
            "a:b?c",
            "a.b/c\n",
            "a\n",
            "..:80/a",
            "[::1]x/a",
            "[::1/a",
            "-a.b/c",
            "a_/b",
            "a...b/c",
            "a._b",
            "a___b",
            "a/b-",
            "a:-x",
            "a:.x",
            &identifier,
            &long,
            &colon_in_digest,
            "é",
            "a@",
            "@sha256:00",
        ] {
            let error = ImageName::parse(image).expect_err(image);
            assert!(error.contains("expected [REGISTRY/]NAME"), "{error}");
        }
    }
}
