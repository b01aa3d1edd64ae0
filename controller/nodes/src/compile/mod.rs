//! The compiler: one snapshot of Kubernetes objects in, fully resolved views out. Pure.
//!
//! ```text
//!  Snapshot ──► Compiler::compile ──► Compiled { one view per agent, one network view, one gateway view }
//!                  └ memory of the last result: unchanged inputs are not compiled again,
//!                    unchanged items keep their allocation, so that a diff compares pointers
//! ```
//!
//! The memory is only a cache: compiling with it gives the same as compiling afresh (tested).

mod budget;
mod endpoints;
mod environment;
mod handlers;
mod network;
mod pods;
mod references;
mod routes;
mod secrecy;
pub(crate) mod view;
mod volumes;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1 as core;
use warren_proto::{
    control::{Consumer, FeedItem},
    vocabulary::Cursor,
};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::{
    ClusterConfig,
    guard::{self, Failure, Progress, Unwatched},
    member::{Member, MemberRole},
    resources::{
        CONFIGMAPS, ENDPOINTSLICES, INGRESSCLASSES, INGRESSES, MEMBERS, NODES, PODS, SECRETS, SERVICES,
    },
};

use crate::{identity, json::text_at};
use endpoints::{OBJECT_ENDPOINTS, Slices};
use view::{Selection, View};

/// All views at one revision.
#[derive(Clone, Default)]
pub(crate) struct Compiled {
    pub(crate) cursor: Cursor,
    pub(crate) members: BTreeMap<String, Arc<Member>>,
    agents: BTreeMap<String, Arc<View>>,
    network: Arc<View>,
    gateway: Arc<View>,
    configs: BTreeMap<String, Arc<FeedItem>>,
    /// Objects that could not be compiled, or only in part.
    pub(crate) failures: Vec<Failure>,
}

impl Compiled {
    /// What this consumer sees; `None` when the member does not exist (any more).
    pub(crate) fn select(&self, member: &str, consumer: Consumer) -> Option<Selection> {
        self.members.get(member)?;
        Some(match consumer {
            Consumer::Agent => Selection {
                shared: self.agents.get(member).cloned().unwrap_or_default(),
                ..Selection::default()
            },
            Consumer::Netd => Selection {
                shared: Arc::clone(&self.network),
                own: self.configs.get(member).cloned(),
                hidden: Some(network::peer_key(member)),
            },
            Consumer::Gateway => Selection { shared: Arc::clone(&self.gateway), ..Selection::default() },
            Consumer::Unspecified => Selection::default(),
        })
    }

    /// Whether this consumer's view may differ from the one in `older`. Cheap, and never wrongly no.
    pub(crate) fn may_differ(&self, older: &Self, member: &str, consumer: Consumer) -> bool {
        match (self.select(member, consumer), older.select(member, consumer)) {
            (Some(new), Some(old)) => {
                let both_empty = new.shared.is_empty() && old.shared.is_empty();
                !(both_empty || Arc::ptr_eq(&new.shared, &old.shared)) || new.own != old.own
            }
            (new, old) => new.is_some() != old.is_some(),
        }
    }
}

/// What some inputs were when they were last compiled: their number and newest revision. A deletion changes the
/// number, everything else the revision.
type Stamp = (usize, u64);

fn stamp<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Stamp {
    objects.fold((0, 0), |(count, newest), object| (count + 1, newest.max(object.revision)))
}

/// The inputs of one pod: its own revision, its node's, and its namespace's configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PodStamp {
    pod: u64,
    node: u64,
    namespace: [Stamp; 3],
    /// The service `default/kubernetes`, which every pod's environment may name.
    kubernetes: u64,
}

/// What was made of a pod, from what, and why nothing better.
struct Remembered {
    stamp: PodStamp,
    item: Option<Arc<FeedItem>>,
    failure: Option<Failure>,
}

/// Compiles snapshots one after the other.
pub(crate) struct Compiler {
    config: ClusterConfig,
    progress: Arc<dyn Progress>,
    last: Compiled,
    pods: BTreeMap<Key, Remembered>,
    traffic: Option<Traffic>,
    traffic_failures: Vec<Failure>,
    /// What the gateways' view was made from, of Secrets.
    secrets: BTreeSet<Key>,
}

/// The inputs of services and routes: kinds as a whole, and the Secrets that routes name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Traffic([Stamp; 5], Stamp);

impl Compiler {
    /// `progress` learns which object is turned to.
    pub(crate) fn new(config: ClusterConfig, progress: Arc<dyn Progress>) -> Self {
        let (last, pods, secrets) = (Compiled::default(), BTreeMap::new(), BTreeSet::new());
        Self { config, progress, last, pods, traffic: None, traffic_failures: Vec::new(), secrets }
    }

