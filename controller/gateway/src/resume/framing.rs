//! Where requests and responses end on a client's connection, and which requests may be repeated. Pure.
//!
//! hyper alone decides what a message is. This looks at as much of it as it takes to leave a request in the
//! kernel; where both could differ, or the end cannot be known beforehand, the connection is not held.

/// What the head of a request says about the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Repeating it does no harm (RFC 9110, 9.2.2): idempotent, with a body of so many bytes.
    Repeatable(u64),
    /// It must reach a backend once at most; a body of so many bytes follows.
    Once(u64),
    /// Its end is not known beforehand, or it turns the connection into something else.
    Endless,
}

/// The length of the message head at the start of `bytes`, up to and with its empty line; of a request's, with
/// empty lines before it. The first `seen` bytes are known to hold no end of it.
pub(super) fn head_length(bytes: &[u8], seen: usize) -> Option<usize> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let mut at = start.max(seen.saturating_sub(3));
    // An empty line is a line's end behind a line's end; both may lack the carriage return.
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Classifies a whole head.
pub(super) fn classify(head: &[u8]) -> Kind {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let method = lines.next().and_then(|line| line.split(|byte| *byte == b' ').next()).unwrap_or_default();
    let mut repeatable = matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
    if method == b"CONNECT" {
        return Kind::Endless;
    }
    let mut length = None;
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Kind::Endless };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // By length first: most fields are none of these.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => match (parse(value), length) {
                (Some(value), None) => length = Some(value),
                (Some(value), Some(earlier)) if value == earlier => {}
                _ => return Kind::Endless,
            },
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return Kind::Endless,
            7 if name.eq_ignore_ascii_case(b"upgrade") => return Kind::Endless,
            // An interim response comes before the body: not a single byte may be written twice.
            6 if name.eq_ignore_ascii_case(b"expect") => repeatable = false,
            _ => {}
        }
    }
    let length = length.unwrap_or(0);
    if repeatable { Kind::Repeatable(length) } else { Kind::Once(length) }
}

fn parse(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(head: &str) -> Kind {
        assert_eq!(head_length(head.as_bytes(), 0), Some(head.len()), "{head:?}");
        classify(head.as_bytes())
    }

    #[test]
    fn what_may_be_repeated() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert_eq!(kind(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")), Kind::Repeatable(0));
        }
        assert_eq!(kind("PUT /x HTTP/1.1\r\nhost: a\r\nContent-LENGTH:  12 \r\n\r\n"), Kind::Repeatable(12));
        assert_eq!(kind("\r\n\nGET / HTTP/1.0\n\n"), Kind::Repeatable(0));
    }

    #[test]
    fn what_may_not() {
        for method in ["POST", "PATCH", "get", "X"] {
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
            assert_eq!(kind(&head), Kind::Once(7));
        }
        let expects = "PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
        assert_eq!(kind(expects), Kind::Once(9));
    }

    #[test]
    fn what_has_no_end_that_is_known() {
        for field in [
            "Transfer-Encoding: chunked",
            "upgrade: websocket",
            "content-length: 1\r\ncontent-length: 2",
            "content-length: +1",
            "content-length:",
            "content-length: 99999999999999999999",
            "no colon",
        ] {
            assert_eq!(
                kind(&format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n")),
                Kind::Endless,
                "{field}"
            );
        }
        assert_eq!(kind("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n"), Kind::Endless);
    }

    proptest! {
        /// However the bytes arrive, the end is found at the same place.
        #[test]
        fn the_end_is_found_in_any_portions(
            lines in prop::collection::vec("[!-9;-~][ -~]{0,12}", 1..6),
            bare in prop::collection::vec(any::<bool>(), 7),
            rest in "[ -~\r\n]{0,20}",
            cuts in prop::collection::vec(1usize..9, 0..30),
        ) {
            let mut text = String::new();
            for (index, line) in lines.iter().map(String::as_str).chain([""]).enumerate() {
                text.push_str(line);
                text.push_str(if bare[index] { "\n" } else { "\r\n" });
            }
            let whole = text.len();
            text.push_str(&rest);
            let bytes = text.as_bytes();
            let mut seen = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                let end = (seen + cut).min(bytes.len());
                let found = head_length(&bytes[..end], seen);
                prop_assert_eq!(found, (end >= whole).then_some(whole));
                if found.is_some() {
                    break;
                }
                seen = end;
            }
        }
    }
}
