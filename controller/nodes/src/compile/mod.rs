//! The compiler: one snapshot of Kubernetes objects in, fully resolved views out. Pure.
//!
//! ```text
//!  Snapshot ──► Compiler::compile ──► Compiled { one view per agent, one network view, one gateway view }
//!                  └ memory of the last result: unchanged inputs are not compiled again,
//!                    unchanged items keep their allocation, so that a diff compares pointers
//! ```
//!
//! The memory is only a cache: compiling with it gives the same as compiling afresh (tested).

mod endpoints;
mod environment;
mod handlers;
mod network;
mod pods;
mod references;
mod routes;
pub(crate) mod view;
mod volumes;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use warren_plan::{
    ClusterConfig,
    member::{Member, MemberRole},
    resources::{
        CONFIGMAPS, ENDPOINTSLICES, INGRESSCLASSES, INGRESSES, MEMBERS, NODES, PODS, SECRETS, SERVICES,
    },
};
use warren_proto::{
    control::{Consumer, FeedItem},
    vocabulary::Cursor,
};
use warren_store::{Key, Object, Snapshot};

use crate::{identity, json::text_at};
use endpoints::Slices;
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

/// Compiles snapshots one after the other.
pub(crate) struct Compiler {
    config: ClusterConfig,
    last: Compiled,
    pods: BTreeMap<Key, (PodStamp, Option<Arc<FeedItem>>)>,
    traffic: Option<Traffic>,
    /// What the gateways' view was made from, of Secrets.
    secrets: BTreeSet<Key>,
}

/// The inputs of services and routes: kinds as a whole, and the Secrets that routes name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Traffic([Stamp; 5], Stamp);

impl Compiler {
    pub(crate) fn new(config: ClusterConfig) -> Self {
        Self {
            config,
            last: Compiled::default(),
            pods: BTreeMap::new(),
            traffic: None,
            secrets: BTreeSet::new(),
        }
    }

    /// The views of a snapshot.
    pub(crate) fn compile(&mut self, snapshot: &Snapshot) -> Compiled {
        let members: BTreeMap<_, _> =
            identity::members(snapshot).map(|member| (member.name.clone(), Arc::new(member))).collect();
        let mut next = Compiled {
            cursor: Cursor { epoch: snapshot.epoch, revision: snapshot.revision },
            agents: self.agents(snapshot, &members),
            configs: self.configs(&members),
            network: Arc::clone(&self.last.network),
            gateway: Arc::clone(&self.last.gateway),
            members,
        };
        let kinds = [MEMBERS, SERVICES, ENDPOINTSLICES, INGRESSES, INGRESSCLASSES]
            .map(|resource| stamp(snapshot.list(resource)));
        if self.traffic != Some(Traffic(kinds, self.secrets(snapshot))) {
            self.traffic(snapshot, &mut next);
            self.traffic = Some(Traffic(kinds, self.secrets(snapshot)));
        }
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

    fn traffic(&mut self, snapshot: &Snapshot, next: &mut Compiled) {
        let slices = Slices::of(snapshot);
        let members = next.members.values().map(Arc::as_ref);
        next.network = collect(&self.last.network, network::shared(snapshot, &slices, members));
        let routes = routes::routes(snapshot, &slices, &self.config);
        next.gateway = collect(&self.last.gateway, routes.items.into_iter());
        self.secrets = routes.secrets;
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
            let item = self.pod(snapshot, object, stamp);
            if let Some(item) = &item {
                view.insert(item.key.clone(), Arc::clone(item));
            }
            memory.insert(object.key.clone(), (stamp, item));
        }
        self.pods = memory;
        let keep = |(name, view): (String, View)| {
            let kept = view::keep_if_equal(self.last.agents.get(&name).unwrap_or(&Arc::default()), view);
            (name, kept)
        };
        views.into_iter().map(keep).collect()
    }

    /// One pod's item, from memory when none of its inputs changed.
    fn pod(&self, snapshot: &Snapshot, object: &Object, stamp: PodStamp) -> Option<Arc<FeedItem>> {
        let known = self.pods.get(&object.key);
        if let Some((last, item)) = known
            && *last == stamp
        {
            return item.clone();
        }
        let item = pods::compile(object, snapshot, &self.config)?;
        let same = known.and_then(|(_, item)| item.as_ref()).filter(|known| ***known == item);
        Some(same.cloned().unwrap_or_else(|| Arc::new(item)))
    }
}

fn collect(old: &Arc<View>, items: impl Iterator<Item = FeedItem>) -> Arc<View> {
    let mut view = View::new();
    for item in items {
        view::intern(&mut view, old, item);
    }
    view::keep_if_equal(old, view)
}
