//! Puts a world in force: observes the kernel, plans, applies, and remembers what it wrote.
//!
//! One lock serialises passes and pods' attachments. Nothing is undone at the end: the data plane outlives
//! this process, and the next one adopts what it finds.
//!
//! A whole pass looks at the kernel and plans for everything ([`Engine::enforce`]). While all is in force, a change is
//! planned for what it touches alone ([`Engine::follow`]), from what was desired before.

mod follow;
mod told;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::{Mutex, Notify};
use warren_proto::vocabulary::{PodUid, WireGuardKey};
use warren_runtime::CancellationToken;
use warren_runtime::descriptors::Descriptors;

use crate::{
    dns::DnsServer,
    guard::Guard,
    kernel::{
        self, conntrack, links::Netlink, nftables::Ruleset, pods::PlugError, skeleton::Skeleton, sysctl,
    },
    plan::{
        attachments::Attachment,
        links::{self, DesiredLink},
        members::{Members, Place},
        peers::{self, PeerChange, Written},
        routes::{self, RouteChange},
        services::{self, Changes, Tables},
        zone::{self, Zone},
    },
    tunnel::{self, Backend, Tunnel, key},
    world::{Network, World},
};

use self::follow::Settled;

/// A whole attachment takes milliseconds; the agent need not wait longer than this.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(20);
/// How long echoes from peers may take.
const ECHO_PATIENCE: Duration = Duration::from_secs(1);

/// Where and how a member's network is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The member's state directory.
    pub state_dir: PathBuf,
    /// The tunnel's link.
    pub interface: String,
    /// The tunnel's UDP port.
    pub port: u16,
    /// The tunnel's MTU.
    pub mtu: u32,
    /// Names the nameservers that questions about other names go to.
    pub resolv_conf: PathBuf,
    /// Sockets that an earlier process left with the supervisor, and the way to leave ours.
    pub descriptors: Descriptors,
}

/// A member's network.
pub struct Engine {
    settings: Settings,
    public_key: WireGuardKey,
    netlink: Netlink,
    ruleset: Ruleset,
    tunnel: Box<dyn Tunnel>,
    dns: DnsServer,
    guard: Guard,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    world: World,
    /// How often another world was put in its place.
    replaced: u64,
    /// The kernel's service data as last seen or written; `None` when unknown.
    tables: Option<Tables>,
    skeleton: Option<Skeleton>,
    zone: Option<Zone>,
    written: Written,
    /// Whether the file says something else of them.
    unsaved: bool,
    /// What changes are planned from; `None` unless all of `world` is in force.
    settled: Option<Settled>,
    problems: Vec<String>,
    /// Protocol families in which the kernel cannot keep the overlay's entrance.
    unfiltered: Vec<&'static str>,
}

/// Why a pod was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachFailure {
    /// The controller has not given this member a place yet.
    #[error("this node has no place in the overlay yet; the controller assigns it after netd's first report")]
    NotConfigured,
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be plugged in.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// The kernel did not answer.
    #[error("plugging the pod in took longer than {} s", ATTACH_TIMEOUT.as_secs())]
    Timeout,
}

impl From<kernel::Error> for AttachFailure {
    fn from(error: kernel::Error) -> Self {
        Self::Plug(error.into())
    }
}

