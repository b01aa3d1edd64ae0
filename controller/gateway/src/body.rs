//! The bodies that pass through: towards the upstream, and back with the connection that they occupy.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

use crate::{metrics, pool::Lease, resume::Progress};

/// What goes to an upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    /// A client's.
    Client {
        body: Incoming,
        /// Never used: its end says that the body has gone, whole or broken off.
        _passing: oneshot::Sender<()>,
    },
}

impl RequestBody {
    /// A client's body, and what ends with it; nothing when there is nothing to wait for.
    pub(crate) fn of(body: Incoming) -> (Self, Option<oneshot::Receiver<()>>) {
        if body.is_end_stream() {
            return (Self::Empty, None);
        }
        let (passing, passed) = oneshot::channel();
        (Self::Client { body, _passing: passing }, Some(passed))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client { body, .. } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { body, .. } => body.size_hint(),
        }
    }
}

/// What goes to a client.
pub(crate) enum ResponseBody {
    /// The gateway's own words; taken when sent.
    Text(Option<Bytes>),
    /// An upstream's, and the connection it comes by until it has ended.
    Upstream(Incoming, Option<Lease>),
}

impl ResponseBody {
    pub(crate) fn upstream(body: Incoming, lease: Lease) -> Self {
        if body.is_end_stream() {
            lease.end();
            return Self::Upstream(body, None);
        }
        Self::Upstream(body, Some(lease))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (body, lease) = match self.get_mut() {
            Self::Text(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Upstream(body, lease) => (body, lease),
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
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
            Self::Upstream(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Upstream(body, _) => body.size_hint(),
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
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
