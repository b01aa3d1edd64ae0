//! Drives the pure planners: snapshot and observation in, compare-and-swap commits out.
//!
//! A pass is made on a thread of its own, for it may take seconds after a start: heartbeats, requests and watches go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{FutureExt as _, join_all};
use parking_lot::Mutex;
use tokio::sync::Notify;
use warren_nodes::{Nodes, Observed};
use warren_objects::Registries;
use warren_plan::{Explanation, Plan, Problem, Step, Usage, World};
use warren_runtime::{CancellationToken, reconcile, reconcile::Pass, tasks::TaskSet};
use warren_store::{Change, CommitError, Key, Snapshot, Store, Transaction, Watch};
use warren_vocabulary::{
    ClusterConfig,
    guard::{Failure, Progress},
    resources,
};

use warren_write::{Author, Gate, Passed};

use crate::{
    refusals::{Attempt, Refusals},
    starts::{Part, Starts},
};

/// A pass at least this often, whatever was or was not noticed; with it, some of the objects that nothing has touched
/// are looked at again.
const RESYNC: Duration = Duration::from_secs(10);

/// In so many of these passes all objects are looked at again, but for a few objects at once.
const ROUND: usize = 30;
const FEW: usize = 500;

/// While changes keep coming, the planners leave the processor to others for as long as they had it, but not longer.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// What planning goes on from: what it knew in the last pass. It is lent to the thread that plans.
pub(crate) struct Knowledge {
    planner: warren_plan::Planner,
    /// In `released`: when each freed pod address was last used, so that it is not reused too early.
    world: World,
    /// What `released` is made of.
    watch: Watch,
    /// When objects that nothing has touched were last looked at.
    revisited: Instant,
}

impl Knowledge {
    fn start(
        store: &dyn Store,
        config: ClusterConfig,
        registries: Arc<Registries>,
    ) -> anyhow::Result<Box<Self>> {
        let released_since = store.snapshot().revision;
        let watch = store.watch(released_since)?;
        let world = World { config, released_since, ..World::default() };
        let planner = warren_plan::Planner::for_kinds(registries);
        Ok(Box::new(Self { planner, world, watch, revisited: Instant::now() }))
    }