impl Engine {
    /// Opens everything in the calling thread's network namespace; what exists is adopted.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let key = key::PrivateKey::load_or_create(&settings.state_dir)?;
        let public_key = key.public();
        let options = tunnel::Options {
            interface: settings.interface.clone(),
            port: settings.port,
            mtu: settings.mtu,
            key,
            descriptors: settings.descriptors.clone(),
        };
        let tunnel = tunnel::open(&options).await?;
        tracing::info!(backend = %tunnel.backend(), key = %public_key, mtu = settings.mtu, "the tunnel is open");
        let written = match tunnel.backend() {
            Backend::Kernel => written::load(&settings.state_dir),
            // The device is new: nothing was ever written to it.
            Backend::Userspace => Written::new(),
        };
        Ok(Self {
            public_key,
            netlink: Netlink::open()?,
            ruleset: Ruleset::open()?,
            guard: Guard::open()?,
            dns: DnsServer::start(settings.resolv_conf.clone(), settings.descriptors.clone())?,
            settings,
            tunnel,
            state: Mutex::new(State { written, ..State::default() }),
            changed: Notify::new(),
        })
    }

    /// Puts `world` in force. `thorough` looks at everything in the kernel; otherwise what we wrote ourselves
    /// is trusted. Returns what failed; nothing means that the world is in force.
    pub async fn enforce(&self, world: &World, thorough: bool) -> Vec<String> {
        let mut state = self.state.lock().await;
        if state.world != *world {
            state.world = world.clone();
            state.replaced += 1;
            self.changed.notify_one();
        }
        self.enforce_all(&mut state, thorough).await
    }

    async fn enforce_all(&self, state: &mut State, thorough: bool) -> Vec<String> {
        state.settled = None;
        if thorough {
            state.tables = None;
        }
        let mut problems = Vec::new();
        if let Some(network) = state.world.network.clone() {
            let place = self.enforce_network(state, &network, thorough, &mut problems).await;
            if let (Some(place), true) = (place, problems.is_empty()) {
                state.settled = Settled::at(place, &state.world, state.tables.as_ref());
            }
        }
        self.save_written(state);
        self.end_pass(state, problems)
    }

    fn end_pass(&self, state: &mut State, problems: Vec<String>) -> Vec<String> {
        if !problems.is_empty() {
            tracing::warn!(
                problems = problems.join("; "),
                "the network is not wholly in force; trying again"
            );
            // After a failure only the kernel knows what is there.
            state.tables = None;
            state.settled = None;
        }
        state.problems.clone_from(&problems);
        problems
    }

    /// What is new comes first, what is old goes last: traffic always has a way.
    async fn enforce_network(
        &self,
        state: &mut State,
        network: &Network,
        thorough: bool,
        problems: &mut Vec<String>,
    ) -> Option<Place> {
        note(problems, sysctl::set("net/ipv4/ip_forward", "1"));
        let peers = note(problems, self.plan_peers(state).await).unwrap_or_default();
        let (first, last) = in_turn(peers);
        note(problems, self.change_peers(state, first).await);
        let link = note(problems, self.enforce_link(network).await);
        if thorough {
            note(problems, self.netlink.remove_unnamed().await);
            self.guard.mend(&self.settings.interface).await;
        }
        let pods = note(problems, self.netlink.attachments().await).unwrap_or_default();
        let pods = by_address(pods);
        let routes = match link {
            Some(link) => note(problems, self.plan_routes(state, network, link, &pods).await),
            None => None,
        };
        let (routes_gone, routes_new): (Vec<_>, Vec<_>) =
            routes.unwrap_or_default().into_iter().partition(RouteChange::is_removal);
        note(problems, self.change_routes(routes_new).await);
        note(problems, self.enforce_services(state, network, pods.keys().copied(), thorough).await);
        note(problems, self.enforce_zone(state, network).await);
        note(problems, self.change_routes(routes_gone).await);
        note(problems, self.change_peers(state, last).await);
        Some(Place { network: network.clone(), tunnel: link?, pods })
    }

    async fn plan_peers(&self, state: &State) -> Result<Vec<PeerChange>, tunnel::Error> {
        let desired = Members::of(&state.world).desired();
        let observed = self.tunnel.peers().await?.into_iter().map(|(key, state)| (key, state.peer)).collect();
        Ok(peers::plan(&desired, &observed, &state.written))
    }

    async fn change_peers(&self, state: &mut State, changes: Vec<PeerChange>) -> Result<(), tunnel::Error> {
        for change in &changes {
            tracing::info!(change = %change, "changing the tunnel");
            self.tunnel.change(change).await?;
            change.remember(&mut state.written);
        }
        if !changes.is_empty() {
            state.unsaved = true;
            self.changed.notify_one();
        }
        Ok(())
    }

    /// After whole passes alone, since the file has all: who is killed before writes some endpoints once more.
    fn save_written(&self, state: &mut State) {
        if std::mem::take(&mut state.unsaved) && self.tunnel.backend() == Backend::Kernel {
            written::store(&self.settings.state_dir, &state.written);
        }
    }

    async fn enforce_link(&self, network: &Network) -> Result<u32, kernel::Error> {
        let observed = self.netlink.observe(&self.settings.interface).await?;
        let addresses = BTreeSet::from([network.address, network.dns_address]);
        let desired = DesiredLink { mtu: self.settings.mtu, addresses };
        for change in links::plan(&desired, &observed) {
            tracing::info!(?change, link = self.settings.interface, "changing the link");
            self.netlink.change_link(observed.index, change).await?;
        }
        Ok(observed.index)
    }

    async fn plan_routes(
        &self,
        state: &State,
        network: &Network,
        link: u32,
        pods: &BTreeMap<Ipv4Addr, u32>,
    ) -> Result<Vec<RouteChange>, kernel::Error> {
        let desired = routes::desired(network, link, state.world.peers.values(), pods);
        Ok(routes::plan(&desired, &self.netlink.routes().await?))
    }

    async fn change_routes(&self, changes: Vec<RouteChange>) -> Result<(), kernel::Error> {
        for change in changes {
            tracing::info!(change = %change, "changing routes");
            self.netlink.change_route(change).await?;
        }
        Ok(())
    }

    async fn enforce_services(
        &self,
        state: &mut State,
        network: &Network,
        pods: impl Iterator<Item = Ipv4Addr>,
        thorough: bool,
    ) -> Result<(), kernel::Error> {
        let skeleton = Skeleton::new(network, &self.settings.interface);
        if state.skeleton.as_ref() != Some(&skeleton) {
            state.tables = None;
        }
        if thorough || state.skeleton.as_ref() != Some(&skeleton) {
            let unfiltered = self.ruleset.keep_entrance(&skeleton).await?;
            if state.unfiltered != unfiltered {
                tracing::warn!(families = ?unfiltered, "this kernel cannot keep the overlay apart in these families");
                state.unfiltered = unfiltered;
            }
        }
        let observed = match state.tables.take() {
            Some(tables) => Some(tables),
            None => self.ruleset.observe(&skeleton).await?,
        };
        let empty = Tables::default();
        let old = observed.as_ref().unwrap_or(&empty);
        let desired = services::desired(state.world.services.values(), old, pods, network.dns_address);
        let changes = services::diff(old, &desired);
        if observed.is_none() {
            tracing::info!(elements = changes.len(), "making the service rules");
            self.ruleset.rebuild(&skeleton, &desired).await?;
        } else if !changes.is_empty() {
            tracing::debug!(elements = changes.len(), "changing the service rules");
            self.ruleset.change(changes.clone()).await?;
        }
        let left = changes.left(old);
        self.forget(network, &desired, thorough || left.flows, thorough || left.clients).await?;
        state.skeleton = Some(skeleton);
        state.tables = Some(desired);
        Ok(())
    }

    /// Forgets who was sent to pods that left; a look now and then finds what came in between the change and this.
    async fn forget(
        &self,
        network: &Network,
        tables: &Tables,
        flows: bool,
        clients: bool,
    ) -> Result<(), kernel::Error> {
        if flows {
            let forgotten = conntrack::forget_stale(network.service_cidr, tables).await?;
            if forgotten > 0 {
                tracing::info!(flows = forgotten, "forgot UDP flows to pods that left");
            }
        }
        // A client that was sent to a pod that leaves finds another one.
        if clients {
            let forgotten = self.ruleset.forget_clients(tables).await?;
            if forgotten > 0 {
                tracing::info!(clients = forgotten, "forgot clients of pods that left");
            }
        }
        Ok(())
    }

    async fn enforce_zone(&self, state: &mut State, network: &Network) -> Result<(), crate::dns::Error> {
        let zone = zone::plan(network, &state.world.services);
        if state.zone.as_ref() != Some(&zone) {
            state.zone = None;
            self.dns.publish(&zone, network).await?;
            state.zone = Some(zone);
        }
        Ok(())
    }

    /// Plugs a pod into the namespace at `path`. Idempotent; another namespace replaces the old link.
    pub async fn attach(&self, wanted: &Attachment, path: &Path) -> Result<(), AttachFailure> {
        let mut state = self.state.lock().await;
        let network = state.world.network.clone().ok_or(AttachFailure::NotConfigured)?;
        let is_pods =
            network.pod_cidr.network().contains(&wanted.address) && wanted.address != network.address;
        if !is_pods {
            return Err(AttachFailure::Invalid(format!(
                "address: {} is not one of this node's pod addresses in {}",
                wanted.address, network.pod_cidr
            )));
        }
        let plugging = self.netlink.attach(wanted, path, self.settings.mtu, network.address);
        let plugged = tokio::time::timeout(ATTACH_TIMEOUT, plugging).await;
        plugged.map_err(|_| AttachFailure::Timeout)??;
        tracing::info!(pod = wanted.pod, uid = %wanted.uid, address = %wanted.address, "plugged a pod in");
        self.set_hairpin(&mut state, wanted.address, true).await?;
        Ok(())
    }

    /// Unplugs a pod; success when it is not plugged in.
    pub async fn detach(&self, uid: &PodUid) -> Result<(), AttachFailure> {
        let mut state = self.state.lock().await;
        let unplugged = tokio::time::timeout(ATTACH_TIMEOUT, self.netlink.detach(uid)).await;
        if let Some(gone) = unplugged.map_err(|_| AttachFailure::Timeout)?? {
            tracing::info!(pod = gone.pod, %uid, "unplugged a pod");
            self.set_hairpin(&mut state, gone.address, false).await?;
        }
        Ok(())
    }

    /// The pods that are plugged in, as the kernel says.
    pub async fn attachments(&self) -> Result<Vec<Attachment>, kernel::Error> {
        Ok(self.netlink.attachments().await?.into_iter().map(|(attachment, _)| attachment).collect())
    }

    async fn set_hairpin(&self, state: &mut State, pod: Ipv4Addr, wanted: bool) -> Result<(), kernel::Error> {
        // Without tables the next pass sets it from what is plugged in.
        let Some(tables) = &mut state.tables else { return Ok(()) };
        let mut changes = Changes::default();
        match (tables.hairpin.contains(&pod), wanted) {
            (false, true) => changes.hairpin_new.insert(pod),
            (true, false) => changes.hairpin_gone.insert(pod),
            _ => return Ok(()),
        };
        let changed = self.ruleset.change(changes.clone()).await;
        match changed {
            Ok(()) => tables.apply(&changes),
            Err(_) => state.tables = None,
        }
        changed
    }

    /// Keeps other people's firewalls open for pods, until `stop`.
    pub async fn guard(&self, stop: CancellationToken) -> anyhow::Result<()> {
        self.guard.keep(&self.settings.interface, stop).await;
        Ok(())
    }

    /// Waits until somebody may have damaged our rules: then a thorough pass is due.
    pub async fn damaged(&self) {
        self.guard.damaged().await;
    }

    /// The member's public key.
    pub fn public_key(&self) -> WireGuardKey {
        self.public_key
    }

    /// Waits until something changed that the controller wants to hear about.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the tunnel cannot work any more.
    pub async fn failed(&self) -> tunnel::Error {
        self.tunnel.failed().await
    }
}

/// What comes first, and what goes last. A network that moves to another key must leave its old peer first.
fn in_turn(changes: Vec<PeerChange>) -> (Vec<PeerChange>, Vec<PeerChange>) {
    let (gone, new): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| matches!(change, PeerChange::Remove { .. }));
    if !gone.is_empty() && !new.is_empty() { (gone, new) } else { (new, gone) }
}

fn by_address(pods: Vec<(Attachment, u32)>) -> BTreeMap<Ipv4Addr, u32> {
    pods.into_iter().map(|(attachment, index)| (attachment.address, index)).collect()
}

fn note<T>(problems: &mut Vec<String>, outcome: Result<T, impl std::fmt::Display>) -> Option<T> {
    outcome.map_err(|error| problems.push(error.to_string())).ok()
}
