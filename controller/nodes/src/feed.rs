//! Feeds: a snapshot, a marker, then what changed, to one consumer.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use warren_proto::{
    control::{Consumer, FeedRequest, Subscribe, feed_request::Kind},
    vocabulary::Cursor,
};

use crate::{
    Nodes,
    batches::Batch,
    cursors::Subscriber,
    identity::Caller,
    views::{Part, Position},
};

/// How long a subscriber may take to say what it wants, and the first compilation to be there.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Batches = ReceiverStream<Result<Batch, Status>>;

/// Opens a feed; a task of its own serves it from then on.
pub(crate) async fn open(
    nodes: &Arc<Nodes>,
    caller: Caller,
    mut requests: Streaming<FeedRequest>,
) -> Result<Batches, Status> {
    let subscribe = subscription(&mut requests).await?;
    let consumer = caller.consumer(subscribe.consumer)?;
    let mut compiled = nodes.compiled.subscribe();
    let state = match tokio::time::timeout(PATIENCE, compiled.wait_for(Option::is_some)).await {
        Ok(Ok(state)) => *state,
        _ => None,
    };
    let state = state.ok_or_else(|| Status::unavailable("the controller is still starting"))?;
    fence(&caller, &subscribe, state)?;
    let (batches, stream) = mpsc::channel(1);
    let feed = Feed::start(Arc::clone(nodes), caller, consumer, state)?;
    nodes.streams.spawn(feed.serve(requests, batches));
    Ok(ReceiverStream::new(stream))
}

async fn subscription(requests: &mut Streaming<FeedRequest>) -> Result<Subscribe, Status> {
    let first = tokio::time::timeout(PATIENCE, requests.message()).await.map_err(|_| {
        Status::deadline_exceeded("the first message of a feed must come within ten seconds")
    })??;
    match first.and_then(|request| request.kind) {
        Some(Kind::Subscribe(subscribe)) => Ok(subscribe),
        _ => Err(Status::invalid_argument("the first message of a feed must be `subscribe`")),
    }
}

/// A consumer that has accepted newer state than ours must not be taken back in time.
fn fence(caller: &Caller, subscribe: &Subscribe, ours: Cursor) -> Result<(), Status> {
    let theirs = Cursor { epoch: subscribe.epoch, revision: subscribe.revision };
    if theirs <= ours {
        return Ok(());
    }
    tracing::error!(member = caller.name, ?theirs, ?ours, "a member holds newer state than this controller");
    Err(Status::failed_precondition(format!(
        "{} holds revision {} of epoch {}, newer than this controller's revision {} of epoch {}: this controller was set back; restore its newest data (a restore begins a new epoch)",
        caller.name, theirs.revision, theirs.epoch, ours.revision, ours.epoch
    )))
}

struct Feed {
    nodes: Arc<Nodes>,
    caller: Caller,
    subscriber: Subscriber,
    subscription: u64,
    epoch: u64,
    /// What the consumer holds once `pending` is sent.
    position: Position,
    pending: VecDeque<Part>,
}

impl Feed {
    fn start(
        nodes: Arc<Nodes>,
        caller: Caller,
        consumer: Consumer,
        compiled: Cursor,
    ) -> Result<Self, Status> {
        // Joined a moment ago, not compiled yet: the consumer comes again at once.
        let missing = || Status::unavailable("the member is not in the compiled state yet; try again");
        let selection = nodes.published.select(&caller.name, consumer).ok_or_else(missing)?;
        let (position, pending) = Position::open(selection, compiled.revision);
        let subscriber = (caller.name.clone(), consumer);
        let (revision, now) = (position.revision(), std::time::Instant::now());
        let subscription = nodes.cursors.lock().connect(subscriber.clone(), revision, now);
        tracing::info!(member = caller.name, ?consumer, revision, "a feed opened");
        let epoch = compiled.epoch;
        Ok(Self { nodes, caller, subscriber, subscription, epoch, position, pending: pending.into() })
    }

    async fn serve(mut self, requests: Streaming<FeedRequest>, batches: mpsc::Sender<Result<Batch, Status>>) {
        let closing = self.nodes.closing.clone();
        let end = tokio::select! {
            () = closing.cancelled() => Err(Status::unavailable("the controller is stopping")),
            end = self.follow(requests, &batches) => end,
        };
        let now = std::time::Instant::now();
        self.nodes.cursors.lock().disconnect(&self.subscriber, self.subscription, now);
        self.nodes.wake.notify_one();
        let (member, consumer) = &self.subscriber;
        tracing::info!(member, ?consumer, end = end.as_ref().err().map(Status::message), "a feed closed");
        if let Err(status) = end {
            // The member may have hung up already.
            let _ = batches.try_send(Err(status));
        }
    }

    /// Sends and listens until either side ends. Every branch is cancel safe: nothing is taken before it is won.
    async fn follow(
        &mut self,
        mut requests: Streaming<FeedRequest>,
        batches: &mpsc::Sender<Result<Batch, Status>>,
    ) -> Result<(), Status> {
        loop {
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => self.listen(request)?,
                    None => return Ok(()),
                },
                permit = batches.reserve(), if !self.pending.is_empty() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(part) = self.pending.pop_front() {
                        metrics::counter!("warren_nodes_feed_batches_total").increment(1);
                        permit.send(Ok(Batch::new(self.epoch, part)));
                    }
                }
                changed = self.position.changed(), if self.pending.is_empty() => {
                    // The view is not published any more: the member is gone, or does not run pods.
                    changed.map_err(|_| Status::unavailable("the member's view is gone"))?;
                    self.advance()?;
                }
            }
        }
    }

    fn listen(&self, request: FeedRequest) -> Result<(), Status> {
        let Some(Kind::Acknowledge(acknowledge)) = request.kind else {
            return Err(Status::invalid_argument(
                "a feed has one subscription; later messages must be `acknowledge`",
            ));
        };
        let moved = {
            let mut cursors = self.nodes.cursors.lock();
            let now = std::time::Instant::now();
            let before = (cursors.applied(&self.subscriber), cursors.ready(&self.subscriber, now));
            cursors.acknowledge(&self.subscriber, self.subscription, acknowledge.revision);
            before != (cursors.applied(&self.subscriber), cursors.ready(&self.subscriber, now))
        };
        if moved {
            self.nodes.wake.notify_one();
        }
        Ok(())
    }

    /// Prepares what leads from the position to the newest state.
    fn advance(&mut self) -> Result<(), Status> {
        let (member, consumer) = &self.subscriber;
        self.caller.check(&self.nodes.store.snapshot())?;
        if !self.nodes.cursors.lock().is_current(&self.subscriber, self.subscription) {
            return Err(Status::aborted("the same consumer has opened a newer feed"));
        }
        let Some(selection) = self.nodes.published.select(member, *consumer) else { return Ok(()) };
        self.pending = self.position.advance(selection).into();
        let mut cursors = self.nodes.cursors.lock();
        let before = cursors.applied(&self.subscriber);
        if let Some(last) = self.pending.back() {
            cursors.sent(&self.subscriber, self.subscription, last.revision);
        }
        cursors.nothing_to_send(&self.subscriber, self.subscription, self.position.revision());
        let moved = cursors.applied(&self.subscriber) != before;
        drop(cursors);
        if moved {
            self.nodes.wake.notify_one();
        }
        Ok(())
    }
}
