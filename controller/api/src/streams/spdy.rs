//! SPDY/3.1 as kubectl speaks it: frames from bytes and bytes from frames. No I/O, no state but compression.
//!
//! Control frames and their headers are bounded; a data frame is handed on as its bytes arrive, so memory does not
//! depend on what a client announces.

use std::sync::LazyLock;

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The longest control frame that is taken.
const MOST_CONTROL: usize = 64 << 10;
/// The longest header block, uncompressed.
const MOST_HEADERS: usize = 64 << 10;
/// The most headers of one stream.
const MOST_PAIRS: usize = 64;
/// The longest data frame that is sent; the format could hold 16 MiB.
const MOST_DATA: usize = 1 << 20;
const FIN: u32 = 1;

/// Names and values, in order.
pub(crate) type Headers = Vec<(String, String)>;

/// Status of a reset: a stream that must not be there.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
/// Status of a reset: one stream too many.
pub(crate) const REFUSED_STREAM: u32 = 3;

/// One frame. Of a long data frame, one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The client opens a stream.
    SynStream { stream: u32, fin: bool, headers: Headers },
    /// The server agrees.
    SynReply { stream: u32, fin: bool, headers: Headers },
    /// A stream ends at once, in both directions.
    Reset { stream: u32, status: u32 },
    /// To be sent back when the other side began it.
    Ping(u32),
    /// The client opens nothing more.
    GoAway,
    /// Bytes; with `fin`, the last ones in this direction.
    Data { stream: u32, fin: bool, data: Bytes },
    /// SETTINGS, HEADERS, WINDOW_UPDATE: nothing that matters here.
    Ignored,
}

/// Why the other side does not speak SPDY/3.1. Nothing after that can be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("version {0} of SPDY is not spoken here, only 3")]
    Version(u32),
    #[error("a control frame of {0} bytes is longer than {MOST_CONTROL}")]
    TooLong(usize),
    #[error("a control frame of type {0} is too short")]
    TooShort(u32),
    #[error("headers are longer than {MOST_HEADERS} bytes or more than {MOST_PAIRS}")]
    TooManyHeaders,
    #[error("headers cannot be decompressed")]
    Compression,
    #[error("headers end too early")]
    Headers,
    #[error("the connection ended within a frame")]
    Truncated,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The words that both sides' compression knows from the start (SPDY protocol draft 3, section 2.6.10.1).
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = "options head post put delete trace accept accept-charset accept-encoding accept-language \
                 accept-ranges age allow authorization cache-control connection content-base content-encoding \
                 content-language content-length content-location content-md5 content-range content-type date etag \
                 expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since \
                 last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer \
                 retry-after server te trailer transfer-encoding upgrade user-agent vary via warning \
                 www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin";
    let tail = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
                203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request\
                401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented\
                503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
                Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
                application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=\
                gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut bytes = Vec::with_capacity(1423);
    for word in words.split(' ') {
        put_text(&mut bytes, &word.replace('_', " "));
    }
    bytes.extend_from_slice(tail.as_bytes());
    bytes
});

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Header texts are short: the whole block is bounded where it is made.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A data frame whose bytes are still coming.
struct Unfinished {
    stream: u32,
    fin: bool,
    left: usize,
}

