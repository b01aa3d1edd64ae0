//! Everything a member's kernel must know: the encrypted overlay, routes, pods' links, service addresses and
//! names. Knows neither Kubernetes nor Docker.
//!
//! ```text
//!  feed ──► world ──► plan/ (pure) ──► engine ──► kernel/  links, routes, nftables, conntrack
//!                                        │   └──► tunnel/  WireGuard in the kernel, or embedded
//!  agent ── attach socket ── server ─────┘   └──► dns/     names, on a thread of its own
//!                       controller ◄── report
//! ```

pub mod dns;
pub mod engine;
mod guard;
pub mod kernel;
mod report;
mod server;
pub mod tunnel;

pub use warren_netd_plan::{self as plan, world};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use warren_proto::{control::Consumer, vocabulary::Cursor};
use warren_runtime::{
    CancellationToken,
    connection::Controller,
    descriptors::Descriptors,
    feed::{Feed, State},
    heartbeat,
    identity::Identity,
    reconcile::{self, Pass},
    tasks::{Bound, TaskSet},
};

use crate::{
    engine::{Engine, Settings},
    kernel::underlay::Underlay,
    plan::reading::{Change, Reader},
    world::Problem,
};

/// The whole world is looked at this often even when nothing changes.
const RESYNC: Duration = Duration::from_secs(30);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How netd runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The member's state directory.
    pub state_dir: PathBuf,
    /// The controller, HOST:PORT.
    pub controller: String,
    /// The tunnel's link, `warren0`.
    pub interface: String,
    /// The tunnel's UDP port.
    pub port: u16,
    /// Sockets that an earlier process left with the supervisor, and the way to leave ours.
    pub descriptors: Descriptors,
}

/// Starts netd in the calling thread's network namespace. Ending it leaves the kernel's state in place.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<Bound> {
    let identity = Identity::load(&config.state_dir)?.with_context(|| {
        format!("{} holds no identity; this machine has not joined a cluster", config.state_dir.display())
    })?;
    let controller = Controller::new(&config.controller, identity, config.state_dir.clone());
    let way = way_to(&config.controller).await;
    let settings = Settings {
        mtu: way.map_or_else(Underlay::default_tunnel_mtu, |way| Underlay::tunnel_mtu(way.mtu)),
        state_dir: config.state_dir.clone(),
        interface: config.interface,
        port: config.port,
        resolv_conf: "/etc/resolv.conf".into(),
        descriptors: config.descriptors,
    };
    let engine = Arc::new(Engine::start(settings).await?);
    let mut tasks = TaskSet::new(stop.clone());
    let feed = Feed::follow(
        &mut tasks,
        controller.clone(),
        Consumer::Netd,
        config.state_dir.join("feeds").join("netd.bin"),
    );
    heartbeat::start(controller.clone(), Consumer::Netd, stop.clone());
    tasks.spawn("report", report::run(Arc::clone(&engine), controller, stop));
    serve(&mut tasks, engine, feed, &config.state_dir)?;
    Ok(Bound { addresses: Vec::new(), tasks })
}

/// Puts every state of `feed` in force and serves the attach socket in `state_dir`, as tasks.
pub fn serve(tasks: &mut TaskSet, engine: Arc<Engine>, feed: Feed, state_dir: &Path) -> anyhow::Result<()> {
    let stop = tasks.stop().clone();
    let listener = server::bind(&state_dir.join(warren_proto::ATTACH_SOCKET))?;
    tasks.spawn("attach", server::serve(listener, Arc::clone(&engine), stop.clone()));
    let wake = Arc::new(Notify::new());
    tasks.spawn("feed-watch", watch_feed(feed.clone(), Arc::clone(&wake), stop.clone()));
    let guarding = Arc::clone(&engine);
    let guard_stop = stop.clone();
    tasks.spawn("firewall", async move { guarding.guard(guard_stop).await });
    tasks.spawn("repair", watch_rules(Arc::clone(&engine), Arc::clone(&wake), stop.clone()));
    tasks.spawn("reconcile", reconcile(Arc::clone(&engine), feed, wake, stop.clone()));
    tasks.spawn("tunnel", async move {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            error = engine.failed() => Err(error.into()),
        }
    });
    Ok(())
}

