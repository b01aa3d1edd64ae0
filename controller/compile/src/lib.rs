//! The compiler: Kubernetes objects in, fully resolved views out. Pure.
//!
//! ```text
//!  Snapshot ──► Compiler::advance ──► Advance { one view per agent, one network view, one gateway view, what changed }
//!                  │ difference from the snapshot before
//!                  └──► what it concerns ──► compiled again, and nothing else
//! ```
//!
//! A view advances by the difference of two snapshots. Each item's compilation notes which objects it has looked at, so
//! that a change of one leads back to those who would see it. The first snapshot is a difference from nothing: there is
//! no other path. Advancing step by step gives the same as compiling afresh (tested).

mod agents;
mod budget;
mod endpoints;
mod environment;
mod handlers;
pub mod item;
mod network;
mod pods;
mod references;
mod routes;
mod secrecy;
mod sysctls;
mod traffic;
mod view;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::OrdMap;
use warren_proto::{
    control::{Consumer, FeedItem},
    vocabulary::Cursor,
};
use warren_state::{Difference, Key, Snapshot};
use warren_vocabulary::{
    ClusterConfig,
    guard::{self, Failure, Progress, Unwatched},
    member::{Member, MemberRole},
    resources::{
        CONFIGMAPS, ENDPOINTSLICES, INGRESSCLASSES, INGRESSES, MEMBERS, NODES, PODS, SECRETS, SERVICES,
    },
};

pub use pods::failed;

use agents::Agents;
pub use endpoints::OBJECT_ENDPOINTS;
pub use item::{Item, Items};
pub use network::peer_key;
use traffic::Traffic;

/// What everybody is told, at one revision. A copy costs nothing.
#[derive(Clone, Default)]
pub struct Views {
    /// By member that runs pods.
    pub agents: OrdMap<Arc<str>, Items>,
    /// What every netd is told.
    pub network: Items,
    /// What every gateway is told.
    pub gateway: Items,
    /// By member: the item that only its own netd gets.
    pub members: OrdMap<Arc<str>, Item>,
}

/// Which views may have changed. What is not named has not.
#[derive(Default)]
pub struct Touched {
    /// Of these members that run pods.
    pub agents: BTreeSet<Arc<str>>,
    /// That of the netds.
    pub network: bool,
    /// That of the gateways.
    pub gateway: bool,
    /// Members that came, went, or have another place.
    pub members: BTreeSet<Arc<str>>,
}

/// What a snapshot compiles to, and what of it is new.
pub struct Advance {
    /// The snapshot.
    pub cursor: Cursor,
    /// All views.
    pub views: Views,
    /// Which of them may be others than before.
    pub touched: Touched,
    /// Objects that could not be compiled, or only in part; `None` while they are the same as before.
    pub failures: Option<Vec<Failure>>,
}

/// In the order of the stages, then of the objects' keys.
type Failures = BTreeMap<(usize, Key), Failure>;

const MEMBERS_STAGE: &str = "compiling members";
const STAGES: [&str; 4] = [MEMBERS_STAGE, agents::STAGE, traffic::SERVICES_STAGE, traffic::ROUTES_STAGE];

/// Compiles snapshots one after the other.
pub struct Compiler {
    config: ClusterConfig,
    progress: Arc<dyn Progress>,
    memory: Memory,
    /// What the last snapshot came to.
    last: Views,
}

/// What was made of what.
#[derive(Default)]
struct Memory {
    snapshot: Snapshot,
    agents: Agents,
    traffic: Traffic,
    views: Views,
    failures: Failures,
}

/// One step from a snapshot to the next.
struct Pass<'a> {
    snapshot: &'a Snapshot,
    config: &'a ClusterConfig,
    progress: &'a dyn Progress,
    last: &'a Views,
    views: &'a mut Views,
    touched: &'a mut Touched,
    failures: &'a mut Failures,
    failures_changed: bool,
}

