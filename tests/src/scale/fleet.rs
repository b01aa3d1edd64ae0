//! All simulated nodes, and what they have in common.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use warren_proto::control::FeedBatch;

use crate::{controller::Controller, member::Member, settings::Settings};

/// A controller takes so many requests without a certificate from one source in a second, and some in reserve.
const JOINS_PER_SECOND: u32 = 80;
const JOINS_AT_A_TIME: usize = 8;
const LOOK: Duration = Duration::from_millis(50);
/// Complaints that are shown; of the rest only the number is.
const SHOWN: u64 = 5;

/// What all members count together.
pub(crate) struct Shared {
    /// Messages of feeds after their snapshots, and their bytes.
    messages: AtomicU64,
    bytes: AtomicU64,
    beats: AtomicU64,
    opened: AtomicUsize,
    bound: AtomicUsize,
    running: AtomicUsize,
    troubles: AtomicU64,
    /// Members that have yet to put the watched service's change in force, and when the last one did.
    awaited: AtomicUsize,
    last_applied: Mutex<Instant>,
    all_applied: Notify,
    /// When the last pod was seen by its agent.
    last_bound: Mutex<Instant>,
    /// Whether usage and tunnels are reported.
    pub(crate) reports: watch::Sender<bool>,
    pub(crate) stop: CancellationToken,
}

/// What was sent to all feeds so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Shared {
    fn new() -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            opened: AtomicUsize::new(0),
            bound: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            troubles: AtomicU64::new(0),
            awaited: AtomicUsize::new(0),
            last_applied: Mutex::new(now),
            all_applied: Notify::new(),
            last_bound: Mutex::new(now),
            reports: watch::Sender::new(false),
            stop: CancellationToken::new(),
        })
    }

    pub(crate) fn received(&self, batch: &FeedBatch, bytes: usize) {
        if !batch.snapshot {
            self.messages.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn beaten(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bound(&self) {
        *self.last_bound.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.bound.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn running(&self, count: usize) {
        self.running.fetch_add(count, Ordering::Relaxed);
    }

    /// A member has acknowledged a change of the watched service.
    pub(crate) fn applied(&self) {
        let before =
            self.awaited.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        if before == Ok(1) {
            *self.last_applied.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            self.all_applied.notify_one();
        }
    }

    pub(crate) fn trouble(&self, member: &str, what: &str, error: &anyhow::Error) {
        if self.troubles.fetch_add(1, Ordering::Relaxed) < SHOWN && !self.stop.is_cancelled() {
            eprintln!("{member}: {what}: {error:#}");
        }
    }
}

/// All simulated nodes.
pub(crate) struct Fleet {
    pub(crate) members: Vec<Arc<Member>>,
    shared: Arc<Shared>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Fleet {
    /// Joins so many nodes, each with a token of its own. Their hearts beat from then on.
    pub(crate) async fn join(
        controller: &Controller,
        settings: &Settings,
        size: usize,
    ) -> anyhow::Result<Self> {
        let shared = Shared::new();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / JOINS_PER_SECOND);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let paced = stream::unfold((0, pace), |(number, mut pace)| async move {
            pace.tick().await;
            Some((number, (number + 1, pace)))
        });
        let client = controller.client().await?;
        let joins = paced.take(size).map(|number| {
            let (mut client, shared) = (client.clone(), Arc::clone(&shared));
            async move {
                let token = client.token().await?;
                let member = Member::join(controller.address, &token, number, settings.connections, shared);
                member.await.with_context(|| format!("node {number} cannot join"))
            }
        });
        let members = joins.buffer_unordered(JOINS_AT_A_TIME).try_collect().await?;
        Ok(Self { members, shared })
    }

    /// Opens all feeds, and waits until each has its snapshot.
    pub(crate) async fn work(&self, patience: Duration) -> anyhow::Result<()> {
        self.members.iter().for_each(Member::work);
        let wanted = 2 * self.members.len();
        self.until("feeds that have their snapshot", patience, &self.shared.opened, wanted).await
    }

    /// Waits until so many pods run, as their agents reported.
    pub(crate) async fn all_run(&self, pods: usize, patience: Duration) -> anyhow::Result<()> {
        self.until("pods that are bound", patience, &self.shared.bound, pods).await?;
        self.until("pods that are reported", patience, &self.shared.running, pods).await
    }

    async fn until(
        &self,
        what: &str,
        patience: Duration,
        count: &AtomicUsize,
        wanted: usize,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        while count.load(Ordering::Relaxed) < wanted {
            anyhow::ensure!(
                started.elapsed() < patience,
                "{what}: {} of {wanted} after {} s",
                count.load(Ordering::Relaxed),
                patience.as_secs()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    pub(crate) fn last_bound(&self) -> Instant {
        *self.shared.last_bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was sent to all feeds so far.
    pub(crate) fn sent(&self) -> Sent {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Sent { messages: load(&self.shared.messages), bytes: load(&self.shared.bytes) }
    }

    /// Heartbeats that were answered so far.
    pub(crate) fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Relaxed)
    }

    /// Streams that broke and reports that were refused so far.
    pub(crate) fn troubles(&self) -> u64 {
        self.shared.troubles.load(Ordering::Relaxed)
    }

    /// Before a change of the watched service: every member is to put it in force.
    pub(crate) fn await_all(&self) {
        self.shared.awaited.store(self.members.len(), Ordering::Release);
    }

    /// When the last member had it in force.
    pub(crate) async fn all_applied(&self, patience: Duration) -> anyhow::Result<Instant> {
        tokio::time::timeout(patience, self.shared.all_applied.notified()).await.with_context(|| {
            let missing = self.shared.awaited.load(Ordering::Acquire);
            format!("{missing} nodes did not hear of a change in {} s", patience.as_secs())
        })?;
        Ok(*self.shared.last_applied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether usage and tunnels are reported every ten seconds.
    pub(crate) fn report_regularly(&self, wanted: bool) {
        self.shared.reports.send_replace(wanted);
    }
}