    /// The views of a snapshot.
    pub(crate) fn compile(&mut self, snapshot: &Snapshot) -> Compiled {
        let members: BTreeMap<_, _> =
            identity::members(snapshot).map(|member| (member.name.clone(), member)).collect();
        let mut next = Compiled {
            cursor: Cursor { epoch: snapshot.epoch, revision: snapshot.revision },
            agents: self.agents(snapshot, &members),
            configs: self.configs(&members),
            network: Arc::clone(&self.last.network),
            gateway: Arc::clone(&self.last.gateway),
            members,
            failures: Vec::new(),
        };
        let kinds = [MEMBERS, SERVICES, ENDPOINTSLICES, INGRESSES, INGRESSCLASSES]
            .map(|resource| stamp(snapshot.list(resource)));
        if self.traffic != Some(Traffic(kinds, self.secrets(snapshot))) {
            self.traffic_failures = self.traffic(snapshot, &mut next);
            self.traffic = Some(Traffic(kinds, self.secrets(snapshot)));
        }
        let failed_pods = self.pods.values().filter_map(|pod| pod.failure.as_ref());
        next.failures = failed_pods.chain(&self.traffic_failures).cloned().collect();
        self.last = next.clone();
        next
    }

    fn configs(&self, members: &BTreeMap<String, Arc<Member>>) -> BTreeMap<String, Arc<FeedItem>> {
        let mut configs = BTreeMap::new();
        for (name, member) in members {
            let item = network::config(member, &self.config);
            let kept = self.last.configs.get(name).filter(|known| ***known == item).cloned();
            configs.insert(name.clone(), kept.unwrap_or_else(|| Arc::new(item)));
        }
        configs
    }

    fn secrets(&self, snapshot: &Snapshot) -> Stamp {
        stamp(self.secrets.iter().filter_map(|key| snapshot.get(key)))
    }

    fn traffic(&mut self, snapshot: &Snapshot, next: &mut Compiled) -> Vec<Failure> {
        let mut failures = Vec::new();
        let slices = Slices::of(snapshot);
        let peers = next.members.values().filter_map(|member| network::peer(member));
        let services = snapshot.list(SERVICES);
        let services = services.filter_map(|object| self.service(object, &slices, &mut failures));
        next.network = collect(&self.last.network, peers.chain(services));
        let routes = self.routes(snapshot, &slices, &mut failures);
        next.gateway = collect(&self.last.gateway, routes.items.into_iter());
        self.secrets = routes.secrets;
        failures
    }

    /// One service's item; as it was when we fail on it.
    fn service(&self, object: &Object, slices: &Slices, failures: &mut Vec<Failure>) -> Option<FeedItem> {
        const STAGE: &str = "compiling services";
        self.progress.at(STAGE, &object.key);
        slices.allow(OBJECT_ENDPOINTS);
        let mut fail = |message| failures.push(Failure { stage: STAGE, key: object.key.clone(), message });
        let compiled = guard::catch(|| network::service(&*object.typed::<core::Service>().ok()?, slices));
        let compiled = compiled.unwrap_or_else(|message| {
            fail(message);
            let key = network::service_key(&object.key.namespace, &object.key.name);
            self.last.network.get(&key).map(|item| (**item).clone())
        });
        if slices.exceeded() {
            fail(too_many_endpoints("ports"));
        }
        compiled
    }

    /// All routes. When that fails, each Ingress is tried alone: those that fail keep the routes that they had, and
    /// the others are compiled without them.
    fn routes(&self, snapshot: &Snapshot, slices: &Slices, failures: &mut Vec<Failure>) -> routes::Routes {
        const STAGE: &str = "compiling routes";
        self.progress.at(STAGE, &Key::new(INGRESSES, "", "all"));
        let compile = |snapshot: &Snapshot, endpoints| {
            slices.allow(endpoints);
            guard::catch(|| routes::routes(snapshot, slices, &self.config))
        };
        match compile(snapshot, 10 * OBJECT_ENDPOINTS) {
            Ok(routes) if !slices.exceeded() => return routes,
            _ => {}
        }
        let all: Vec<Key> = snapshot.list(INGRESSES).map(|ingress| ingress.key.clone()).collect();
        let (none, ingresses) = snapshot.without(&all);
        let (mut failed, mut kept) = (Vec::new(), routes::Routes::default());
        for ingress in &ingresses {
            self.progress.at(STAGE, &ingress.key);
            let message = match compile(&none.with(Arc::clone(ingress)), OBJECT_ENDPOINTS) {
                Ok(routes) if slices.exceeded() => {
                    kept.add(routes);
                    too_many_endpoints("paths")
                }
                Ok(_) => continue,
                Err(message) => {
                    let own = format!("route/{}/{}/", ingress.key.namespace, ingress.key.name);
                    let known = self.last.gateway.range(own.clone()..);
                    let known = known.take_while(|(key, _)| key.starts_with(&own));
                    kept.items.extend(known.map(|(_, item)| (**item).clone()));
                    message
                }
            };
            failures.push(Failure { stage: STAGE, key: ingress.key.clone(), message });
            failed.push(ingress.key.clone());
        }
        let good = compile(&snapshot.without(&failed).0, usize::MAX);
        let mut good = good.or_else(|_| compile(&none, usize::MAX)).unwrap_or_default();
        good.add(kept);
        good
    }

