//! The loop: look at the world, plan, start what was planned, say how things stand.

mod apply;
mod images;
mod links;
mod pasts;
mod probing;
mod recall;
mod state;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use warren_proto::control::{PodInstruction, PodStatus};
use warren_runtime::{
    CancellationToken,
    feed::Feed,
    reconcile::{self, Pass},
    tasks::TaskSet,
};

use crate::{
    clock::Clock,
    netd::Links,
    plan::{self, Instance, ObservedPods, Planned, status},
    report::{Outbox, Subject},
    runtime::{ContainerEngine, Found, spec::Surroundings, watch::Inventory},
    tokens::Issuer,
    volumes::Volumes,
};
use recall::Recall;
use state::DriverState;

const RESYNC: Duration = Duration::from_secs(30);

/// What the agent of one node is made of.
pub struct Parts<E, L> {
    /// The container engine.
    pub engine: Arc<E>,
    /// netd.
    pub links: Arc<L>,
    /// Who issues tokens of service accounts.
    pub issuer: Arc<dyn Issuer>,
    /// The volumes of this node.
    pub volumes: Volumes,
    /// Names, sandbox image, cgroup.
    pub around: Surroundings,
    /// What a restarted agent must know though the engine does not remember it.
    pub recall_file: PathBuf,
    /// Where it is kept, per pod, what became of its containers.
    pub past_dir: PathBuf,
}

/// The agent of one node.
pub struct Driver<E, L> {
    engine: Arc<E>,
    links: Arc<L>,
    issuer: Arc<dyn Issuer>,
    volumes: Arc<Volumes>,
    around: Surroundings,
    recall_file: PathBuf,
    pasts: Arc<pasts::Pasts>,
    inventory: Arc<Inventory<E>>,
    state: Mutex<DriverState>,
    pulls: images::Pulls,
    outbox: Arc<Outbox>,
    wake: Arc<Notify>,
    feed: Feed,
    clock: Clock,
}

