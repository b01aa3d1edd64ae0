//! A cluster in memory: objects go in, plans are carried out, and everyone reads their feeds.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use jiff::Timestamp;
use prost::Message as _;
use serde_json::{Value, json};
use warren_agent::plan as agent;
use warren_gateway::{Refused, routes::RouteTable};
use warren_netd::{
    plan::{services, zone},
    world as netd,
};
use warren_plan::Liveness;
use warren_proto::control::{Consumer, FeedItem, HttpRoute, feed_item::Item};
use warren_store::{Key, Object, Precondition, Snapshot, Transaction, Write};
use warren_vocabulary::{
    ClusterConfig,
    member::{Member, MemberRole},
    resources::*,
};

use warren_write::{Author, Gate};

use crate::measure;

/// How much memory one pass may take: what is in the largest world, many times over.
const MEMORY: usize = 512 << 20;
/// A second, for a program that is not optimized.
const TIME: Duration = Duration::from_secs(20);
const NODES_OF_IT: u8 = 4;

pub(crate) struct World {
    objects: BTreeMap<Key, (u64, Value)>,
    revision: u64,
    added: u32,
    now: Timestamp,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        let mut world = Self { objects: BTreeMap::new(), revision: 0, added: 0, now };
        world.put(
            Key::new(NAMESPACES, "", "default"),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "uid": "ns"}, "status": {"phase": "Active"}}),
        );
        world.put(
            Key::new(SERVICEACCOUNTS, "default", "default"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default", "uid": "account"}}),
        );
        for index in 1..=NODES_OF_IT {
            world.member(&format!("node-{index}"), MemberRole::Node, index);
            world.put(Key::new(NODES, "", &format!("node-{index}")), node(index));
        }
        world.member("gateway", MemberRole::Gateway, 200);
        let named = |name: &str| json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"), "creationTimestamp": "2026-01-01T00:00:00Z"});
        world.put(Key::new(CONFIGMAPS, "default", "m"), json!({"metadata": named("m"), "data": {"k": "v"}}));
        world.put(
            Key::new(SERVICES, "default", "web"),
            json!({"metadata": named("web"), "spec": {"clusterIP": "10.43.0.77", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}}),
        );
        world
    }

    fn member(&mut self, name: &str, role: MemberRole, third: u8) {
        let role = if role == MemberRole::Node { "node" } else { "gateway" };
        let member = json!({
            "metadata": {"name": name}, "spec": {"role": role, "podCidr": format!("10.42.{third}.0/24")},
            "status": {"endpoint": format!("192.0.2.{third}:51820")},
        });
        self.put(Member::key(name), member);
    }

    /// Stores an object under a name of its own. A pod with a node gets an address there.
    pub(crate) fn add(&mut self, resource: &str, mut object: Value) {
        self.added += 1;
        let name = format!("x-{}", self.added);
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        object["metadata"]["name"] = name.as_str().into();
        object["metadata"]["uid"] = format!("uid-{resource}-{name}").into();
        if resource == PODS && !object["spec"]["nodeName"].is_null() {
            let [third, last] = [self.added / 200 + 1, self.added % 200 + 20];
            let address = format!("10.42.{third}.{last}");
            if object["status"].is_null() {
                object["status"] = json!({"phase": "Pending"});
            }
            if object["status"]["podIP"].is_null() {
                object["status"]["podIP"] = address.into();
            }
        }
        self.put(Key::new(resource, &namespace, &name), object);
    }

    pub(crate) fn put(&mut self, key: Key, object: Value) {
        self.revision += 1;
        self.objects.insert(key, (self.revision, object));
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let object = |(key, (revision, value)): (&Key, &(u64, Value))| {
            Object::new(key.clone(), *revision, value.clone())
        };
        Arc::new(Snapshot::from_objects(self.revision, self.objects.iter().map(object)))
    }

    fn commit(&mut self, transaction: &Transaction) -> bool {
        let holds = |precondition: &Precondition| match precondition {
            Precondition::Absent(key) => !self.objects.contains_key(key),
            Precondition::Exists(key) => self.objects.contains_key(key),
            Precondition::Revision(key, revision) => {
                self.objects.get(key).is_some_and(|(at, _)| at == revision)
            }
        };
        if !transaction.preconditions.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        for write in &transaction.writes {
            match write {
                Write::Put(key, value) => {
                    drop(self.objects.insert(key.clone(), (self.revision, value.clone())))
                }
                Write::Delete(key) => drop(self.objects.remove(key)),
            }
        }
        true
    }

    /// Plans and carries out until there is nothing left to do, with all nodes alive, then with one lost.
    pub(crate) fn settle(&mut self) {
        for silent in [0, 1_000_000_000] {
            let mut last = Vec::new();
            let rests = (0..40).any(|_| {
                last = self.pass(silent);
                last.is_empty()
            });
            assert!(rests, "there is no end of writes: {last:#?}");
            self.read();
            self.now += jiff::SignedDuration::from_hours(2);
        }
    }

    /// One pass; the answer is why something was written.
    fn pass(&mut self, silent: u64) -> Vec<String> {
        let liveness = |silent| Liveness { silent_for: Duration::from_secs(silent), network_ready: true };
        let alive = (2..=NODES_OF_IT).map(|index| (format!("node-{index}"), liveness(0)));
        let world = warren_plan::World {
            snapshot: self.snapshot(),
            nodes: alive.chain([("node-1".to_owned(), liveness(silent))]).collect(),
            acknowledged: u64::MAX,
            ..warren_plan::World::default()
        };
        let stages = measure::Stages::default();
        let plan = measure::within(&stages, MEMORY, TIME, || {
            warren_plan::Planner::default().plan(&world, self.now, &stages)
        });
        let failures: Vec<_> =
            plan.failures.iter().map(|failure| format!("{failure:?}: {}", self.text(&failure.key))).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        let gate = Gate::new(&ClusterConfig::default());
        let mut written = Vec::new();
        for step in plan.steps {
            let author = Author::controller(step.planner);
            let passed = measure::within(&"the gate", MEMORY, TIME, || {
                gate.admit_all(&world.snapshot, author, step.transaction)
            });
            // What is refused is not written, and would be told with the next world.
            if passed.is_ok_and(|passed| self.commit(&passed.transaction)) {
                written.push(step.why);
            }
        }
        written
    }

    pub(crate) fn assert_gone(&self, resource: &str, prefix: &str) {
        let left =
            self.objects.keys().filter(|key| &*key.resource == resource && key.name.starts_with(prefix));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<&Key>::new());
    }

    fn text(&self, key: &Key) -> String {
        let text = self.objects.get(key).map(|(_, value)| value.to_string()).unwrap_or_default();
        text.chars().take(4_000).collect()
    }

    /// Compiles, and lets every consumer make its plan.
    pub(crate) fn read(&self) {
        let (snapshot, config) = (self.snapshot(), ClusterConfig::default());
        let (feeds, failures) =
            measure::within(&"compiling", MEMORY, TIME, || warren_nodes::afresh(&snapshot, &config));
        // What is too much is said; what is a fault of ours is one.
        let faults: Vec<_> =
            failures.iter().filter(|failure| !failure.message.contains("lead to more than")).collect();
        assert!(faults.is_empty(), "{faults:?}: {}", self.text(&faults[0].key));
        for ((member, consumer), items) in &feeds {
            for item in items {
                assert!(item.encoded_len() < 32 << 20, "{}: {} bytes", item.key, item.encoded_len());
            }
            let what = format!("the plan of {consumer:?} at {member}");
            measure::within(&what, MEMORY, TIME, || match consumer {
                Consumer::Agent => self.read_as_agent(items),
                Consumer::Netd => read_as_netd(items),
                _ => read_as_gateway(items),
            });
        }
    }

    fn read_as_agent(&self, items: &[FeedItem]) {
        let mut pods = BTreeMap::new();
        for item in items {
            if let Some(Item::Pod(pod)) = &item.item {
                pods.insert(pod.uid.clone(), Arc::new(pod.clone()));
            }
        }
        let desired = agent::Desired { pods, ..Default::default() };
        for ready in [false, true] {
            let mut pod = agent::Pod::default();
            pod.memory.volumes_ready = ready;
            let world = agent::ObservedPods {
                pods: desired.pods.keys().map(|uid| (uid.clone(), pod.clone())).collect(),
            };
            let plan = agent::plan(&desired, &world, self.now);
            assert!(plan.actions.len() <= desired.pods.len() * 16);
            for (uid, instruction) in &desired.pods {
                let status = agent::status::pod_status(uid, instruction, &pod, false, self.now);
                assert_eq!(status.containers.len(), instruction.containers.len());
                for container in &instruction.containers {
                    for kind in agent::probes::ProbeKind::ALL {
                        let Some(probe) = kind.of(container) else { continue };
                        let mut tracker = agent::probes::Tracker::default();
                        for answer in [true, false, false] {
                            tracker.record(probe, answer);
                            tracker.asked_at = Some(tracker.due_at(probe, self.now));
                        }
                        let _ = agent::probes::timeout(probe);
                    }
                }
            }
        }
    }
}

