//! Other paths for backends: `nginx.ingress.kubernetes.io/rewrite-target`. Pure.

use regex::{Regex, RegexBuilder};

use crate::path;

/// Bytes of a compiled pattern, and of the cache of its search.
const SIZE: usize = 256 << 10;
/// Characters of a pattern.
const LONGEST: usize = 1024;
/// Bytes of a rewritten path: more than any request's target has.
const LONGEST_PATH: usize = 16 << 10;

/// Compiles a rule's path as a regular expression: anchored where paths begin, whatever the case, as ingress-nginx
/// documents. Matching takes time in proportion to the path, whatever the pattern.
pub(crate) fn pattern(path: &str) -> Result<Regex, String> {
    if path.len() > LONGEST {
        return Err(format!("a regular expression of more than {LONGEST} bytes"));
    }
    RegexBuilder::new(&format!("^(?:{path})"))
        .case_insensitive(true)
        .size_limit(SIZE)
        .dfa_size_limit(SIZE)
        .nest_limit(32)
        .build()
        .map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
}

/// What becomes of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rewrite(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Rewrite {
    /// `$1` to `$9` stand for the groups of the rule's regular expression.
    pub(crate) fn parse(target: &str) -> Self {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut letters = target.chars().peekable();
        while let Some(letter) = letters.next() {
            match letters.peek().and_then(|next| next.to_digit(10)) {
                Some(group) if letter == '$' => {
                    letters.next();
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(Piece::Group(group as usize));
                }
                _ => text.push(letter),
            }
        }
        pieces.push(Piece::Text(text));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Self(pieces)
    }

    /// The path and query that a backend gets; the client's query is added.
    pub(crate) fn apply(&self, judged: &str, query: Option<&str>, pattern: Option<&Regex>) -> String {
        let groups = pattern.and_then(|pattern| pattern.captures(judged));
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => text.bytes().for_each(|byte| path::push_target_byte(&mut path, byte)),
                Piece::Group(group) => {
                    let found = groups.as_ref().and_then(|groups| groups.get(*group));
                    path::push_escaped_path(&mut path, found.map_or("", |found| found.as_str()));
                }
            }
            if path.len() > LONGEST_PATH {
                break;
            }
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        if let Some(query) = query {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(query);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(rule: &str, target: &str, path: &str, query: Option<&str>) -> String {
        let pattern = pattern(rule).expect("a pattern");
        Rewrite::parse(target).apply(path, query, Some(&pattern))
    }

    #[test]
    fn groups_are_put_in() {
        for (rule, target, path, query, expected) in [
            // The example of the documentation.
            ("/something(/|$)(.*)", "/$2", "/something", None, "/"),
            ("/something(/|$)(.*)", "/$2", "/something/", None, "/"),
            ("/something(/|$)(.*)", "/$2", "/something/new", Some("a=b"), "/new?a=b"),
            ("/SomeThing(/|$)(.*)", "/api/$2?from=$1", "/something/x", Some("a=b"), "/api/x?from=/&a=b"),
            ("/a/(.*)", "/$1$7", "/a/b c?d#e\"", None, "/b%20c%3Fd%23e%22"),
            ("/a", "$", "/a", None, "/$"),
            ("/(.*)", "$1", "/x", None, "/x"),
        ] {
            assert_eq!(rewritten(rule, target, path, query), expected, "{rule} {target} {path}");
        }
        assert_eq!(Rewrite::parse("/new").apply("/old/path", Some("q"), None), "/new?q");
        assert_eq!(Rewrite::parse("/$1").apply("/old/path", None, None), "/");
    }

    #[test]
    fn patterns_are_anchored_bounded_and_named_when_wrong() {
        let pattern = pattern("/a|/b").expect("a pattern");
        assert!(pattern.is_match("/A/x") && pattern.is_match("/b") && !pattern.is_match("/c/a"));
        for wrong in ["/(", "/[z-a]", "/(a{1000}){1000}", &"(".repeat(100), &"a".repeat(2000)] {
            assert!(super::pattern(wrong).is_err(), "{}", &wrong[..wrong.len().min(40)]);
        }
    }
}
