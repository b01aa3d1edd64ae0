//! The node-facing side of the controller.
//!
//! ```text
//!  member ──Join──► tokens, ca ──► store
//!  store ──► compile (pure) ──► views ──feed──► agent, netd, gateway ──acknowledge──► cursors ─┐
//!  agent, netd, gateway ──heartbeat──► leases ───────────────────────────────────────────────┴► observe()
//!  agent, netd ──reports──► status, events, members ──► the gate for writes ──► store
//!  agent, gateway ──usage, traffic──► usage() (in memory only)
//!  kubectl logs ──► sessions ◄── agent dials in ──► stream
//! ```
//!
//! Members only dial out, so every call here is made by a member. Who calls is read from the client
//! certificate ([`warren_runtime::tls::PeerIdentity`] in the request's extensions), never from a field, and judged by
//! the gate from the request's head, before any of its body is read.

mod batches;
mod ca;
#[cfg(test)]
mod compile_tests;
mod control;
mod cursors;
mod events;
mod feed;
mod gate;
mod identity;
mod issue;
mod join;
mod json;
mod leases;
mod node_status;
mod observe;
mod reports;
mod sessions;
mod status;
mod texts;
mod tokens;
mod usage;
mod views;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_proto::{
    control::{control_server::ControlServer, join_server::JoinServer},
    vocabulary::Cursor,
};
use warren_runtime::{rate::Seldom, tls::PeerIdentity};
use warren_store::{Key, Store};
use warren_tokens::Tokens;
use warren_vocabulary::{
    ClusterConfig,
    guard::{Failure, Progress, Unwatched},
    member::MemberRole,
};
use warren_write::Gate;

pub use ca::{AuthorityError, CertificateAuthority, Issued, MEMBER_LIFETIME};
pub use identity::MEMBERS;
pub use observe::Observed;
pub use sessions::{Session, SessionError};
pub use tokens::{TokenError, TokenInfo};
pub use warren_compile::{Feeds, afresh};
pub use writes::WriteError;

use cursors::Cursors;
use identity::Caller;
use leases::Leases;
use views::Published;
use warren_compile::{Advance, Compiler};

/// After a change the compiler waits this long for the rest of the burst.
const DEBOUNCE: Duration = Duration::from_millis(2);
/// How often reports that were refused are tried again.
const REFUSED_REPORTS: Duration = Duration::from_secs(5);

/// What a client's certificate is worth.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It names a member that was removed, or whose name another has now.
    Stranger,
    /// A client of the Kubernetes API.
    User,
    /// A member of the cluster.
    Member {
        /// Its name.
        name: String,
        /// Cancelled when it is none any more.
        life: CancellationToken,
    },
}

/// The node-facing side: its services, its loops, and what planners and the API ask of it.
pub struct Nodes {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: writes::Writer,
    /// Reports about pods that wait for the gate.
    pub(crate) refused_reports: writes::RefusedReports,
    pub(crate) ca: Arc<CertificateAuthority>,
    /// Tokens of service accounts, which nodes ask for.
    pub(crate) pod_tokens: Arc<Tokens>,
    pub(crate) config: ClusterConfig,
    pub(crate) started: Instant,
    pub(crate) leases: Mutex<Leases>,
    pub(crate) cursors: Mutex<Cursors>,
    /// What members are told, and up to where the store is compiled into it.
    pub(crate) published: Published,
    pub(crate) compiled: watch::Sender<Option<Cursor>>,
    failures: Mutex<Vec<Failure>>,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) networks: Mutex<BTreeMap<String, reports::Tunnel>>,
    /// What is left out of every feed, and who learns which object is compiled.
    preparation: OnceLock<(BTreeSet<Key>, Arc<dyn Progress>)>,
    pub(crate) usages: Mutex<BTreeMap<String, usage::Measured>>,
    pub(crate) traffic: Mutex<BTreeMap<String, usage::Counted>>,
    /// What members have open, and what they may.
    pub(crate) calls: Arc<gate::Calls>,
    /// Says what strangers and copies provoke.
    pub(crate) refusals: Seldom,
    pub(crate) duplicates: Seldom,
    /// One join at a time: each picks a free slice of the cluster network.
    pub(crate) joining: tokio::sync::Mutex<()>,
    pub(crate) wake: Arc<Notify>,
    /// Cancelled when the controller stops; ends every stream.
    pub(crate) closing: CancellationToken,
    pub(crate) streams: TaskTracker,
}

