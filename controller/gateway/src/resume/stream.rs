//! A client's connection as hyper sees it: bytes. Underneath, requests stay in the kernel while they may be repeated.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use super::{
    framing::{Kind, classify, head_length},
    holder::HeldSlot,
    kernel,
    table::{self, Record},
};

/// The longest request that is left in the kernel, body included. It takes that much of the receive buffer.
const WINDOW: usize = 16 << 10;
const SCRATCH: usize = 64 << 10;

thread_local! {
    /// What was peeked; only used within one call.
    static BYTES: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// What the service tells the stream about the response to the present request.
#[derive(Debug)]
pub(crate) struct Progress {
    body: AtomicU64,
    ended: AtomicBool,
}

const NO_RESPONSE: u64 = u64::MAX;
const UNKNOWN: u64 = u64::MAX - 1;

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self { body: AtomicU64::new(NO_RESPONSE), ended: AtomicBool::new(false) })
    }

    /// There is a response, whose body is so long.
    pub(crate) fn answered(&self, body: Option<u64>) {
        self.ended.store(false, Ordering::Relaxed);
        self.body.store(body.map_or(UNKNOWN, |length| length.min(UNKNOWN - 1)), Ordering::Relaxed);
    }

    /// hyper has the whole body.
    pub(crate) fn ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// A client's connection.
pub(crate) struct Stream {
    io: TokioIo<TcpStream>,
    /// While it can be resumed.
    watch: Option<Watch>,
    /// Whether the supervisor has, or lately had, a duplicate of the socket.
    held: bool,
    /// Bytes that wait in the kernel though the socket does not count as ready: what was peeked and not read.
    ahead: usize,
}

/// How far a held connection has come.
struct Watch {
    held_slot: HeldSlot,
    progress: Arc<Progress>,
    /// Totals, as the kernel counts.
    written: u64,
    consumed: u64,
    /// Bytes that wait in the kernel, as far as we know, and how many of them hyper has.
    seen: usize,
    known: usize,
    request: Request,
    response: Option<Response>,
    /// Who asked for bytes while they are held back: nobody else would wake it.
    reader: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Its head is not complete yet.
    Head,
    /// So many bytes in the kernel, to be consumed when the response begins.
    Waiting(usize),
    /// Consumed as it comes, so many bytes are missing; whether it has been answered.
    Once { missing: u64, answered: bool },
}

/// A response that is being written.
#[derive(Debug, Clone, Copy)]
struct Response {
    missing: Option<u64>,
    /// What is to be consumed as soon as something is written.
    request: usize,
}

/// What became of a read.
enum Outcome {
    /// hyper has what there is to have.
    Done,
    /// From now on the connection is not held.
    LetGo,
}

impl Stream {
    /// `held_slot` when the supervisor holds the connection.
    pub(crate) fn new(stream: TcpStream, held_slot: Option<HeldSlot>) -> Self {
        let watch = held_slot.map(|held_slot| Watch {
            progress: Progress::new(),
            written: held_slot.written,
            consumed: held_slot.consumed,
            held_slot,
            seen: 0,
            known: 0,
            request: Request::Head,
            response: None,
            reader: None,
        });
        Self { io: TokioIo::new(stream), held: watch.is_some(), watch, ahead: 0 }
    }

    /// A stream that is not watched, whatever it was before.
    pub(crate) fn passing(stream: TcpStream, held_slot: Option<HeldSlot>) -> Self {
        Self { io: TokioIo::new(stream), held: held_slot.is_some(), watch: None, ahead: 0 }
    }

    /// Where to report responses, while the connection is held.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.watch.as_ref().map(|watch| watch.progress.clone())
    }

    /// Ends the holding: what hyper has, the kernel need not have any more.
    fn let_go(&mut self) -> io::Result<()> {
        match self.watch.take() {
            Some(mut watch) => {
                self.ahead = watch.seen.saturating_sub(watch.known);
                watch.consume_known(self.io.inner())
            }
            None => Ok(()),
        }
    }

    /// Reads what was peeked before. `None` when there is nothing of it left.
    fn read_ahead(&mut self, buf: &mut ReadBufCursor<'_>) -> Option<io::Result<()>> {
        if self.ahead == 0 {
            return None;
        }
        let stream = self.io.inner();
        BYTES.with_borrow_mut(|scratch| {
            let most = self.ahead.min(buf.remaining()).min(scratch.len());
            match kernel::take(stream, &mut scratch[..most]) {
                Ok(count) => {
                    self.ahead -= count;
                    buf.put_slice(&scratch[..count]);
                    Some(Ok(()))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ahead = 0;
                    None
                }
                Err(error) => Some(Err(error)),
            }
        })
    }
}

