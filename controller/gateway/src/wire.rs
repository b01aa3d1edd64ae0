//! A client's connection as hyper is to see it: request targets in which what clients send raw is escaped, and an end
//! of patience with clients that take nothing.
//!
//! hyper refuses a target with `"`, `<`, `>`, a backtick, or bytes that are not UTF-8, which others pass on. So the
//! target is escaped before hyper reads it. To know where a target begins, this follows the messages of a connection;
//! an escape in the wrong place would move the end of a body, so at the first message whose end is not beyond doubt it
//! stops for good, and hyper judges the rest as it comes. HTTP/2 has no such bytes: its heads are compressed.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::Sleep;

use crate::path;

/// How long a client may take nothing of what there is for it.
const STALL: Duration = Duration::from_secs(300);
const SCRATCH: usize = 64 << 10;
/// Of a header line that comes in pieces, so much is kept: more than any line has that frames a message.
const LINE: usize = 64;

thread_local! {
    /// What was read; only used within one call.
    static BYTES: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// A client's connection.
pub(crate) struct Wire<I> {
    io: I,
    /// While it knows where it is.
    state: Option<ParseState>,
    head: Head,
    /// Became longer than hyper's buffer.
    spill: Vec<u8>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Wire<I> {
    /// For HTTP/1.
    pub(crate) fn http1(io: I) -> Self {
        Self { state: Some(ParseState::Start), ..Self::http2(io) }
    }

    /// For HTTP/2.
    pub(crate) fn http2(io: I) -> Self {
        Self { io, state: None, head: Head::default(), spill: Vec::new(), stalled: None }
    }

    /// Ends the wait of a client that takes nothing.
    fn patience<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

/// Where in a message the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParseState {
    /// Before it: empty lines may come first.
    Start,
    Method,
    Target,
    /// The rest of the request line.
    Version,
    Fields,
    Body(u64),
}

/// What the head says so far.
#[derive(Debug, Default)]
struct Head {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    length: Option<u64>,
    /// What follows cannot be told from the head.
    endless: bool,
}

impl Head {
    /// Takes note of a line, without its end. False when the head ends with it.
    fn take(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return false;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            self.endless = true;
            return true;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => match (digits(value), self.length) {
                (Some(length), None) => self.length = Some(length),
                (Some(length), Some(earlier)) if length == earlier => {}
                _ => self.endless = true,
            },
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.endless = true,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.endless = true,
            // A continuation of the line before, or a name that hyper may read otherwise.
            _ if name.first().is_none_or(|byte| byte.is_ascii_whitespace()) => self.endless = true,
            _ if name.last().is_some_and(u8::is_ascii_whitespace) => self.endless = true,
            _ => {}
        }
        true
    }

    /// What comes behind the head; nothing when that is in doubt.
    fn end(&mut self) -> Option<ParseState> {
        let head = std::mem::take(self);
        match head.length {
            _ if head.endless => None,
            None | Some(0) => Some(ParseState::Start),
            Some(length) => Some(ParseState::Body(length)),
        }
    }
}

fn digits(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

impl<I> Wire<I> {
    /// Follows what was read, and hands it on in pieces.
    fn follow(&mut self, mut bytes: &[u8], mut hand_on: impl FnMut(&[u8])) {
        while let Some(state) = self.state
            && !bytes.is_empty()
        {
            let count = match state {
                ParseState::Start => match bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) {
                    Some(at) => {
                        self.state = Some(ParseState::Method);
                        at
                    }
                    None => bytes.len(),
                },
                ParseState::Method => self.word(bytes, ParseState::Target),
                ParseState::Target => {
                    let count = self.word(bytes, ParseState::Version);
                    escape(&bytes[..count], &mut hand_on);
                    bytes = &bytes[count..];
                    continue;
                }
                ParseState::Version | ParseState::Fields => self.line(bytes, state),
                ParseState::Body(missing) => {
                    let count = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
                    let missing = missing - count as u64;
                    self.state =
                        Some(if missing == 0 { ParseState::Start } else { ParseState::Body(missing) });
                    count
                }
            };
            hand_on(&bytes[..count]);
            bytes = &bytes[count..];
        }
        if !bytes.is_empty() {
            hand_on(bytes);
        }
    }

    /// The length of what is there of a word and the space behind it.
    fn word(&mut self, bytes: &[u8], next: ParseState) -> usize {
        match bytes.iter().position(|byte| matches!(byte, b' ' | b'\n')) {
            Some(at) => {
                self.state = (bytes[at] == b' ').then_some(next);
                at + 1
            }
            None => bytes.len(),
        }
    }

    /// The length of what is there of a line.
    fn line(&mut self, bytes: &[u8], state: ParseState) -> usize {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            let room = LINE.saturating_sub(self.head.line.len()).min(bytes.len());
            self.head.line.extend_from_slice(&bytes[..room]);
            return bytes.len();
        };
        if state == ParseState::Version {
            self.head = Head::default();
            self.state = Some(ParseState::Fields);
            return end + 1;
        }
        let more = if self.head.line.is_empty() {
            self.head.take(&bytes[..end])
        } else {
            let mut line = std::mem::take(&mut self.head.line);
            if line.len() >= LINE {
                // Cut: what it says can be told from its beginning, or not at all.
                self.head.endless |= is_framing(&line);
            } else {
                line.extend_from_slice(&bytes[..end]);
            }
            self.head.take(&line)
        };
        if !more {
            self.state = self.head.end();
        }
        end + 1
    }
}