impl Nodes {
    /// Nothing runs before [`Nodes::run`]; feeds wait for it.
    pub fn new(
        store: Arc<dyn Store>,
        gate: Arc<Gate>,
        ca: Arc<CertificateAuthority>,
        pod_tokens: Arc<Tokens>,
        config: ClusterConfig,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            writer: writes::Writer { store: Arc::clone(&store), gate },
            refused_reports: writes::RefusedReports::default(),
            store,
            ca,
            pod_tokens,
            config,
            started: now,
            leases: Mutex::new(Leases::new(now)),
            cursors: Mutex::new(Cursors::default()),
            published: Published::default(),
            compiled: watch::Sender::new(None),
            failures: Mutex::default(),
            sessions: sessions::Sessions::default(),
            networks: Mutex::default(),
            preparation: OnceLock::new(),
            usages: Mutex::default(),
            traffic: Mutex::default(),
            calls: Arc::default(),
            refusals: Seldom::new(),
            duplicates: Seldom::new(),
            joining: tokio::sync::Mutex::default(),
            wake: Arc::new(Notify::new()),
            closing: CancellationToken::new(),
            streams: TaskTracker::new(),
        })
    }

    /// Before [`Nodes::run`]: members are not told of these objects, and `progress` learns what is compiled.
    pub fn prepare(&self, quarantined: BTreeSet<Key>, progress: Arc<dyn Progress>) {
        if self.preparation.set((quarantined, progress)).is_err() {
            tracing::error!("the nodes were prepared twice; the second time counts for nothing");
        }
    }

    /// When the state has been compiled once.
    pub async fn compiled_once(&self) {
        // The sender lives as long as `self`.
        let _ = self.compiled.subscribe().wait_for(Option::is_some).await;
    }

    /// Objects that could not be compiled, and pods about which no report is let pass.
    pub fn failures(&self) -> Vec<Failure> {
        let compiled = self.failures.lock().clone();
        compiled.into_iter().chain(self.refused_reports.failures()).collect()
    }

    /// The gRPC services Join and Control, behind the gate. Each request that came with a client certificate must
    /// carry its `PeerIdentity` in the extensions.
    pub fn services(self: &Arc<Self>) -> tonic::service::Routes {
        let join = JoinServer::new(join::JoinService::new(Arc::clone(self)));
        let control = ControlServer::new(control::ControlService::new(Arc::clone(self)))
            .max_decoding_message_size(gate::LONGEST);
        let routes = tonic::service::Routes::new(join).add_service(control).into_axum_router();
        // Before the service, which would encode every batch once for each consumer.
        let feeds = axum::Router::new().route(batches::FEED, axum::routing::post(batches::serve));
        let routes = routes.merge(feeds.with_state(Arc::clone(self)));
        routes.layer(axum::middleware::from_fn_with_state(Arc::clone(self), gate::pass)).into()
    }

    /// What a client's certificate is worth now.
    pub fn standing(&self, peer: &PeerIdentity) -> Standing {
        if !peer.organizations.iter().any(|organization| organization == MEMBERS) {
            return Standing::User;
        }
        let snapshot = self.store.snapshot();
        match Caller::named(peer).filter(|caller| caller.check(&snapshot).is_ok()) {
            Some(caller) => {
                let life = self.calls.life(&caller, &snapshot);
                Standing::Member { name: caller.name, life }
            }
            None => Standing::Stranger,
        }
    }

    /// Compiles every change of the store, judges leases; until `stop`, which ends all streams.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            outcome = self.compile_changes() => outcome,
            () = self.judge_leases() => Ok(()),
            () = self.retry_refused_reports() => Ok(()),
        };
        self.closing.cancel();
        self.sessions.close();
        self.streams.close();
        self.streams.wait().await;
        outcome
    }

    /// Woken when liveness or an acknowledgement changed. Holds one permit for a waiter that comes late.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Makes a join token; the answer is its text, `wrn1.ID.SECRET.CAHASH`.
    pub async fn create_token(&self, role: MemberRole, lifetime: Duration) -> Result<String, TokenError> {
        tokens::create(&self.writer, self.ca.fingerprint(), role, lifetime, Timestamp::now()).await
    }

    /// The tokens that can still be used.
    pub fn list_tokens(&self) -> Vec<TokenInfo> {
        tokens::list(&self.store.snapshot(), Timestamp::now())
    }

    /// Removes a token before it is used.
    pub async fn revoke_token(&self, id: &str) -> Result<(), TokenError> {
        tokens::revoke(&self.writer, id).await
    }

    async fn compile_changes(self: &Arc<Self>) -> anyhow::Result<()> {
        let progress = self.preparation.get().map(|(_, progress)| Arc::clone(progress));
        let mut compiler =
            Compiler::new(self.config.clone(), progress.unwrap_or_else(|| Arc::new(Unwatched)));
        let mut snapshot = self.store.snapshot();
        loop {
            let mut watch = self.store.watch(snapshot.revision);
            compiler = self.compile(compiler, Arc::clone(&snapshot)).await?;
            while let Ok(changes) = &mut watch {
                match changes.next().await {
                    Ok(batch) if batch.is_empty() => anyhow::bail!("the store has closed"),
                    Ok(_) => {}
                    // History moved past us: the next snapshot holds it all.
                    Err(_) => break,
                }
                tokio::time::sleep(DEBOUNCE).await;
                if changes.ready().is_err() {
                    break;
                }
                snapshot = self.store.snapshot();
                compiler = self.compile(compiler, Arc::clone(&snapshot)).await?;
            }
            snapshot = self.store.snapshot();
        }
    }

    /// One pass, away from the threads that hear heartbeats: however long it takes, no member looks dead for it. It is
    /// counted among the streams, so that it is waited for at the end.
    async fn compile(
        self: &Arc<Self>,
        mut compiler: Compiler,
        snapshot: Arc<warren_store::Snapshot>,
    ) -> anyhow::Result<Compiler> {
        let nodes = Arc::clone(self);
        let pass = self.streams.spawn_blocking(move || {
            nodes.publish(&mut compiler, &snapshot);
            compiler
        });
        Ok(pass.await?)
    }

    fn publish(&self, compiler: &mut Compiler, snapshot: &warren_store::Snapshot) {
        if self.compiled.borrow().is_some_and(|compiled| compiled.revision == snapshot.revision) {
            return;
        }
        let started = Instant::now();
        let quarantined = self.preparation.get().map(|(quarantined, _)| quarantined);
        let advance = match quarantined {
            Some(quarantined) if !quarantined.is_empty() => {
                compiler.advance(&snapshot.without(quarantined).0)
            }
            _ => compiler.advance(snapshot),
        };
        let Advance { cursor, views, touched, failures } = match advance {
            Ok(advance) => advance,
            // Between objects, so that it cannot be said of which. Members go on with what they have.
            Err(panic) => {
                return tracing::error!(panic, "the state could not be compiled; members keep the last one");
            }
        };
        metrics::histogram!("warren_nodes_compile_seconds").record(started.elapsed().as_secs_f64());
        if let Some(failures) = failures {
            *self.failures.lock() = failures;
        }
        let publication = self.published.prepare(&views, &touched, snapshot.revision);
        {
            let mut cursors = self.cursors.lock();
            cursors.compiled(snapshot.revision, started, publication.views());
            for member in &touched.members {
                if !views.members.contains_key(member) {
                    cursors.forget(member);
                }
            }
        }
        if !touched.members.is_empty() {
            self.calls.end_strangers(snapshot);
            self.networks.lock().retain(|member, _| views.members.contains_key(member.as_str()));
            self.usages.lock().retain(|member, _| views.members.contains_key(member.as_str()));
            self.traffic.lock().retain(|member, _| views.members.contains_key(member.as_str()));
        }
        publication.publish();
        self.compiled.send_replace(Some(cursor));
        // A consumer that has nothing outstanding has this revision in force by now.
        self.wake.notify_one();
    }

    async fn judge_leases(&self) {
        let mut ticks = tokio::time::interval(leases::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let snapshot = self.store.snapshot();
            self.calls.end_strangers(&snapshot);
            let members: Vec<_> = identity::members(&snapshot).collect();
            let expected = members
                .iter()
                .map(|member| (member.name.as_str(), identity::consumers(identity::role_of(member))));
            let now = Instant::now();
            self.forgive_stall(now);
            if self.leases.lock().tick(expected, now) {
                self.wake.notify_one();
            }
        }
    }
}