fn read_as_netd(items: &[FeedItem]) {
    let items = items.iter().filter_map(|item| Some((item.key.clone(), item.item.clone()?)));
    let items: BTreeMap<_, _> = items.collect();
    let (world, _problems) = netd::DesiredNetwork::read(&items);
    let network = world.network.as_ref().expect("every member has a place");
    let zone = zone::plan(network, &world.services);
    assert!(!zone.names.is_empty());
    let empty = services::Tables::default();
    let pods = [Ipv4Addr::new(10, 42, 1, 2)];
    let tables = services::desired(world.services.values(), &empty, pods, network.dns_address);
    let changes = services::diff(&empty, &tables);
    let again = services::desired(world.services.values(), &tables, pods, network.dns_address);
    assert!(services::diff(&tables, &again).is_empty(), "netd comes to rest");
    assert!(changes.parts(1_000).iter().map(services::Changes::len).sum::<usize>() > 0);
}

fn read_as_gateway(items: &[FeedItem]) {
    let routes: Vec<(&str, &HttpRoute)> = items
        .iter()
        .filter_map(|item| match &item.item {
            Some(Item::HttpRoute(route)) => Some((item.key.as_str(), route)),
            _ => None,
        })
        .collect();
    let rules = routes.iter().copied().into();
    let table = RouteTable::compile(1, &rules, &Refused::default(), None);
    for (host, path) in [("", "/"), ("a.example.com", "/x/../y"), ("ü", ""), ("a.b.c", "/")] {
        let _ = table.find(host, path);
    }
    for (_, route) in &routes {
        let _ = table.find(&route.host, &route.path);
    }
}

fn node(index: u8) -> Value {
    let name = format!("node-{index}");
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "100000", "memory": "100Ti", "pods": "100000", "ephemeral-storage": "1Ei"},
            "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{index}")}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainerRuntimeReady", "status": "True"}],
        },
    })
}
