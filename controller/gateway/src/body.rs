//! The bodies that pass through: towards the upstream, and back with the connection that they occupy.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::{budget::Taking, endpoint::now, metrics, pool::Lease, resume::Progress};

/// Bytes per second below which a client does not send: it only holds a place.
const SLOWEST: u32 = 32;

/// Why a body broke off.
#[derive(Debug)]
pub(crate) enum BodyError {
    Broken(hyper::Error),
    /// The client sends nothing, or next to nothing.
    TooSlow,
    /// Longer than its route allows.
    TooLong(u64),
    /// The backend says nothing.
    Silent,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(error) => error.fmt(f),
            Self::TooSlow => f.write_str("the client sends its body too slowly"),
            Self::TooLong(most) => write!(f, "the body is longer than {most} bytes"),
            Self::Silent => f.write_str("the backend stopped sending"),
        }
    }
}

impl std::error::Error for BodyError {}

/// What goes to an upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    /// A client's.
    Client(Box<ClientBody>),
}

#[derive(Debug)]
pub(crate) struct ClientBody {
    body: Incoming,
    pace: Option<Pace>,
    max: Option<u64>,
    received: u64,
    handed: Handed,
    /// Never used: its end says that the body has gone, whole or broken off.
    _passing: oneshot::Sender<()>,
}

/// Since when (milliseconds of `endpoint::now`) the upstream takes nothing though there is something; 0 when it waits
/// for the client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handed(Arc<AtomicU64>);

impl Handed {
    /// For how long the upstream has not asked for more.
    pub(crate) fn idle(&self) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(now().saturating_sub(since)),
        }
    }
}

/// The time that a client may still spend sending nothing. Bytes bring it back, up to what it began with.
#[derive(Debug)]
struct Pace {
    credit: Duration,
    most: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    since: Option<Instant>,
}

impl Pace {
    fn new(most: Duration) -> Self {
        Self { credit: most, most, waiting: None, since: None }
    }

    /// Nothing came: ready when the client's time is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let end = now + self.credit;
            match &mut self.waiting {
                Some(waiting) => waiting.as_mut().reset(end),
                None => self.waiting = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        self.waiting.as_mut().map_or(Poll::Pending, |waiting| waiting.as_mut().poll(cx))
    }

    fn received(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        let earned = Duration::from_secs(bytes as u64) / SLOWEST;
        self.credit = self.credit.saturating_add(earned).min(self.most);
    }
}

/// What a body tells those who wait for the response.
pub(crate) struct Passing {
    /// Ends with the body.
    pub(crate) ended: oneshot::Receiver<()>,
    pub(crate) handed: Handed,
}

impl RequestBody {
    /// A client's body, and what is to be known of its way; nothing when there is nothing to wait for. `patience` is
    /// how long the client may send nothing.
    pub(crate) fn of(body: Incoming, patience: Duration) -> (Self, Option<Passing>) {
        if body.is_end_stream() {
            return (Self::Empty, None);
        }
        let (passing, ended) = oneshot::channel();
        let handed = Handed::default();
        let body = ClientBody {
            body,
            pace: Some(Pace::new(patience)),
            max: None,
            received: 0,
            handed: handed.clone(),
            _passing: passing,
        };
        (Self::Client(Box::new(body)), Some(Passing { ended, handed }))
    }

    /// The longest that it may be, and whether the client has to keep its pace: in a call that goes both ways, it may
    /// have nothing to say for long.
    pub(crate) fn limit(&mut self, max: Option<u64>, paced: bool) {
        if let Self::Client(client) = self {
            client.max = max;
            if !paced {
                client.pace = None;
            }
        }
    }
}

impl ClientBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.handed.0.store(0, Ordering::Relaxed);
                    let over = self.pace.as_mut().map_or(Poll::Pending, |pace| pace.poll_over(cx));
                    ready!(over);
                    metrics::slow_client();
                    return Poll::Ready(Some(Err(BodyError::TooSlow)));
                }
            };
            let frame = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Broken(error)))),
                Some(Ok(frame)) => frame,
            };
            // Trailers stay here: upstreams may merge them into the fields of the head, which are the gateway's.
            let Some(data) = frame.data_ref() else { continue };
            self.handed.0.store(now(), Ordering::Relaxed);
            self.received = self.received.saturating_add(data.len() as u64);
            if let Some(pace) = &mut self.pace {
                pace.received(data.len());
            }
            return Poll::Ready(Some(match self.max {
                Some(max) if self.received > max => Err(BodyError::TooLong(max)),
                _ => Ok(frame),
            }));
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(client) => client.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(client) => client.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(client) => client.body.size_hint(),
        }
    }
}

/// What goes to a client.
pub(crate) enum ResponseBody {
    /// The gateway's own words; taken when sent.
    Text(Option<Bytes>),
    /// An upstream's, and the connection it comes by until it has ended.
    Upstream { body: Incoming, lease: Option<Lease>, silence: IdleTimeout, _taking: Taking },
}

/// How long an upstream may say nothing within its response.
pub(crate) struct IdleTimeout {
    most: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl IdleTimeout {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waiting {
            self.is_waiting = true;
            let end = Instant::now() + self.most;
            match &mut self.waiting {
                Some(waiting) => waiting.as_mut().reset(end),
                None => self.waiting = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        self.waiting.as_mut().map_or(Poll::Pending, |waiting| waiting.as_mut().poll(cx))
    }
}

impl ResponseBody {
    pub(crate) fn upstream(body: Incoming, lease: Lease, silence: Duration, taking: Taking) -> Self {
        let lease = if body.is_end_stream() {
            lease.end();
            None
        } else {
            Some(lease)
        };
        let silence = IdleTimeout { most: silence, waiting: None, is_waiting: false };
        Self::Upstream { body, lease, silence, _taking: taking }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (body, lease, silence) = match self.get_mut() {
            Self::Text(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Upstream { body, lease, silence, .. } => (body, lease, silence),
        };
        let frame = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.map_err(BodyError::Broken)),
            Poll::Pending => {
                ready!(silence.poll_over(cx));
                Some(Err(BodyError::Silent))
            }
        };
        silence.is_waiting = false;
        match &frame {
            Some(Err(error)) => {
                tracing::debug!(%error, "an upstream's response broke off");
                metrics::upstream_error("broken_response");
                // The connection goes with the lease.
                lease.take();
            }
            Some(Ok(_)) if !body.is_end_stream() => {}
            Some(Ok(_)) | None => {
                if let Some(lease) = lease.take() {
                    lease.end();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Upstream { body, .. } => body.size_hint(),
        }
    }
}

/// A response's body on its way to a client whose connection may be resumed.
pub(crate) struct Watched {
    body: ResponseBody,
    progress: Option<Arc<Progress>>,
}

/// Says how long the response to a request of this method will be, and, later, that it has ended.
pub(crate) fn watch(
    response: Response<ResponseBody>,
    method: &Method,
    progress: Option<Arc<Progress>>,
) -> Response<Watched> {
    if let Some(progress) = &progress {
        let status = response.status();
        // RFC 9112, 6.3: these have no body, whatever their fields say.
        let none = method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        progress.answered(if none { Some(0) } else { response.body().size_hint().exact() });
    }
    response.map(|body| Watched { body, progress })
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // hyper drops a body when it has put its end into its buffer, or closes the connection.
        if let Some(progress) = &self.progress {
            progress.ended();
        }
    }
}