impl Compiler {
    /// `progress` learns which object is turned to.
    pub fn new(config: ClusterConfig, progress: Arc<dyn Progress>) -> Self {
        Self { config, progress, memory: Memory::default(), last: Views::default() }
    }

    /// Forgets what was made: the next snapshot is compiled as the first, and what changes with it is told.
    pub fn forget(&mut self) {
        self.memory = Memory::default();
    }

    /// Goes on to a snapshot. An error is a panic between objects: what was made so far is forgotten, and the next
    /// snapshot is compiled as the first.
    pub fn advance(&mut self, snapshot: &Snapshot) -> Result<Advance, String> {
        let Self { config, progress, memory, last } = self;
        let mut touched = Touched::default();
        if memory.snapshot.is_empty() {
            // Nothing is known of what was told before.
            touched.agents.extend(last.agents.keys().cloned());
            touched.members.extend(last.members.keys().cloned());
            (touched.network, touched.gateway) = (true, true);
        }
        let outcome = guard::catch(|| memory.advance(snapshot, config, &**progress, last, &mut touched));
        let failures = outcome.inspect_err(|_| self.forget())?;
        self.last = self.memory.views.clone();
        let cursor = Cursor { epoch: snapshot.epoch, revision: snapshot.revision };
        Ok(Advance { cursor, views: self.last.clone(), touched, failures })
    }
}

impl Memory {
    /// The failures, if they are others than before.
    fn advance(
        &mut self,
        snapshot: &Snapshot,
        config: &ClusterConfig,
        progress: &dyn Progress,
        last: &Views,
        touched: &mut Touched,
    ) -> Option<Vec<Failure>> {
        let Self { snapshot: held, agents, traffic, views, failures } = self;
        // A compilation from nothing does not know what was said before.
        let failures_changed = held.is_empty();
        let mut pass = Pass { snapshot, config, progress, last, views, touched, failures, failures_changed };
        for difference in snapshot.diff(held) {
            concern(&difference, agents, traffic, &mut pass);
        }
        agents.advance(&mut pass);
        traffic.advance(&mut pass);
        let changed = pass.failures_changed;
        *held = snapshot.clone();
        changed.then(|| failures.values().cloned().collect())
    }
}

/// Whom a change concerns.
fn concern(difference: &Difference, agents: &mut Agents, traffic: &mut Traffic, pass: &mut Pass<'_>) {
    let key = difference.key();
    match &*key.resource {
        PODS => agents.touch(key),
        CONFIGMAPS | NODES => agents.touch_referring(key),
        SECRETS => {
            agents.touch_referring(key);
            traffic.touch_secret(key);
        }
        SERVICES => {
            agents.touch_linked(difference);
            traffic.touch_service(key);
        }
        ENDPOINTSLICES => traffic.touch_slice(difference),
        INGRESSES => traffic.touch_ingress(key),
        // Whose an Ingress is may depend on it.
        INGRESSCLASSES => {
            pass.snapshot.list(INGRESSES).for_each(|ingress| traffic.touch_ingress(&ingress.key));
        }
        MEMBERS => {
            let runs_pods_or_did = pass.member(difference);
            if runs_pods_or_did {
                agents.touch_node(&key.name);
            }
        }
        _ => {}
    }
}