impl<E: ContainerEngine, L: Links> Driver<E, L> {
    /// Starts the agent's core: it follows the feed and the engine until the tasks are stopped.
    pub fn start(tasks: &mut TaskSet, parts: Parts<E, L>, feed: Feed) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let inventory =
            Arc::new(Inventory::new(Arc::clone(&parts.engine), parts.volumes.clone(), Arc::clone(&wake)));
        let pasts = Arc::new(pasts::Pasts::new(parts.past_dir));
        let state = DriverState::new(Recall::load(&parts.recall_file), parts.volumes.uids(), pasts.load());
        tasks.spawn("pasts", Arc::clone(&pasts).run(tasks.stop().clone()));
        let driver = Arc::new(Self {
            engine: parts.engine,
            links: parts.links,
            issuer: parts.issuer,
            volumes: Arc::new(parts.volumes),
            around: parts.around,
            recall_file: parts.recall_file,
            pasts,
            inventory,
            state: Mutex::new(state),
            pulls: images::Pulls::default(),
            outbox: Arc::default(),
            wake,
            feed,
            clock: Clock::default(),
        });
        let stop = tasks.stop().clone();
        let this = Arc::clone(&driver);
        let inventory = Arc::clone(&driver.inventory);
        tasks.spawn("engine events", {
            let stop = stop.clone();
            async move { inventory.follow(stop).await }
        });
        tasks.spawn(
            "feed wake-ups",
            wake_on_feed(driver.feed.clone(), Arc::clone(&driver.wake), stop.clone()),
        );
        tasks.spawn("links", links::watch(Arc::clone(&driver), stop.clone()));
        let wake = Arc::clone(&driver.wake);
        // A boxed future, because a lending one cannot be shown to be `Send`.
        let pass = move || -> BoxFuture<'static, Pass> {
            let this = Arc::clone(&this);
            Box::pin(async move { this.pass() })
        };
        tasks.spawn("pods", async move {
            reconcile::drive("agent", wake, stop, RESYNC, pass).await;
            Ok(())
        });
        driver
    }

    /// Statuses and events.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// The container engine.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// What the engine holds.
    pub fn inventory(&self) -> &Arc<Inventory<E>> {
        &self.inventory
    }

    /// One pass over the whole world.
    fn pass(self: &Arc<Self>) -> Pass {
        let (Ok(found), Some(wanted)) = (self.inventory.current(), self.feed.current()) else {
            // Nothing is decided blindly: not without the engine, not before the first feed.
            return Pass::default();
        };
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.take_in(&wanted.items);
        let observed = state.observed(found, now, Timestamp::now());
        for (uid, past) in state.changed_pasts() {
            self.pasts.save(&uid, past);
        }
        let plan = plan::plan(&state.desired, &observed, now);
        let statuses = describe(&state, &observed, &plan.gone, now);
        for (uid, after) in &statuses {
            for event in plan::events::between(state.statuses.get(uid), after) {
                self.outbox.event(&subject(uid, &after.namespace, &after.name), event);
            }
        }
        for uid in &plan.gone {
            if state.desired.pods.contains_key(uid) {
                continue;
            }
            let memory = state.memories.remove(uid).unwrap_or_default();
            self.pasts.forget(uid);
            self.outbox.depart(status::gone_status(uid, &memory.namespace, &memory.name));
        }
        let recall = state.recall(&statuses, &observed);
        if state.kept != recall {
            recall.save_or_warn(&self.recall_file);
            state.kept = recall;
        }
        state.statuses = statuses.clone();
        for planned in plan.actions {
            self.begin(&mut state, planned, now);
        }
        drop(state);
        self.outbox.publish(statuses);
        self.feed.acknowledge(wanted.cursor.revision);
        let wake_after = plan.wake_at.map(|at| {
            Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(1))
        });
        Pass { retry: false, wake_after }
    }

    /// Takes the action's slot and starts its work.
    fn begin(self: &Arc<Self>, state: &mut DriverState, planned: Planned, now: Timestamp) {
        let Planned { uid, action } = planned;
        tracing::debug!(pod = uid, ?action, "begin");
        let slot = action.slot();
        let instruction = state.desired.pods.get(&uid).cloned();
        let memory = state.memories.entry(uid.clone()).or_default();
        memory.busy.insert(slot.clone());
        state::note_begin(memory, instruction.as_deref(), &action, now);
        let subject = subject(&uid, &memory.namespace, &memory.name);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let job = apply::Job { driver: Arc::clone(&this), subject, instruction };
            // A panic in the job must not leave the slot taken for ever.
            let outcome = tokio::spawn(job.run(action)).await.unwrap_or_else(|error| {
                tracing::error!(%error, "an action panicked");
                Err(apply::Trouble::new("InternalError", error.to_string()))
            });
            this.finish(&uid, slot, outcome);
        });
    }

    fn finish(&self, uid: &str, slot: plan::Slot, outcome: Result<(), apply::Trouble>) {
        let mut state = self.state.lock();
        if let Some(memory) = state.memories.get_mut(uid) {
            memory.busy.remove(&slot);
            match outcome {
                Ok(()) => drop(memory.failures.remove(&slot)),
                Err(trouble) => {
                    metrics::counter!("warren_agent_failures_total", "reason" => trouble.reason).increment(1);
                    tracing::warn!(
                        pod = uid,
                        reason = trouble.reason,
                        message = trouble.message,
                        "an action failed"
                    );
                    state::note_failure(memory, slot, trouble, self.clock.now());
                }
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Changes what is remembered of a pod.
    fn remember(&self, uid: &str, change: impl FnOnce(&mut plan::Memory)) {
        if let Some(memory) = self.state.lock().memories.get_mut(uid) {
            change(memory);
        }
    }

    /// The instruction in force for a pod.
    fn instruction(&self, uid: &str) -> Option<Arc<PodInstruction>> {
        self.state.lock().desired.pods.get(uid).cloned()
    }

    /// The container whose log is meant: the latest, or the one before it that is dead.
    pub fn find_for_logs(&self, uid: &str, container: &str, previous: bool) -> Result<Found, String> {
        let found = self.inventory.current()?;
        let past = self.state.lock().memories.get(uid).map(|memory| memory.past.clone()).unwrap_or_default();
        let is_meant = |instance: &Instance| {
            instance.name == container
                && instance.kind != plan::Kind::Sandbox
                && (!previous || instance.exit().is_some())
        };
        let held = found.into_values().filter(|found| found.uid == uid && is_meant(&found.instance));
        let latest = held.max_by_key(|found| found.instance.attempt);
        let known = past.instances().iter().filter(|instance| is_meant(instance));
        let known = known.map(|instance| instance.attempt).max();
        match latest {
            // What the engine still has may be older than what is asked for.
            Some(latest) if known.is_none_or(|known| known <= latest.instance.attempt) => Ok(latest),
            _ if known.is_some() => Err(format!(
                "the log of {}container \"{container}\" in pod \"{uid}\" is gone: it went with the container, which was \
                 removed from the node's Docker engine (docker rm, docker container prune)",
                if previous { "the previous terminated " } else { "" }
            )),
            _ if previous => {
                Err(format!("previous terminated container \"{container}\" in pod \"{uid}\" not found"))
            }
            _ => Err(format!("container \"{container}\" in pod \"{uid}\" is waiting to start")),
        }
    }

    /// The running instance of a container.
    pub fn find_running(&self, uid: &str, container: &str) -> Result<Found, String> {
        let found = self.inventory.current()?;
        let mut running = found.into_values().filter(|found| {
            found.uid == uid
                && found.instance.name == container
                && found.instance.kind != plan::Kind::Sandbox
                && matches!(found.instance.phase, plan::Phase::Running(_))
        });
        running.next().ok_or_else(|| format!("container not found (\"{container}\")"))
    }

    /// The container that holds a pod's namespaces.
    pub fn find_sandbox(&self, uid: &str) -> Result<Found, String> {
        let mut found = self.inventory.current()?.into_values().filter(|found| {
            found.uid == uid
                && found.instance.kind == plan::Kind::Sandbox
                && matches!(found.instance.phase, plan::Phase::Running(_))
        });
        found.next().ok_or_else(|| format!("pod \"{uid}\" does not run on this node"))
    }
}

/// The report about every pod that is wanted.
fn describe(
    state: &DriverState,
    observed: &ObservedPods,
    gone: &BTreeSet<String>,
    now: Timestamp,
) -> BTreeMap<String, PodStatus> {
    let nothing = plan::Pod::default();
    let followed = state.desired.pods.iter().map(|(uid, instruction)| {
        let pod = observed.pods.get(uid).unwrap_or(&nothing);
        (uid.clone(), status::pod_status(uid, instruction, pod, gone.contains(uid), now))
    });
    let refused = state.refused.iter().map(|(uid, status)| (uid.clone(), status.clone()));
    followed.chain(refused).collect()
}

fn subject(uid: &str, namespace: &str, name: &str) -> Subject {
    Subject { uid: uid.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}

async fn wake_on_feed(feed: Feed, wake: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut states = feed.subscribe();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = states.changed() => {
                if changed.is_err() {
                    stop.cancelled().await;
                    return Ok(());
                }
                wake.notify_one();
            }
        }
    }
}
