//! Image names.

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
        if let Some(digest) = digest
            && !digest
                .split_once(':')
                .is_some_and(|(_, hex)| hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return bad("the digest is not ALGORITHM:HEX");
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.bytes().all(word)) {
            return bad("the tag must be letters, digits, '.', '_' or '-'");
        }
        // The registry may have upper case letters and a port, the path may not.
        let (registry, path) = match repository.split_once('/') {
            Some((head, path)) if head.contains(['.', ':']) || head == "localhost" => (Some(head), path),
            _ => (None, repository),
        };
        let part = |part: &str| {
            part.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
                && part.bytes().all(|byte| word(byte) && !byte.is_ascii_uppercase())
        };
        if !path.split('/').all(part)
            || registry.is_some_and(|registry| registry.bytes().any(|b| b.is_ascii_whitespace()))
        {
            return bad("the repository must be lower case words joined by '/'");
        }
        let tag = digest.or(tag).unwrap_or("latest").to_owned();
        Ok(Self { repository: repository.to_owned(), tag })
    }
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
        for image in ["", "Nginx", "a b", "nginx:", "nginx:a/b:c:d", "a//b", "/a", "a@sha256:12", ":tag"] {
            let error = ImageName::parse(image).expect_err(image);
            assert!(error.contains("expected [REGISTRY/]NAME"), "{error}");
        }
    }
}
