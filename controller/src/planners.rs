//! Drives the pure planners: snapshot and observation in, compare-and-swap commits out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{FutureExt as _, join_all};
use parking_lot::Mutex;
use tokio::sync::Notify;
use warren_nodes::Nodes;
use warren_plan::{Problem, Step, World};
use warren_runtime::{CancellationToken, reconcile, reconcile::Pass, tasks::TaskSet};
use warren_store::{Change, CommitError, Key, Store, Watch};
use warren_vocabulary::{
    ClusterConfig,
    guard::{Failure, Progress},
    resources,
};

use crate::starts::{Part, Starts};

/// A whole pass at least this often, whatever was or was not noticed.
const RESYNC: Duration = Duration::from_secs(10);

/// While changes keep coming, the planners leave the processor to others for as long as they had it, but not longer.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// When each freed pod address was last used, so that it is not reused too early.
struct Released {
    addresses: BTreeMap<Ipv4Addr, u64>,
    /// Since which revision `addresses` is complete.
    since: u64,
    watch: Watch,
}

impl Released {
    fn start(store: &dyn Store) -> anyhow::Result<Self> {
        let since = store.snapshot().revision;
        Ok(Self { addresses: BTreeMap::new(), since, watch: store.watch(since)? })
    }

    /// Reads history up to a snapshot's revision: a plan must know of every address that its snapshot lacks.
    async fn catch_up(&mut self, store: &dyn Store, revision: u64) -> anyhow::Result<()> {
        while self.watch.position() < revision {
            match self.watch.next().await {
                Ok(changes) if changes.is_empty() => anyhow::bail!("the store has closed"),
                Ok(changes) => changes.iter().for_each(|change| note_released(change, &mut self.addresses)),
                Err(expired) => {
                    tracing::warn!(%expired, "the planners fell behind; freed addresses rest until all have caught up");
                    *self = Self::start(store)?;
                }
            }
        }
        Ok(())
    }
}

/// Starts the planners' loop and what wakes it.
pub(crate) fn start(
    tasks: &mut TaskSet,
    store: Arc<dyn Store>,
    nodes: Arc<Nodes>,
    config: ClusterConfig,
    quarantined: BTreeSet<Key>,
    starts: Arc<Starts>,
) -> anyhow::Result<()> {
    let stop = tasks.stop().clone();
    let wake = Arc::new(Notify::new());
    tasks.spawn("planner-watch", watch(Arc::clone(&store), Arc::clone(&wake), stop.clone()));
    tasks.spawn("planner-liveness", forward(nodes.wake(), Arc::clone(&wake), stop.clone()));
    let released = tokio::sync::Mutex::new(Released::start(&*store)?);
    let (progress, reported) = (starts.watch(Part::Planning), Mutex::default());
    let planner = Planner { store, nodes, config, quarantined, starts, progress, released, reported };
    let planner = Arc::new(planner);
    tasks.spawn("planner", async move {
        // A boxed future, because a lending one cannot be shown to be `Send`.
        let pass = move || Arc::clone(&planner).pass().boxed();
        reconcile::drive("planner", wake, stop, RESYNC, pass).await;
        Ok(())
    });
    Ok(())
}

/// Every commit wakes the planners.
async fn watch(store: Arc<dyn Store>, wake: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut watch = store.watch(store.snapshot().revision)?;
    loop {
        let changes = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changes = watch.next() => changes,
        };
        match changes {
            Ok(changes) if changes.is_empty() => {
                stop.cancelled().await;
                return Ok(());
            }
            Ok(_) => {}
            Err(_) => watch = store.watch(store.snapshot().revision)?,
        }
        wake.notify_one();
    }
}

fn note_released(change: &Change, released: &mut BTreeMap<Ipv4Addr, u64>) {
    for event in change.events.iter().filter(|event| &*event.key.resource == resources::PODS) {
        let (Some(previous), None) = (&event.previous, &event.current) else { continue };
        let address = previous.value.pointer("/status/podIP").and_then(|value| value.as_str());
        if let Some(address) = address.and_then(|text| text.parse().ok()) {
            released.insert(address, change.revision);
        }
    }
}

