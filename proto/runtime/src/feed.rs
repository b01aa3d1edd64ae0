//! A consumer's view of the desired state: snapshot, marker, deltas; kept on disk, fenced by revision.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use rand::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use warren_proto::{
    control::{
        Acknowledge, Consumer, FeedBatch, FeedItem, FeedRequest, Subscribe, control_client::ControlClient,
        feed_request::Kind,
    },
    vocabulary::Cursor,
};

use crate::{connection::Controller, items::Items, kept::Keeper, tasks::TaskSet};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// A whole desired state. A copy costs nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Where in history it is.
    pub cursor: Cursor,
    /// Everything in the view, by key.
    pub items: Items,
}

/// A handle on the feed; cheap to clone.
#[derive(Clone)]
pub struct Feed {
    states: watch::Receiver<Option<Arc<State>>>,
    acknowledged: Arc<watch::Sender<u64>>,
}

impl Feed {
    /// Follows the feed for ever: reconnects with back-off, starts from the last state accepted on disk.
    pub fn follow(tasks: &mut TaskSet, controller: Controller, consumer: Consumer, file: PathBuf) -> Self {
        Self::follow_sealed(tasks, controller, consumer, file, None)
    }

    /// The same for a view that contains Secrets: the key to those that are kept lies in `memory`, a directory
    /// on tmpfs.
    pub fn follow_sealed(
        tasks: &mut TaskSet,
        controller: Controller,
        consumer: Consumer,
        file: PathBuf,
        memory: Option<&Path>,
    ) -> Self {
        let keeper = Keeper::new(file, memory);
        let kept = match keeper.load() {
            Ok(state) => state.map(Arc::new),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the kept feed is unusable; waiting for the controller"
                );
                None
            }
        };
        let (publish, states) = watch::channel(kept);
        let acknowledged = Arc::new(watch::Sender::new(0));
        let follower = Follower {
            controller: controller.clone(),
            consumer,
            publish,
            acknowledged: acknowledged.subscribe(),
        };
        let stop = tasks.stop().clone();
        tasks.spawn("feed", follower.run(stop.clone()));
        tasks.spawn("feed-keeper", keep(Arc::new(keeper), states.clone(), stop.clone()));
        if matches!(consumer, Consumer::Agent | Consumer::Gateway) {
            tasks.spawn("certificate", controller.keep_certificate(stop));
        }
        Self { states, acknowledged }
    }

    /// The state now; `None` before the first one ever.
    pub fn current(&self) -> Option<Arc<State>> {
        self.states.borrow().clone()
    }

    /// A receiver that sees every new state (the latest one; intermediate ones may be skipped).
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<State>>> {
        self.states.clone()
    }

    /// Says that `revision` is in force here. Call it for every state, also for one that changed nothing.
    pub fn acknowledge(&self, revision: u64) {
        self.acknowledged.send_replace(revision);
    }

    /// A feed that a test drives by hand: states go in by the sender, acknowledgements come out.
    pub fn manual() -> (Self, watch::Sender<Option<Arc<State>>>, watch::Receiver<u64>) {
        let (publish, states) = watch::channel(None);
        let acknowledged = Arc::new(watch::Sender::new(0));
        let receiver = acknowledged.subscribe();
        (Self { states, acknowledged }, publish, receiver)
    }
}

struct Follower {
    controller: Controller,
    consumer: Consumer,
    publish: watch::Sender<Option<Arc<State>>>,
    acknowledged: watch::Receiver<u64>,
}

impl Follower {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut pause = FIRST_RETRY;
        loop {
            let mut progressed = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                outcome = self.session(&mut progressed) => {
                    let error = outcome.err().map_or_else(|| "the stream ended".to_owned(), |error| format!("{error:#}"));
                    tracing::warn!(error, "lost the feed; going on with the last accepted state");
                }
            }
            pause = if progressed { FIRST_RETRY } else { (pause * 2).min(LAST_RETRY) };
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(jittered) => {}
            }
        }
    }

    /// One connection's life. Dropping it at any point loses nothing: only whole states are published.
    async fn session(&mut self, progressed: &mut bool) -> anyhow::Result<()> {
        let mut client =
            ControlClient::new(self.controller.channel().await?).max_decoding_message_size(64 << 20);
        let (requests, outgoing) = mpsc::channel(4);
        let known = self.publish.borrow().as_deref().cloned().unwrap_or_default();
        let accepted = known.cursor;
        let subscribe =
            Subscribe { consumer: self.consumer.into(), epoch: accepted.epoch, revision: accepted.revision };
        requests.send(FeedRequest { kind: Some(Kind::Subscribe(subscribe)) }).await?;
        let mut batches = client.feed(ReceiverStream::new(outgoing)).await?.into_inner();
        tracing::info!(revision = accepted.revision, "following the feed");
        // What was said before belongs to the last connection.
        self.acknowledged.mark_unchanged();
        let mut assembly = Assembly { known: known.items, ..Assembly::new(accepted) };
        loop {
            tokio::select! {
                batch = batches.message() => {
                    let Some(batch) = batch? else { return Ok(()) };
                    if let Some(state) = assembly.apply(batch)? {
                        *progressed = true;
                        self.publish.send_replace(Some(Arc::new(state)));
                    }
                }
                changed = self.acknowledged.changed() => {
                    changed.context("the consumer is gone")?;
                    let revision = *self.acknowledged.borrow_and_update();
                    requests.send(FeedRequest { kind: Some(Kind::Acknowledge(Acknowledge { revision })) }).await?;
                }
            }
        }
    }
}