    /// Reads history up to a snapshot's revision: a plan must know of every address that its snapshot lacks.
    async fn catch_up(&mut self, store: &dyn Store, revision: u64) -> anyhow::Result<()> {
        while self.watch.position() < revision {
            match self.watch.next().await {
                Ok(changes) if changes.is_empty() => anyhow::bail!("the store has closed"),
                Ok(changes) => {
                    changes.iter().for_each(|change| note_released(change, &mut self.world.released));
                }
                Err(expired) => {
                    tracing::warn!(%expired, "the planners fell behind; freed addresses rest until all have caught up");
                    self.world.released_since = store.snapshot().revision;
                    self.world.released.clear();
                    self.watch = store.watch(self.world.released_since)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in what is known now.
    fn look(
        &mut self,
        snapshot: Arc<Snapshot>,
        quarantined: &BTreeSet<Key>,
        observed: Observed,
        usage: impl FnOnce(bool) -> Usage,
        failures: Vec<Failure>,
    ) {
        (self.world.snapshot, self.world.quarantined) = if quarantined.is_empty() {
            (snapshot, Vec::new())
        } else {
            let (rest, quarantined) = snapshot.without(quarantined);
            (Arc::new(rest), quarantined)
        };
        (self.world.nodes, self.world.acknowledged) = (observed.nodes, observed.acknowledged);
        self.world.failures = failures;
        // Nobody else asks for more than what pods answer.
        let autoscalers = self.world.snapshot.list(resources::HORIZONTALPODAUTOSCALERS).next().is_some();
        self.world.usage = usage(autoscalers);
        if self.revisited.elapsed() >= RESYNC {
            self.revisited = Instant::now();
            self.planner.revisit((self.world.snapshot.len() / ROUND).max(FEW));
        }
    }

    /// Keeps what the planner's autoscalers remember, as long as they are there.
    fn remember(&mut self, plan: &Plan) {
        let Self { world: World { snapshot, scaling_records, .. }, .. } = self;
        let records = plan.scaling_records.iter();
        scaling_records.extend(records.map(|(key, record)| (key.clone(), Arc::clone(record))));
        scaling_records.retain(|key, _| snapshot.get(key).is_some());
    }

    /// Explains where a pod may run, in the state of the last plan.
    pub(crate) fn explain(&self, pod: &Key, now: jiff::Timestamp) -> Option<Explanation> {
        self.planner.explain(&self.world, pod, now)
    }

    /// Says what the last plan cost, and what it should have known before.
    fn tell(&self, took: Duration) {
        metrics::histogram!("warren_plan_seconds").record(took.as_secs_f64());
        metrics::counter!("warren_plan_keys_total").increment(self.planner.planned() as u64);
        for key in self.planner.missed() {
            metrics::counter!("warren_plan_missed_total").increment(1);
            tracing::error!(
                key,
                "a change concerned this and was not noticed: a fault of ours; it is planned now"
            );
        }
    }
}

/// What the planners' loop works with.
pub(crate) struct Rooms {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) starts: Arc<Starts>,
}

/// Makes the planners, which nothing drives yet.
pub(crate) fn make(
    rooms: Rooms,
    config: ClusterConfig,
    quarantined: BTreeSet<Key>,
) -> anyhow::Result<Arc<Planner>> {
    let Rooms { store, gate, nodes, starts } = rooms;
    let knowledge =
        tokio::sync::Mutex::new(Some(Knowledge::start(&*store, config.clone(), gate.registries())?));
    Ok(Arc::new(Planner {
        progress: starts.watch(Part::Planning),
        store,
        gate,
        nodes,
        config,
        quarantined,
        starts,
        knowledge,
        planned: tokio::sync::watch::Sender::new(0),
        reported: Mutex::default(),
        refusals: Mutex::default(),
    }))
}

/// Starts the planners' loop and what wakes it.
pub(crate) fn start(tasks: &mut TaskSet, planner: Arc<Planner>) {
    let (store, nodes) = (&planner.store, &planner.nodes);
    let stop = tasks.stop().clone();
    let wake = Arc::new(Notify::new());
    tasks.spawn("planner-watch", watch(Arc::clone(store), Arc::clone(&wake), stop.clone()));
    tasks.spawn("planner-liveness", forward(nodes.wake(), Arc::clone(&wake), stop.clone()));
    tasks.spawn("planner", async move {
        // A boxed future, because a lending one cannot be shown to be `Send`.
        let pass = move || Arc::clone(&planner).pass().boxed();
        reconcile::drive("planner", wake, stop, RESYNC, pass).await;
        Ok(())
    });
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

/// What planning has come to.
struct Thought {
    plan: Plan,
    /// The whole state that was planned from: with what is set aside.
    snapshot: Arc<Snapshot>,
    took: Duration,
    knowledge: Box<Knowledge>,
}

/// What became of a plan's steps.
struct Applied {
    /// Some could not be written, and may be later.
    retry: bool,
    /// Some were refused.
    refused: bool,
}

/// The planners, and what they know.
pub(crate) struct Planner {
    store: Arc<dyn Store>,
    /// What every planned write passes.
    gate: Arc<Gate>,
    nodes: Arc<Nodes>,
    config: ClusterConfig,
    /// What an operator has set aside.
    quarantined: BTreeSet<Key>,
    starts: Arc<Starts>,
    progress: Arc<dyn Progress>,
    /// None while it is lent, or when a fault of ours has cost it.
    pub(crate) knowledge: tokio::sync::Mutex<Option<Box<Knowledge>>>,
    /// The revision of the state that was last planned for.
    pub(crate) planned: tokio::sync::watch::Sender<u64>,
    /// Problems are said once, not in every pass.
    reported: Mutex<BTreeSet<String>>,
    /// What the gate did not let pass.
    refusals: Mutex<Refusals>,
}

impl Planner {
    async fn pass(self: Arc<Self>) -> Pass {
        let mut lent = self.knowledge.lock().await;
        let Thought { plan, snapshot, took, knowledge } = match self.think(lent.take()).await {
            Ok(thought) => thought,
            Err(error) => {
                tracing::debug!(%error, "no plan");
                return Pass { retry: true, wake_after: None };
            }
        };
        self.starts.finish(Part::Planning);
        knowledge.tell(took);
        self.report(plan.problems, plan.failures.iter().chain(&knowledge.world.failures));
        *lent = Some(knowledge);
        drop(lent);
        self.planned.send_replace(snapshot.revision);
        let applied = self.apply(&snapshot, plan.steps).await;
        tokio::time::sleep(took.min(LONGEST_REST)).await;
        let now = jiff::Timestamp::now();
        let wake_after = plan.wake_at.map(|at| now.duration_until(at).try_into().unwrap_or(Duration::ZERO));
        // What was refused is told by the next plan, which no commit wakes.
        let wake_after = if applied.refused { Some(Duration::ZERO) } else { wake_after };
        Pass { retry: applied.retry, wake_after }
    }

    /// Plans on a thread of its own. What it cannot end costs what was known: the next pass begins from nothing.
    async fn think(&self, known: Option<Box<Knowledge>>) -> anyhow::Result<Thought> {
        let now = jiff::Timestamp::now();
        let observed = self.nodes.observe();
        // The acknowledgement was observed first: it can only be older than the snapshot.
        let snapshot = self.store.snapshot();
        let mut knowledge = match known {
            Some(knowledge) => knowledge,
            None => Knowledge::start(&*self.store, self.config.clone(), self.gate.registries())?,
        };
        knowledge.catch_up(&*self.store, snapshot.revision).await?;
        let (nodes, failures) = (&self.nodes, self.nodes.failures());
        let usage = |all| if all { nodes.measurements() } else { nodes.answers() };
        knowledge.look(Arc::clone(&snapshot), &self.quarantined, observed, usage, failures);
        knowledge.world.refusals = self.refusals.lock().observe(now);
        let progress = Arc::clone(&self.progress);
        let thread = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let plan = knowledge.planner.plan(&knowledge.world, now, &*progress);
            knowledge.remember(&plan);
            Thought { plan, snapshot, took: started.elapsed(), knowledge }
        });
        let ended = |error: &tokio::task::JoinError| {
            tracing::error!(%error, "planning ended by a fault of ours; it begins again from nothing");
        };
        Ok(thread.await.inspect_err(ended)?)
    }

    /// Leads all steps through the gate and commits them at once; a conflict is dropped, as the change that caused it
    /// wakes us again. `snapshot` is the state that they were planned from.
    async fn apply(&self, snapshot: &Snapshot, steps: Vec<Step>) -> Applied {
        let now = jiff::Timestamp::now();
        let mut refused_some = false;
        let mut commits = Vec::new();
        for step in steps {
            let attempt = Attempt::of(&step);
            let Step { planner, why, transaction, .. } = step;
            match self.gate.admit_all(snapshot, Author::controller(planner), transaction) {
                Ok(Passed { transaction, left_out, .. }) => {
                    for (event, refusal) in left_out {
                        tracing::debug!(%event, %refusal, "an event was refused; what it tells of happens");
                    }
                    commits.push(self.commit(attempt, why, transaction));
                }
                Err(refused) => {
                    metrics::counter!("warren_plan_refusals_total").increment(1);
                    tracing::debug!(%refused, why, "the gate refused a planned step");
                    self.refusals.lock().note(&attempt, &refused, now);
                    refused_some = true;
                }
            }
        }
        let retry = join_all(commits).await.into_iter().any(|failed| failed);
        Applied { retry, refused: refused_some }
    }

    /// Carries out one step; the answer is whether to try again.
    async fn commit(&self, attempt: Attempt, why: String, transaction: Transaction) -> bool {
        match self.store.commit(transaction).await {
            Ok(revision) => {
                tracing::debug!(revision, why, "planned");
                metrics::counter!("warren_plan_steps_total").increment(1);
                self.refusals.lock().succeeded(&attempt);
                false
            }
            Err(CommitError::Conflict(precondition)) => {
                tracing::debug!(?precondition, why, "planned from an older state; planning again");
                metrics::counter!("warren_plan_conflicts_total").increment(1);
                false
            }
            Err(error) => {
                tracing::error!(%error, why, "cannot carry out a planned step");
                true
            }
        }
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