async fn forward(from: Arc<Notify>, to: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = from.notified() => to.notify_one(),
        }
    }
}

struct Planner {
    store: Arc<dyn Store>,
    nodes: Arc<Nodes>,
    config: ClusterConfig,
    /// What an operator has set aside.
    quarantined: BTreeSet<Key>,
    starts: Arc<Starts>,
    progress: Arc<dyn Progress>,
    released: tokio::sync::Mutex<Released>,
    /// Problems are said once, not in every pass.
    reported: Mutex<BTreeSet<String>>,
}

impl Planner {
    async fn pass(self: Arc<Self>) -> Pass {
        let now = jiff::Timestamp::now();
        let observed = self.nodes.observe();
        // The acknowledgement was observed first: it can only be older than the snapshot.
        let snapshot = self.store.snapshot();
        let mut released = self.released.lock().await;
        if let Err(error) = released.catch_up(&*self.store, snapshot.revision).await {
            tracing::debug!(%error, "no plan");
            return Pass { retry: true, wake_after: None };
        }
        let (snapshot, quarantined) = if self.quarantined.is_empty() {
            (snapshot, Vec::new())
        } else {
            let (rest, quarantined) = snapshot.without(&self.quarantined);
            (Arc::new(rest), quarantined)
        };
        let world = World {
            snapshot,
            config: self.config.clone(),
            nodes: observed.nodes,
            acknowledged: observed.acknowledged,
            released: released.addresses.clone(),
            released_since: released.since,
            quarantined,
            failures: self.nodes.failures(),
        };
        drop(released);
        let started = Instant::now();
        let plan = warren_plan::plan_watched(&world, now, &*self.progress);
        self.starts.finish(Part::Planning);
        let took = started.elapsed();
        metrics::histogram!("warren_plan_seconds").record(took.as_secs_f64());
        self.report(plan.problems, plan.failures.iter().chain(&world.failures));
        let retry = self.apply(plan.steps).await;
        tokio::time::sleep(took.min(LONGEST_REST)).await;
        let now = jiff::Timestamp::now();
        let wake_after = plan.wake_at.map(|at| now.duration_until(at).try_into().unwrap_or(Duration::ZERO));
        Pass { retry, wake_after }
    }

    /// Commits all steps at once; a conflict is dropped, as the change that caused it wakes us again.
    async fn apply(&self, steps: Vec<Step>) -> bool {
        let commits = steps.into_iter().map(|step| commit(Arc::clone(&self.store), step));
        join_all(commits).await.into_iter().any(|failed| failed)
    }

    fn report<'f>(&self, problems: Vec<Problem>, failures: impl Iterator<Item = &'f Failure>) {
        let mut current: BTreeSet<String> =
            problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
        let mut reported = self.reported.lock();
        for problem in current.difference(&reported) {
            tracing::warn!(problem, "the planners cannot do what is wanted");
        }
        for Failure { stage, key, message } in failures {
            metrics::counter!("warren_failed_objects_total", "stage" => *stage).increment(1);
            let failure = format!("{stage} {key}: {message}");
            if !reported.contains(&failure) {
                tracing::error!(stage, %key, message, "an object could not be dealt with; it is left as it is");
            }
            current.insert(failure);
        }
        *reported = current;
    }
}

/// Carries out one step; the answer is whether to try again.
async fn commit(store: Arc<dyn Store>, step: Step) -> bool {
    match store.commit(step.transaction).await {
        Ok(revision) => {
            tracing::debug!(revision, why = step.why, "planned");
            metrics::counter!("warren_plan_steps_total").increment(1);
            false
        }
        Err(CommitError::Conflict(precondition)) => {
            tracing::debug!(?precondition, why = step.why, "planned from an older state; planning again");
            metrics::counter!("warren_plan_conflicts_total").increment(1);
            false
        }
        Err(error) => {
            tracing::error!(%error, why = step.why, "cannot carry out a planned step");
            true
        }
    }
}