impl Watch {
    fn consume_known(&mut self, stream: &TcpStream) -> io::Result<()> {
        let count = std::mem::take(&mut self.known);
        if count > 0 {
            kernel::discard(stream, count)?;
            self.consumed += count as u64;
            self.seen = self.seen.saturating_sub(count);
        }
        Ok(())
    }

    fn poll_read(
        &mut self,
        stream: &TcpStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<Outcome>> {
        BYTES.with_borrow_mut(|scratch| {
            loop {
                if let Request::Once { missing, .. } = self.request
                    && missing > 0
                {
                    return self.poll_take(stream, cx, missing, buf, scratch);
                }
                let held_back = self.holds_back();
                // Readiness may have been cleared while bytes were left there.
                let sure = self.seen > self.known && !held_back;
                let seen = if sure {
                    kernel::peek(stream, scratch)
                } else {
                    ready!(peek_ready(stream, cx, scratch))?
                };
                self.seen = match seen {
                    Ok(seen) => seen,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.seen = self.known;
                        continue;
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                };
                if self.seen <= self.known {
                    if self.seen == 0 || kernel::peer_has_ended(stream) {
                        return Poll::Ready(Ok(Outcome::Done));
                    }
                } else if held_back {
                    self.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                } else if let Some(outcome) = self.look(stream, &scratch[..self.seen], buf)? {
                    return Poll::Ready(Ok(outcome));
                }
            }
        })
    }

    /// Whether further bytes are not hyper's yet: they belong to a later request.
    fn holds_back(&self) -> bool {
        let complete = match self.request {
            Request::Head => false,
            Request::Waiting(length) => self.known == length,
            Request::Once { answered, .. } => !answered,
        };
        complete || self.response.is_some()
    }

    /// Gives hyper what it may have of the bytes in the kernel. `None` when the request is to be read otherwise.
    fn look(
        &mut self,
        stream: &TcpStream,
        bytes: &[u8],
        buf: &mut ReadBufCursor<'_>,
    ) -> io::Result<Option<Outcome>> {
        if matches!(self.request, Request::Once { .. }) {
            // The last request is over; it was answered before it had been read.
            self.request = Request::Head;
            self.held_slot.slot().record(Record::idle(self.written, self.consumed));
        }
        if self.request == Request::Head {
            match head_length(bytes, self.known) {
                None if bytes.len() > WINDOW => return Ok(Some(Outcome::LetGo)),
                None => {}
                Some(head) => match classify(&bytes[..head]) {
                    Kind::Repeatable(body) if body <= (WINDOW.saturating_sub(head)) as u64 => {
                        self.request = Request::Waiting(head + body as usize);
                    }
                    Kind::Repeatable(body) | Kind::Once(body) => {
                        // Before hyper can see the end of the head, and anything can come of it.
                        self.held_slot.slot().busy();
                        let missing = (head - self.known) as u64;
                        self.consume_known(stream)?;
                        self.request =
                            Request::Once { missing: missing.saturating_add(body), answered: false };
                        return Ok(None);
                    }
                    Kind::Endless => return Ok(Some(Outcome::LetGo)),
                },
            }
        }
        let end = match self.request {
            Request::Waiting(length) => length.min(bytes.len()),
            _ => bytes.len(),
        };
        let given = (end - self.known).min(buf.remaining());
        buf.put_slice(&bytes[self.known..self.known + given]);
        self.known += given;
        Ok(Some(Outcome::Done))
    }

    /// Reads bytes of a request that is not left in the kernel, and none beyond it.
    fn poll_take(
        &mut self,
        stream: &TcpStream,
        cx: &mut Context<'_>,
        missing: u64,
        buf: &mut ReadBufCursor<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<Outcome>> {
        let most = buf.remaining().min(scratch.len()).min(usize::try_from(missing).unwrap_or(usize::MAX));
        let into = &mut scratch[..most];
        let count = loop {
            let taken = if self.seen > 0 {
                kernel::take(stream, into)
            } else {
                ready!(stream.poll_read_ready(cx))?;
                stream.try_io(Interest::READABLE, || kernel::take(stream, into))
            };
            match taken {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.seen = 0,
                Err(error) => return Poll::Ready(Err(error)),
            }
        };
        buf.put_slice(&into[..count]);
        self.seen = self.seen.saturating_sub(count);
        self.consumed += count as u64;
        if let Request::Once { missing, .. } = &mut self.request {
            *missing -= count as u64;
        }
        Poll::Ready(Ok(Outcome::Done))
    }

    /// Takes note of a response before its first byte is written. False when it cannot be followed.
    fn begin(&mut self, bytes: &[IoSlice<'_>]) -> bool {
        let (waiting, request) = match self.request {
            Request::Waiting(length) if length == self.known => {
                (length, table::Request::Waiting(length as u32))
            }
            Request::Once { .. } => (0, table::Request::Gone),
            // hyper's own answer to what is no request.
            _ => return false,
        };
        let length = match self.progress.body.swap(NO_RESPONSE, Ordering::Relaxed) {
            // An interim response; or hyper's own words, after which it ends the connection.
            NO_RESPONSE => return matches!(self.request, Request::Once { .. }),
            UNKNOWN => None,
            body => bytes.first().and_then(|head| head_length(head, 0)).map(|head| head as u64 + body),
        };
        self.response = Some(Response { missing: length, request: waiting });
        if let Request::Once { missing, answered } = &mut self.request {
            *answered = true;
            if *missing > 0 {
                return true;
            }
        }
        let slot = self.held_slot.slot();
        slot.record(Record { written: self.written, consumed: self.consumed, response: length, request });
        slot.survived();
        true
    }

    fn wrote(&mut self, stream: &TcpStream, count: usize) -> io::Result<()> {
        self.written += count as u64;
        let Some(Response { missing, request }) = &mut self.response else { return Ok(()) };
        if let Some(missing) = missing {
            // More than was announced: `flushed` finds the true end.
            *missing = missing.saturating_sub(count as u64);
        }
        let (complete, request) = (*missing == Some(0), std::mem::take(request));
        if request > 0 && count > 0 {
            self.consume_known(stream)?;
            self.request = Request::Head;
        }
        if complete {
            self.finish();
        }
        Ok(())
    }

    /// Everything that hyper had is written.
    fn flushed(&mut self) {
        if self.response.is_some() && self.progress.ended.load(Ordering::Relaxed) {
            // The response has ended, whatever its length was thought to be.
            if !matches!(self.request, Request::Once { missing: 1.., .. }) {
                self.held_slot.slot().record(Record::idle(self.written, self.consumed));
            }
            self.finish();
        }
    }

    /// The response is complete: the next request may come.
    fn finish(&mut self) {
        self.response = None;
        if let Request::Once { missing: 0, .. } = self.request {
            self.request = Request::Head;
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// Peeks when the socket is ready; then it counts as not ready until more comes.
fn peek_ready(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    scratch: &mut [u8],
) -> Poll<io::Result<io::Result<usize>>> {
    ready!(stream.poll_read_ready(cx))?;
    let mut seen = Err(io::ErrorKind::WouldBlock.into());
    let _ = stream.try_io(Interest::READABLE, || {
        seen = kernel::peek(stream, scratch);
        match &seen {
            // All of it: there is nothing to come back for before the kernel says so.
            Ok(count) if (1..scratch.len()).contains(count) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.kind().into()),
        }
    });
    Poll::Ready(Ok(seen))
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(watch) = &mut this.watch {
            match ready!(watch.poll_read(this.io.inner(), cx, &mut buf))? {
                Outcome::Done => return Poll::Ready(Ok(())),
                Outcome::LetGo => this.let_go()?,
            }
        }
        match this.read_ahead(&mut buf) {
            Some(read) => Poll::Ready(read),
            None => Pin::new(&mut this.io).poll_read(cx, buf),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(watch) = &mut this.watch
            && watch.response.is_none()
            && !watch.begin(bytes)
        {
            this.let_go()?;
        }
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bytes))?;
        if let Some(watch) = &mut this.watch {
            watch.wrote(this.io.inner(), count)?;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        if let Some(watch) = &mut this.watch {
            watch.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What hyper has must not stay unread: the kernel would reset the connection instead of ending it.
        let _ = self.let_go();
        if self.held {
            // The supervisor's duplicate keeps the socket open; the client must hear now.
            let _ = SockRef::from(self.io.inner()).shutdown(Shutdown::Both);
        }
    }
}