/// From bytes to frames.
pub(crate) struct Decoder {
    buffer: BytesMut,
    inflate: Decompress,
    unfinished: Option<Unfinished>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), inflate: Decompress::new(true), unfinished: None }
    }

    /// Where received bytes are appended. Ask for all frames before appending more.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether the connection may end here.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.buffer.is_empty() && self.unfinished.is_none()
    }

    /// The next frame; none until more bytes have come.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        if self.unfinished.is_some() {
            return Ok(self.piece());
        }
        let Some(header) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *header;
        let (first, second) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let (flags, length) = (second >> 24, (second & 0x00ff_ffff) as usize);
        if first >> 31 == 0 {
            self.buffer.advance(8);
            if length == 0 {
                return Ok(Some(Frame::Data { stream: first, fin: flags & FIN != 0, data: Bytes::new() }));
            }
            self.unfinished = Some(Unfinished { stream: first, fin: flags & FIN != 0, left: length });
            return Ok(self.piece());
        }
        let version = (first >> 16) & 0x7fff;
        if version != 3 {
            return Err(SpdyError::Version(version));
        }
        if length > MOST_CONTROL {
            return Err(SpdyError::TooLong(length));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let payload = self.buffer.split_to(length).freeze();
        self.control(first & 0xffff, flags, payload).map(Some)
    }

    /// As much of a data frame as is there.
    fn piece(&mut self) -> Option<Frame> {
        let unfinished = self.unfinished.as_mut().filter(|_| !self.buffer.is_empty())?;
        let data = self.buffer.split_to(unfinished.left.min(self.buffer.len())).freeze();
        unfinished.left -= data.len();
        let (stream, last) = (unfinished.stream, unfinished.left == 0);
        let fin = last && unfinished.fin;
        if last {
            self.unfinished = None;
        }
        Some(Frame::Data { stream, fin, data })
    }

    fn control(&mut self, kind: u32, flags: u32, mut payload: Bytes) -> Result<Frame, SpdyError> {
        let word = |payload: &mut Bytes| payload.try_get_u32().map_err(|_| SpdyError::TooShort(kind));
        let fin = flags & FIN != 0;
        Ok(match kind {
            1 => {
                let stream = word(&mut payload)? & 0x7fff_ffff;
                word(&mut payload)?; // the stream it belongs to
                payload.try_get_u16().map_err(|_| SpdyError::TooShort(kind))?; // priority and slot
                Frame::SynStream { stream, fin, headers: self.headers(&payload)? }
            }
            2 => {
                let stream = word(&mut payload)? & 0x7fff_ffff;
                Frame::SynReply { stream, fin, headers: self.headers(&payload)? }
            }
            3 => {
                let stream = word(&mut payload)? & 0x7fff_ffff;
                Frame::Reset { stream, status: word(&mut payload)? }
            }
            6 => Frame::Ping(word(&mut payload)?),
            7 => Frame::GoAway,
            8 => {
                word(&mut payload)?;
                // Read all the same: the compression's state goes on.
                self.headers(&payload)?;
                Frame::Ignored
            }
            _ => Frame::Ignored,
        })
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let mut block = Bytes::from(self.inflate(block)?);
        let count = block.try_get_u32().map_err(|_| SpdyError::Headers)? as usize;
        if count > MOST_PAIRS {
            return Err(SpdyError::TooManyHeaders);
        }
        let mut text = || {
            let length = block.try_get_u32().map_err(|_| SpdyError::Headers)? as usize;
            if length > block.len() {
                return Err(SpdyError::Headers);
            }
            Ok(String::from_utf8_lossy(&block.split_to(length)).into_owned())
        };
        (0..count).map(|_| Ok((text()?, text()?))).collect()
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::with_capacity(1024);
        while !block.is_empty() {
            if out.len() == out.capacity() {
                if out.len() >= MOST_HEADERS {
                    return Err(SpdyError::TooManyHeaders);
                }
                out.reserve_exact(out.len());
            }
            let (read, written) = (self.inflate.total_in(), out.len());
            let result = self.inflate.decompress_vec(block, &mut out, FlushDecompress::Sync);
            let taken = usize::try_from(self.inflate.total_in() - read).unwrap_or(block.len());
            block = block.get(taken..).ok_or(SpdyError::Compression)?;
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&DICTIONARY).map_err(|_| SpdyError::Compression)?;
                }
                Err(_) => return Err(SpdyError::Compression),
                // More output than there was room for.
                Ok(_) if out.len() == out.capacity() => {}
                Ok(_) if taken == 0 && out.len() == written => return Err(SpdyError::Compression),
                Ok(_) => {}
            }
        }
        Ok(out)
    }
}

/// From frames to bytes.
pub(crate) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        // Without the dictionary it would be zlib all the same, which the other side understands.
        let _ = deflate.set_dictionary(&DICTIONARY);
        Self { deflate }
    }

    /// Appends a frame.
    pub(crate) fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                let mut payload = [stream.to_be_bytes(), [0; 4]].concat();
                payload.extend_from_slice(&[0, 0]);
                payload.extend(self.headers(headers));
                control(out, 1, *fin, &payload);
            }
            Frame::SynReply { stream, fin, headers } => {
                let mut payload = stream.to_be_bytes().to_vec();
                payload.extend(self.headers(headers));
                control(out, 2, *fin, &payload);
            }
            Frame::Reset { stream, status } => {
                control(out, 3, false, &[stream.to_be_bytes(), status.to_be_bytes()].concat());
            }
            Frame::Ping(id) => control(out, 6, false, &id.to_be_bytes()),
            Frame::GoAway => control(out, 7, false, &[0; 8]),
            Frame::Data { stream, fin, data } => {
                let pieces = data.len().div_ceil(MOST_DATA).max(1);
                for index in 0..pieces {
                    let piece = &data[index * MOST_DATA..data.len().min((index + 1) * MOST_DATA)];
                    head(out, *stream, *fin && index + 1 == pieces, piece.len());
                    out.extend_from_slice(piece);
                }
            }
            Frame::Ignored => {}
        }
    }

    fn headers(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        for (name, value) in headers {
            put_text(&mut plain, name);
            put_text(&mut plain, value);
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let read = self.deflate.total_in();
            // It cannot fail: the state is ours, and there is always room.
            let _ = self.deflate.compress_vec(rest, &mut packed, FlushCompress::Sync);
            rest = &rest[usize::try_from(self.deflate.total_in() - read).unwrap_or(0).min(rest.len())..];
            if rest.is_empty() && packed.len() < packed.capacity() {
                return packed;
            }
            packed.reserve(256);
        }
    }
}

fn control(out: &mut BytesMut, kind: u32, fin: bool, payload: &[u8]) {
    head(out, 0x8003_0000 | kind, fin, payload.len());
    out.extend_from_slice(payload);
}

fn head(out: &mut BytesMut, first: u32, fin: bool, length: usize) {
    let flags = if fin { FIN << 24 } else { 0 };
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&(flags | u32::try_from(length).unwrap_or(0)).to_be_bytes());
}

/// A stream's header.
pub(crate) fn header<'a>(headers: &'a Headers, name: &str) -> &'a str {
    let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value.as_str())
}

#[cfg(test)]
#[path = "spdy_tests.rs"]
mod tests;
