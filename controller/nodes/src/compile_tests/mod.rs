//! Tables for the compiler: objects in, items out; and that who follows what is published holds what is there.

mod budgets;
mod history;
mod pods;
mod traffic;
mod work;

use serde_json::{Value, json};
use warren_proto::control::{PodInstruction, feed_item};
use warren_state::Object;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use warren_compile::{Compiler, Feeds, Item, Items, OBJECT_ENDPOINTS, Views, failed};
use warren_proto::control::{Consumer, FeedItem};
use warren_state::{Key, Snapshot};
use warren_vocabulary::{
    ClusterConfig,
    guard::{Failure, Progress, Unwatched},
    resources::*,
};

use crate::views::{Name, Published};

fn object(resource: &str, namespace: &str, revision: u64, mut value: Value) -> Object {
    let name = value["metadata"]["name"].as_str().expect("a name").to_owned();
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = namespace.into();
    }
    Object::new(Key::new(resource, namespace, &name), revision, value)
}

fn member(name: &str, role: &str, third: u8, key: Option<&str>) -> Object {
    let status = key.map_or(json!({}), |key| json!({"publicKey": key, "endpoint": "192.0.2.1:51820"}));
    let spec = json!({"role": role, "podCidr": format!("10.42.{third}.0/24")});
    object(MEMBERS, "", 1, json!({"metadata": {"name": name}, "spec": spec, "status": status}))
}

/// A pod on node n with the given spec fields over a plain base.
fn pod(spec: Value) -> Object {
    let mut base = json!({"nodeName": "n", "containers": [{"name": "c", "image": "busybox"}]});
    base.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    let metadata = json!({
        "name": "web-0", "uid": "u", "labels": {"app": "web"}, "annotations": {"note": "hello"},
        "creationTimestamp": "2026-01-01T00:00:10Z",
    });
    let status = json!({"podIP": "10.42.1.2", "hostIP": "192.0.2.1"});
    object(PODS, "shop", 5, json!({"metadata": metadata, "spec": base, "status": status}))
}

/// A compiler, and what is published of what it says.
struct Kept {
    compiler: Compiler,
    published: Published,
    failures: Vec<Failure>,
}

/// A snapshot's views, decoded.
struct Compiled {
    agents: BTreeMap<String, BTreeMap<String, FeedItem>>,
    network: BTreeMap<String, FeedItem>,
    gateway: BTreeMap<String, FeedItem>,
    feeds: Feeds,
    failures: Vec<Failure>,
    /// The views that are others than before.
    changed: BTreeSet<Name>,
}

impl Kept {
    fn watched(progress: Arc<dyn Progress>) -> Self {
        let compiler = Compiler::new(ClusterConfig::default(), progress);
        Self { compiler, published: Published::default(), failures: Vec::new() }
    }

    /// Publishes a snapshot; the names of the views that it changes.
    fn advance(&mut self, snapshot: &Snapshot) -> (Views, BTreeSet<Name>) {
        let advance = self.compiler.advance(snapshot).expect("objects alone fail");
        if let Some(failures) = advance.failures {
            self.failures = failures;
        }
        let publication = self.published.prepare(&advance.views, &advance.touched, snapshot.revision);
        let changed = publication.views().cloned().collect();
        publication.publish();
        (advance.views, changed)
    }

    fn compile(&mut self, snapshot: &Snapshot) -> Compiled {
        let (views, changed) = self.advance(snapshot);
        let decode = |items: &Items| {
            let items = items.values().filter_map(Item::decode);
            items.map(|item| (item.key.clone(), item)).collect::<BTreeMap<_, _>>()
        };
        Compiled {
            agents: views.agents.iter().map(|(name, items)| (name.to_string(), decode(items))).collect(),
            network: decode(&views.network),
            gateway: decode(&views.gateway),
            feeds: views.feeds(),
            failures: self.failures.clone(),
            changed,
        }
    }
}

fn compiler() -> Kept {
    Kept::watched(Arc::new(Unwatched))
}

fn compile(objects: Vec<Object>) -> Compiled {
    let mut all = vec![member("n", "node", 1, Some("key-n")), member("gw", "gateway", 2, Some("key-gw"))];
    all.extend(objects);
    compiler().compile(&Snapshot::from_objects(9, all))
}

fn instruction(objects: Vec<Object>) -> PodInstruction {
    let compiled = compile(objects);
    match compiled.agents["n"].get("pod/u").and_then(|item| item.item.clone()) {
        Some(feed_item::Item::Pod(pod)) => pod,
        other => panic!("no instruction: {other:?}"),
    }
}

fn config_map(name: &str, data: Value) -> Object {
    object(CONFIGMAPS, "shop", 3, json!({"metadata": {"name": name}, "data": data}))
}

fn service(name: &str, spec: Value) -> Object {
    object(
        SERVICES,
        "shop",
        4,
        json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}),
    )
}

fn slice(service: &str, endpoints: Value) -> Object {
    let metadata = json!({"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}});
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    object(
        ENDPOINTSLICES,
        "shop",
        4,
        json!({"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}),
    )
}

fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> Value {
    json!({"addresses": [address], "nodeName": "n", "hostname": "h", "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

fn ingress(spec: Value) -> Object {
    object(INGRESSES, "shop", 4, json!({"metadata": {"name": "front"}, "spec": spec}))
}

fn web() -> Object {
    service(
        "web",
        json!({"clusterIP": "10.43.0.20", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}),
    )
}

#[test]
fn only_views_that_differ_change() {
    let base = || vec![member("n", "node", 1, Some("k")), pod(json!({})), web(), slice("web", json!([]))];
    let mut kept = compiler();
    kept.compile(&Snapshot::from_objects(5, base()));
    let event = object("events", "shop", 6, json!({"metadata": {"name": "e"}}));
    let second = kept.compile(&Snapshot::from_objects(6, base().into_iter().chain([event])));
    assert_eq!(second.changed, BTreeSet::new());
    let map = config_map("m", json!({"a": "b"}));
    let third = kept.compile(&Snapshot::from_objects(7, base().into_iter().chain([map])));
    assert_eq!(third.changed, BTreeSet::new(), "nobody refers to it");
    let slice = Object::new(
        Key::new(ENDPOINTSLICES, "shop", "web-1"),
        8,
        slice("web", json!([endpoint("10.42.1.2", true, true, false)])).value,
    );
    let changed = base().into_iter().filter(|object| &*object.key.resource != ENDPOINTSLICES).chain([slice]);
    let fourth = kept.compile(&Snapshot::from_objects(8, changed));
    assert_eq!(fourth.changed, [Name::Network].into());
}