async fn watch_feed(feed: Feed, wake: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut states = feed.subscribe();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = states.changed() => if changed.is_err() {
                // The feed's own task says why it ended; at a stop it may be gone before we see the stop.
                stop.cancelled().await;
                return Ok(());
            },
        }
        wake.notify_one();
    }
}

/// A pass without news looks at everything in the kernel.
async fn watch_rules(engine: Arc<Engine>, wake: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = engine.damaged() => wake.notify_one(),
        }
    }
}

async fn reconcile(
    engine: Arc<Engine>,
    feed: Feed,
    wake: Arc<Notify>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let reconciler = Arc::new(Reconciler { engine, feed, reading: tokio::sync::Mutex::default() });
    // A boxed future, because a lending one cannot be shown to be `Send`.
    let pass = move || -> BoxFuture<'static, Pass> {
        let reconciler = Arc::clone(&reconciler);
        Box::pin(async move { reconciler.pass().await })
    };
    reconcile::drive("netd", wake, stop, RESYNC, pass).await;
    Ok(())
}

struct Reconciler {
    engine: Arc<Engine>,
    feed: Feed,
    reading: tokio::sync::Mutex<Reading>,
}

/// What was read of the feed so far.
#[derive(Default)]
struct Reading {
    reader: Reader,
    /// What is in force; `None` after a failure.
    enforced: Option<Arc<State>>,
    /// [`Engine::replaced`] at that time.
    replaced: u64,
    /// When the kernel was last looked at.
    looked: Option<Instant>,
}

impl Reading {
    /// Without news, or after a failure, the kernel is looked at anew; with news all the time, now and then.
    fn is_thorough(&self, cursor: Cursor) -> bool {
        let is_news = self.enforced.as_ref().is_some_and(|state| state.cursor != cursor);
        !is_news || self.looked.is_none_or(|looked| looked.elapsed() >= RESYNC)
    }

    /// What changed since; nothing when all has to be read.
    fn advance(&mut self, state: &State) -> Option<(Change, Vec<Problem>)> {
        let enforced = self.enforced.clone()?;
        let changed: Vec<_> =
            state.items.since(&enforced.items).map(|difference| (difference.key, difference.after)).collect();
        self.reader.advance(&changed)
    }
}

impl Reconciler {
    async fn pass(&self) -> Pass {
        let Some(state) = self.feed.current() else { return Pass::default() };
        let reading = &mut *self.reading.lock().await;
        if reading.replaced != self.engine.replaced().await {
            // Somebody else put a world of theirs in force.
            reading.enforced = None;
        }
        let is_thorough = reading.is_thorough(state.cursor);
        let mut outcome = None;
        if let Some((change, unusable)) = reading.advance(&state) {
            say(unusable);
            let is_over = is_thorough && change.is_empty();
            outcome = Some(if is_over { Vec::new() } else { self.engine.follow(change).await });
        }
        let problems = match outcome {
            Some(problems) if !is_thorough => problems,
            followed => {
                let (world, unusable) = reading.reader.read(state.items.iter());
                say(unusable);
                if followed.is_some() && !self.engine.holds(&world).await {
                    tracing::error!(
                        "following changes led elsewhere than reading all; this is a fault of ours"
                    );
                }
                reading.looked = Some(Instant::now());
                self.engine.enforce(&world, true).await
            }
        };
        let failed = !problems.is_empty();
        // Without a place in the overlay there is nothing that could be in force.
        if !failed && self.engine.has_place().await {
            self.feed.acknowledge(state.cursor.revision);
        }
        reading.enforced = (!failed).then_some(state);
        reading.replaced = self.engine.replaced().await;
        Pass { retry: failed, wake_after: None }
    }
}

fn say(unusable: Vec<Problem>) {
    for problem in unusable {
        tracing::error!(%problem, "the controller sent something unusable");
    }
}

/// The way to the controller; `None` while its name cannot be looked up.
pub(crate) async fn way_to(controller: &str) -> Option<Underlay> {
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(controller)).await;
    let found = match lookup {
        Ok(Ok(addresses)) => addresses.into_iter().find_map(|address| Underlay::towards(address).ok()),
        Ok(Err(error)) => {
            tracing::warn!(controller, %error, "cannot look the controller up");
            None
        }
        Err(_) => None,
    };
    if found.is_none() {
        tracing::warn!(controller, "the way to the controller is unknown; assuming an Ethernet");
    }
    found
}