    fn agents(
        &mut self,
        snapshot: &Snapshot,
        members: &BTreeMap<String, Arc<Member>>,
    ) -> BTreeMap<String, Arc<View>> {
        let nodes = members.values().filter(|member| member.role == MemberRole::Node);
        let mut views: BTreeMap<String, View> =
            nodes.map(|member| (member.name.clone(), View::new())).collect();
        let mut memory = BTreeMap::new();
        let mut namespaces = BTreeMap::new();
        let revision = |key: Key| snapshot.get(&key).map_or(0, |object| object.revision);
        let kubernetes = revision(environment::kubernetes_service());
        for object in snapshot.list(PODS) {
            let node = text_at(&object.value, "/spec/nodeName");
            let Some(view) = views.get_mut(node) else { continue };
            let namespace = *namespaces.entry(&object.key.namespace).or_insert_with_key(|namespace| {
                [CONFIGMAPS, SECRETS, SERVICES]
                    .map(|resource| stamp(snapshot.list_namespace(resource, namespace)))
            });
            let node = revision(Key::new(NODES, "", node));
            let stamp = PodStamp { pod: object.revision, node, namespace, kubernetes };
            let pod = self.pod(snapshot, object, stamp);
            if let Some(item) = &pod.item {
                view.insert(item.key.clone(), Arc::clone(item));
            }
            memory.insert(object.key.clone(), pod);
        }
        self.pods = memory;
        let keep = |(name, view): (String, View)| {
            let kept = view::keep_if_equal(self.last.agents.get(&name).unwrap_or(&Arc::default()), view);
            (name, kept)
        };
        views.into_iter().map(keep).collect()
    }

    /// One pod's item, from memory when none of its inputs changed.
    fn pod(&self, snapshot: &Snapshot, object: &Object, stamp: PodStamp) -> Remembered {
        const STAGE: &str = "compiling pods";
        let known = self.pods.get(&object.key);
        if let Some(known) = known.filter(|known| known.stamp == stamp) {
            return Remembered { stamp, item: known.item.clone(), failure: known.failure.clone() };
        }
        self.progress.at(STAGE, &object.key);
        let known = known.and_then(|known| known.item.as_ref());
        let (item, failure) = match guard::catch(|| pods::compile(object, snapshot, &self.config)) {
            Ok(item) => (item, None),
            Err(message) => {
                let item = last_known(object, known).or_else(|| pods::failed(object, &message));
                (item, Some(Failure { stage: STAGE, key: object.key.clone(), message }))
            }
        };
        let shared = |item: FeedItem| {
            known.filter(|known| ***known == item).cloned().unwrap_or_else(|| Arc::new(item))
        };
        Remembered { stamp, item: item.map(shared), failure }
    }
}

/// What the agent was told of this pod before, unless it is to end now: a pod that runs goes on.
fn last_known(object: &Object, known: Option<&Arc<FeedItem>>) -> Option<FeedItem> {
    let own = format!("pod/{}", text_at(&object.value, "/metadata/uid"));
    let ends = !text_at(&object.value, "/metadata/deletionTimestamp").is_empty();
    known.filter(|item| !ends && item.key == own).map(|item| (**item).clone())
}

fn too_many_endpoints(of: &str) -> String {
    format!(
        "its {of} lead to more than {OBJECT_ENDPOINTS} endpoints in all, and those that come last lead nowhere: \
         divide it"
    )
}

/// What each consumer of each member is told.
pub type Feeds = BTreeMap<(String, Consumer), Vec<FeedItem>>;

/// What each consumer of each member is told of a state, and what could not be compiled: for tests of those who read
/// it.
pub fn afresh(snapshot: &Snapshot, config: &ClusterConfig) -> (Feeds, Vec<Failure>) {
    let compiled = Compiler::new(config.clone(), Arc::new(Unwatched)).compile(snapshot);
    let mut feeds = BTreeMap::new();
    for member in compiled.members.keys() {
        for consumer in [Consumer::Agent, Consumer::Netd, Consumer::Gateway] {
            let selection = compiled.select(member, consumer).unwrap_or_default();
            let batches = view::snapshot(&selection, compiled.cursor);
            let items = batches.into_iter().flat_map(|batch| batch.upserts).collect();
            feeds.insert((member.clone(), consumer), items);
        }
    }
    (feeds, compiled.failures)
}

fn collect(old: &Arc<View>, items: impl Iterator<Item = FeedItem>) -> Arc<View> {
    let mut view = View::new();
    for item in items {
        view::intern(&mut view, old, item);
    }
    view::keep_if_equal(old, view)
}