impl Pass<'_> {
    /// A member came, changed, or went. Whether it runs pods now and did not before, or the other way round.
    fn member(&mut self, difference: &Difference) -> bool {
        let name = &difference.key().name;
        let read = difference.current.as_ref().map(|object| Member::of(object)).transpose();
        self.judge(MEMBERS_STAGE, difference.key(), read.as_ref().err().cloned());
        let member = read.ok().flatten();
        let place = member.as_deref().map(|member| Item::new(&network::config(member, self.config)));
        if self.views.members.get(name) != place.as_ref() {
            self.touched.members.insert(Arc::clone(name));
            match place {
                Some(place) => self.views.members.insert(Arc::clone(name), place),
                None => self.views.members.remove(name),
            };
        }
        let peer = member.as_deref().and_then(network::peer);
        self.set_network(network::peer_key(name).into(), peer.map(|peer| Item::new(&peer)));
        let runs_pods = member.is_some_and(|member| member.role == MemberRole::Node);
        if runs_pods == self.views.agents.contains_key(name) {
            return false;
        }
        self.touched.agents.insert(Arc::clone(name));
        self.touched.members.insert(Arc::clone(name));
        if runs_pods {
            self.views.agents.insert(Arc::clone(name), Items::new());
        } else {
            self.views.agents.remove(name);
        }
        true
    }

    fn insert_pod(&mut self, node: &Arc<str>, name: Arc<str>, item: Item) {
        let view = self.views.agents.get(node);
        if view.is_none_or(|view| view.get(&name) == Some(&item)) {
            return;
        }
        if let Some(view) = self.views.agents.get_mut(node) {
            view.insert(name, item);
            self.touched.agents.insert(Arc::clone(node));
        }
    }

    fn remove_pod(&mut self, node: &Arc<str>, name: &Arc<str>) {
        if let Some(view) = self.views.agents.get_mut(node)
            && view.remove(name).is_some()
        {
            self.touched.agents.insert(Arc::clone(node));
        }
    }

    fn set_network(&mut self, name: Arc<str>, item: Option<Item>) {
        self.touched.network |= set(&mut self.views.network, name, item);
    }

    fn set_gateway(&mut self, name: Arc<str>, item: Option<Item>) {
        self.touched.gateway |= set(&mut self.views.gateway, name, item);
    }

    /// Notes what is wrong with an object, or that nothing is any more.
    fn judge(&mut self, stage: &'static str, key: &Key, message: Option<String>) {
        let place = (STAGES.iter().position(|known| *known == stage).unwrap_or(STAGES.len()), key.clone());
        let failure = message.map(|message| Failure { stage, key: key.clone(), message });
        if self.failures.get(&place) == failure.as_ref() {
            return;
        }
        self.failures_changed = true;
        match failure {
            Some(failure) => self.failures.insert(place, failure),
            None => self.failures.remove(&place),
        };
    }
}

/// Puts an item in its place, or takes it out; whether that is a change.
fn set(view: &mut Items, name: Arc<str>, item: Option<Item>) -> bool {
    if view.get(&name) == item.as_ref() {
        return false;
    }
    match item {
        Some(item) => view.insert(name, item),
        None => view.remove(&name),
    };
    true
}

/// What each consumer of each member is told.
pub type Feeds = BTreeMap<(String, Consumer), Vec<FeedItem>>;

/// What each consumer of each member is told of a state, and what could not be compiled: for tests of those who read
/// it.
pub fn afresh(snapshot: &Snapshot, config: &ClusterConfig) -> (Feeds, Vec<Failure>) {
    let mut compiler = Compiler::new(config.clone(), Arc::new(Unwatched));
    let advance = compiler.advance(snapshot).expect("objects alone can fail");
    (advance.views.feeds(), advance.failures.unwrap_or_default())
}

impl Views {
    /// What each consumer of each member is told.
    pub fn feeds(&self) -> Feeds {
        let decode = |items: &Items| items.values().filter_map(Item::decode).collect::<Vec<_>>();
        let mut feeds = BTreeMap::new();
        for (member, place) in &self.members {
            let name = member.to_string();
            let agent = self.agents.get(member).map(decode).unwrap_or_default();
            feeds.insert((name.clone(), Consumer::Agent), agent);
            let hidden = network::peer_key(member);
            let others = decode(&self.network).into_iter().filter(|item| item.key != hidden);
            feeds.insert((name.clone(), Consumer::Netd), place.decode().into_iter().chain(others).collect());
            feeds.insert((name, Consumer::Gateway), decode(&self.gateway));
        }
        feeds
    }
}
