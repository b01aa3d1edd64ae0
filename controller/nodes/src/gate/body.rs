//! Bodies of calls: what comes in is bounded in length and time, and both directions end with the membership.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use super::{
    calls::{Call, Ended},
    policy::{Policy, Who},
};

/// The frame around a message: a flag and a length.
const PREFIX: usize = 5;

/// Follows the messages of a body without holding any of it.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are here.
    have: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

impl Messages {
    /// Whether one has begun and is not whole.
    fn is_within(&self) -> bool {
        self.have > 0 || self.left > 0
    }

    /// Takes in what came; whether a message became whole.
    fn take_in(&mut self, mut data: &[u8], longest: usize) -> Result<bool, Status> {
        let mut is_whole = false;
        while !data.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(data.len());
                self.left -= taken;
                data = &data[taken..];
                is_whole |= self.left == 0;
                continue;
            }
            let taken = (PREFIX - self.have).min(data.len());
            self.prefix[self.have..self.have + taken].copy_from_slice(&data[..taken]);
            self.have += taken;
            data = &data[taken..];
            if self.have < PREFIX {
                continue;
            }
            let [flag, length @ ..] = self.prefix;
            if flag != 0 {
                return Err(Status::unimplemented("messages must not be compressed"));
            }
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > longest {
                return Err(Status::resource_exhausted(format!(
                    "a message of {length} bytes is longer than this call allows ({longest})"
                )));
            }
            (self.have, self.left) = (0, length);
            is_whole |= length == 0;
        }
        Ok(is_whole)
    }
}

/// Counts the time in which the other side was waited for.
#[derive(Debug, Default)]
struct Patience {
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    fn came(&mut self) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let left = limit.saturating_sub(self.waited);
        let (_, sleep) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        sleep.as_mut().poll(context)
    }
}

/// What a caller sends.
pub(super) struct Incoming {
    body: Body,
    policy: &'static Policy,
    messages: Messages,
    patience: Patience,
    call: Option<(Ended, Pin<Box<WaitForCancellationFutureOwned>>)>,
}

impl Incoming {
    /// Of a member's call, or of a stranger's.
    pub(super) fn new(body: Body, policy: &'static Policy, call: Option<Ended>) -> Self {
        let call = call.map(|ended| (ended.clone(), Box::pin(ended.wait())));
        Self { body, policy, messages: Messages::default(), patience: Patience::default(), call }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some((ended, wait)) = &mut this.call
            && wait.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(ended.status())));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            // A stranger's has begun with its head.
            let is_within = this.messages.is_within() || this.policy.who == Who::Anyone;
            let limit = if is_within { Some(this.policy.who.patience()) } else { this.policy.silence };
            let Some(limit) = limit else { return Poll::Pending };
            ready!(this.patience.poll_end(context, limit));
            let late = Status::deadline_exceeded("the next message did not come in time");
            return Poll::Ready(Some(Err(late)));
        };
        this.patience.came();
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(Box::new(error))))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            if let Some((ended, _)) = &this.call {
                ended.charge(data.len());
            }
            match this.messages.take_in(data, this.policy.longest) {
                Ok(true) => this.patience = Patience::default(),
                Ok(false) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// What a member is answered; holds the call's place until it ends.
pub(super) struct Outgoing {
    body: Body,
    wait: Pin<Box<WaitForCancellationFutureOwned>>,
    call: Call,
    is_over: bool,
}

impl Outgoing {
    pub(super) fn new(body: Body, call: Call) -> Self {
        let wait = Box::pin(call.ended().wait());
        Self { body, wait, call, is_over: false }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if this.wait.as_mut().poll(context).is_pending() {
            return Pin::new(&mut this.body).poll_frame(context);
        }
        this.is_over = true;
        // What the service was about to say is not said any more.
        this.body = Body::empty();
        let mut trailers = http::HeaderMap::new();
        let _ = this.call.ended().status().add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(length).expect("short").to_be_bytes());
        bytes.resize(PREFIX + length, 7);
        bytes
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let stream = [message(3), message(0), message(10)].concat();
        for piece in 1..stream.len() {
            let (mut messages, mut whole) = (Messages::default(), 0);
            for data in stream.chunks(piece) {
                whole += usize::from(messages.take_in(data, 10).expect("all are short enough"));
            }
            assert!(!messages.is_within() && whole > 0, "{piece}");
        }
        let mut messages = Messages::default();
        assert!(!messages.take_in(&message(9)[..8], 10).expect("short enough"));
        assert!(messages.is_within());
    }

    #[test]
    fn a_long_or_compressed_message_is_refused_by_its_prefix() {
        let refused = |data: &[u8]| Messages::default().take_in(data, 10).expect_err("refused").code();
        assert_eq!(refused(&message(11)[..5]), tonic::Code::ResourceExhausted);
        assert_eq!(refused(&[0, 255, 255, 255, 255]), tonic::Code::ResourceExhausted);
        assert_eq!(refused(&[1, 0, 0, 0, 1]), tonic::Code::Unimplemented);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_must_become_whole_in_time_however_it_drips() {
        use futures_util::stream;
        use http_body_util::BodyExt as _;
        let dripping = stream::unfold(message(1_000).into_iter(), |mut bytes| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let byte = bytes.next()?;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![byte])), bytes))
        });
        let policy = super::super::policy::of("/warren.control.v1.Control/Feed").expect("a policy");
        let mut incoming = Incoming::new(Body::from_stream(dripping), policy, None);
        let begun = Instant::now();
        let refused = loop {
            match incoming.frame().await.expect("no end") {
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
        assert!(begun.elapsed() < policy.who.patience() + Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_slowness_is_not_counted() {
        use futures_util::{StreamExt as _, stream};
        use http_body_util::BodyExt as _;
        let pieces: Vec<_> =
            message(30).chunks(1).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let policy = super::super::policy::of("/warren.control.v1.Control/Feed").expect("a policy");
        let mut incoming = Incoming::new(Body::from_stream(stream::iter(pieces).boxed()), policy, None);
        while let Some(frame) = incoming.frame().await {
            frame.expect("the sender was quick");
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}