/// Turns batches into whole states, each made from the one before. Pure.
struct Assembly {
    /// Nothing older is ever accepted.
    fence: Cursor,
    state: Option<State>,
    /// What the consumer had before this connection.
    known: Items,
    arriving: Items,
}

impl Assembly {
    fn new(fence: Cursor) -> Self {
        Self { fence, state: None, known: Items::new(), arriving: Items::new() }
    }

    fn apply(&mut self, batch: FeedBatch) -> anyhow::Result<Option<State>> {
        let cursor = Cursor { epoch: batch.epoch, revision: batch.revision };
        anyhow::ensure!(
            cursor >= self.fence,
            "the controller offers revision {} of epoch {}, older than the accepted revision {} of epoch {}",
            cursor.revision,
            cursor.epoch,
            self.fence.revision,
            self.fence.epoch
        );
        let upserts = batch.upserts.into_iter().filter_map(|FeedItem { key, item }| Some((key, item?)));
        if batch.snapshot {
            self.arriving.extend(upserts);
            if !batch.complete {
                return Ok(None);
            }
            let before = self.state.as_ref().map_or(&self.known, |state| &state.items);
            let items = before.become_like(&std::mem::take(&mut self.arriving));
            self.known = Items::new();
            self.state = Some(State { cursor, items });
        } else {
            let state = self.state.as_mut().context("the controller sent a change before the snapshot")?;
            state.items.extend(upserts);
            for key in &batch.deletes {
                state.items.remove(key);
            }
            state.cursor = cursor;
        }
        self.fence = cursor;
        Ok(self.state.clone())
    }
}

/// Writes the newest state to disk, off the path of the consumer.
async fn keep(
    keeper: Arc<Keeper>,
    mut states: watch::Receiver<Option<Arc<State>>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = states.changed() => if changed.is_err() {
                stop.cancelled().await;
                return Ok(());
            },
        }
        let Some(state) = states.borrow_and_update().clone() else { continue };
        let keeper = Arc::clone(&keeper);
        let written = tokio::task::spawn_blocking(move || keeper.store(&state)).await?;
        if let Err(error) = written {
            tracing::error!(
                error = format!("{error:#}"),
                "cannot keep the feed; a restart would begin with an older one"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::control::{Peer, feed_item::Item};

    fn peer(name: &str) -> FeedItem {
        let peer = Peer { name: name.into(), ..Peer::default() };
        FeedItem { key: format!("peer/{name}"), item: Some(Item::Peer(peer)) }
    }

    fn batch(
        revision: u64,
        snapshot: bool,
        complete: bool,
        upserts: Vec<FeedItem>,
        deletes: &[&str],
    ) -> FeedBatch {
        let deletes = deletes.iter().map(|key| (*key).to_owned()).collect();
        FeedBatch { epoch: 1, revision, snapshot, complete, upserts, deletes }
    }

    #[test]
    fn a_state_appears_at_the_marker_and_after_each_delta() {
        let mut assembly = Assembly::new(Cursor::default());
        assert_eq!(assembly.apply(batch(5, true, false, vec![peer("a")], &[])).expect("part"), None);
        let state =
            assembly.apply(batch(5, true, true, vec![peer("b")], &[])).expect("whole").expect("a state");
        assert_eq!(state.items.keys().collect::<Vec<_>>(), ["peer/a", "peer/b"]);
        let state = assembly
            .apply(batch(6, false, false, vec![peer("c")], &["peer/a"]))
            .expect("delta")
            .expect("a state");
        assert_eq!(state.items.keys().collect::<Vec<_>>(), ["peer/b", "peer/c"]);
        assert_eq!(state.cursor.revision, 6);
    }

    #[test]
    fn older_state_is_refused_unless_the_epoch_is_newer() {
        let mut assembly = Assembly::new(Cursor { epoch: 1, revision: 9 });
        assert!(assembly.apply(batch(8, true, true, vec![], &[])).is_err());
        let restored = FeedBatch { epoch: 2, ..batch(3, true, true, vec![], &[]) };
        assert!(assembly.apply(restored).expect("a newer epoch").is_some());
        assert!(assembly.apply(batch(100, true, true, vec![], &[])).is_err());
    }

    #[test]
    fn a_change_before_the_snapshot_is_an_error() {
        assert!(Assembly::new(Cursor::default()).apply(batch(1, false, false, vec![], &[])).is_err());
    }

    #[test]
    fn a_state_survives_the_disk_and_damage_is_noticed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("feeds/netd.bin");
        let keeper = Keeper::new(file.clone(), None);
        assert!(keeper.load().expect("absent").is_none());
        let mut assembly = Assembly::new(Cursor::default());
        let state =
            assembly.apply(batch(5, true, true, vec![peer("a")], &[])).expect("whole").expect("a state");
        keeper.store(&state).expect("written");
        assert_eq!(keeper.load().expect("readable"), Some(state));
        std::fs::write(&file, b"\xff\xff\xff\xff").expect("written");
        assert!(keeper.load().is_err());
    }
}