/// Whether a line that was cut may say where the message ends.
fn is_framing(line: &[u8]) -> bool {
    let names = [&b"content-length"[..], b"transfer-encoding", b"upgrade"];
    names.iter().any(|name| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

fn escape(target: &[u8], hand_on: &mut impl FnMut(&[u8])) {
    let mut rest = target;
    while let Some(at) = rest.iter().position(|byte| path::must_be_escaped(*byte)) {
        let mut escaped = String::with_capacity(3);
        path::push_target_byte(&mut escaped, rest[at]);
        hand_on(&rest[..at]);
        hand_on(escaped.as_bytes());
        rest = &rest[at + 1..];
    }
    hand_on(rest);
}

impl<I: Read + Unpin> Read for Wire<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.spill.is_empty() {
            let count = this.spill.len().min(buf.remaining());
            buf.put_slice(&this.spill[..count]);
            this.spill.drain(..count);
            return Poll::Ready(Ok(()));
        }
        if this.state.is_none() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        BYTES.with_borrow_mut(|scratch| {
            let most = buf.remaining().min(scratch.len());
            let mut read = ReadBuf::new(&mut scratch[..most]);
            ready!(Pin::new(&mut this.io).poll_read(cx, read.unfilled()))?;
            let mut spill = std::mem::take(&mut this.spill);
            this.follow(read.filled(), |bytes| {
                let fits = if spill.is_empty() { bytes.len().min(buf.remaining()) } else { 0 };
                buf.put_slice(&bytes[..fits]);
                spill.extend_from_slice(&bytes[fits..]);
            });
            this.spill = spill;
            Poll::Ready(Ok(()))
        })
    }
}

impl<I: Write + Unpin> Write for Wire<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.patience(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bytes);
        this.patience(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.patience(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = Pin::new(&mut this.io).poll_shutdown(cx);
        this.patience(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out when it arrives in such pieces.
    fn pass(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<ParseState>) {
        let mut wire = Wire::http1(());
        let (mut out, mut rest) = (Vec::new(), bytes);
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            wire.follow(now, |piece| out.extend_from_slice(piece));
            rest = later;
        }
        (out, wire.state)
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(&pass(bytes, &[]).0).into_owned()
    }

    #[test]
    fn targets_are_escaped_and_nothing_else() {
        let request = "GET /a<b>?q=\"x\"`\u{e9} HTTP/1.1\r\nHost: <a>\r\nCookie: \"x\"\r\n\r\n";
        let expected = "GET /a%3Cb%3E?q=%22x%22%60%C3%A9 HTTP/1.1\r\nHost: <a>\r\nCookie: \"x\"\r\n\r\n";
        assert_eq!(text(request.as_bytes()), expected);
        assert_eq!(text(b"GET /\xff HTTP/1.1\r\n\r\n"), "GET /%FF HTTP/1.1\r\n\r\n");
        assert_eq!(text(b"GET /{a}|b^c\\ HTTP/1.1\r\n\r\n"), "GET /{a}|b^c\\ HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn bodies_are_left_alone_and_what_follows_is_a_message_again() {
        let body = "GET /<x> HTTP/1.1\r\n\r\n";
        let length = body.len();
        let stream = format!(
            "POST /<1> HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}\r\nPUT /<2> HTTP/1.1\nHost: a\n\nGET /<3> HTTP/1.1\r\n\r\n"
        );
        let expected = stream
            .replace("POST /<1>", "POST /%3C1%3E")
            .replace("/<2>", "/%3C2%3E")
            .replace("/<3>", "/%3C3%3E");
        assert_eq!(text(stream.as_bytes()), expected);
    }

    #[test]
    fn where_the_end_is_in_doubt_it_stops_for_good() {
        for field in [
            "Transfer-Encoding: chunked",
            "transfer-encoding : chunked",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Upgrade: websocket",
            "A: b\r\n folded: c",
            "no colon",
        ] {
            let stream = format!("POST / HTTP/1.1\r\n{field}\r\n\r\nGET /<x> HTTP/1.1\r\n\r\n");
            let (out, state) = pass(stream.as_bytes(), &[]);
            assert_eq!((out, state), (stream.into_bytes(), None), "{field}");
        }
        assert_eq!(pass(b"nonsense\nGET /<x> HTTP/1.1\r\n\r\n", &[]).1, None);
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            lengths in prop::collection::vec(0usize..200, 1..4),
            long in 0usize..200,
            cuts in prop::collection::vec(1usize..40, 0..40),
        ) {
            let mut stream = Vec::new();
            for length in &lengths {
                let head = format!("PUT /<{length}> HTTP/1.1\r\nX-Long: {}\r\nContent-Length: {length}\r\n\r\n", "<".repeat(long));
                stream.extend_from_slice(head.as_bytes());
                stream.extend(std::iter::repeat_n(b'<', *length));
            }
            let whole = pass(&stream, &[]);
            prop_assert_eq!(pass(&stream, &cuts), whole.clone());
            prop_assert_eq!(whole.1, Some(ParseState::Start));
            let escapes = whole.0.len() - stream.len();
            prop_assert_eq!(escapes, 4 * lengths.len());
        }

        /// Outside of targets no byte changes, and the number of line ends never does.
        #[test]
        fn nothing_is_smuggled(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (out, _) = pass(&bytes, &[]);
            let count = |bytes: &[u8], wanted: u8| bytes.iter().filter(|byte| **byte == wanted).count();
            for byte in [b'\r', b'\n', b' ', b':'] {
                prop_assert_eq!(count(&bytes, byte), count(&out, byte));
            }
        }
    }
}
