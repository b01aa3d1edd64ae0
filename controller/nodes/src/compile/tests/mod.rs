//! Tables for the compiler: objects in, items out.

mod budgets;
mod pods;
mod traffic;

use proptest::prelude::*;
use serde_json::{Value, json};
use warren_proto::control::{PodInstruction, feed_item::Item};

use super::*;

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

fn compiler() -> Compiler {
    Compiler::new(ClusterConfig::default(), Arc::new(Unwatched))
}

fn compile(objects: Vec<Object>) -> Compiled {
    let mut all = vec![member("n", "node", 1, Some("key-n")), member("gw", "gateway", 2, Some("key-gw"))];
    all.extend(objects);
    compiler().compile(&Snapshot::from_objects(9, all))
}

fn instruction(objects: Vec<Object>) -> PodInstruction {
    let compiled = compile(objects);
    match compiled.agents["n"].get("pod/u").and_then(|item| item.item.clone()) {
        Some(Item::Pod(pod)) => pod,
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
fn what_did_not_change_keeps_its_place_in_memory() {
    let base = || vec![member("n", "node", 1, Some("k")), pod(json!({})), web(), slice("web", json!([]))];
    let mut kept = compiler();
    let first = kept.compile(&Snapshot::from_objects(5, base()));
    let event = object("events", "shop", 6, json!({"metadata": {"name": "e"}}));
    let second = kept.compile(&Snapshot::from_objects(6, base().into_iter().chain([event])));
    for consumer in [Consumer::Agent, Consumer::Netd, Consumer::Gateway] {
        assert!(!second.may_differ(&first, "n", consumer), "{consumer:?}");
    }
    let map = config_map("m", json!({"a": "b"}));
    let third = kept.compile(&Snapshot::from_objects(7, base().into_iter().chain([map])));
    assert!(!third.may_differ(&second, "n", Consumer::Agent), "compiled again, to the same");
    let slice = Object::new(
        Key::new(ENDPOINTSLICES, "shop", "web-1"),
        8,
        slice("web", json!([endpoint("10.42.1.2", true, true, false)])).value,
    );
    let changed = base().into_iter().filter(|object| &*object.key.resource != ENDPOINTSLICES).chain([slice]);
    let fourth = kept.compile(&Snapshot::from_objects(8, changed));
    assert!(
        fourth.may_differ(&third, "n", Consumer::Netd) && !fourth.may_differ(&third, "n", Consumer::Agent)
    );
}

/// A small world that moves: what exists, and at which revision it was last written.
fn world(written: &BTreeMap<u8, u64>) -> Snapshot {
    let make = |id: u8, revision: u64| {
        let variant = revision % 3;
        let made = match id {
            0 => member("n", "node", 1, Some("k")),
            1 => member("m", "node", 3, (variant > 0).then_some("k2")),
            2 => pod(
                json!({"containers": [{"name": "c", "image": format!("i{variant}"), "envFrom": [{"configMapRef": {"name": "m"}}]}]}),
            ),
            3 => config_map("m", json!({"a": variant.to_string()})),
            4 => web(),
            5 => slice("web", json!([endpoint(&format!("10.42.1.{variant}"), true, true, false)])),
            6 => ingress(json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}})),
            _ => object(NODES, "", 1, json!({"metadata": {"name": "n"}, "status": {}})),
        };
        Object::new(made.key.clone(), revision, made.value)
    };
    let newest = written.values().copied().max().unwrap_or(0);
    Snapshot::from_objects(newest, written.iter().map(|(id, revision)| make(*id, *revision)))
}

fn everything(compiled: &Compiled) -> BTreeMap<String, FeedItem> {
    let mut all = BTreeMap::new();
    for member in ["n", "m"] {
        for consumer in [Consumer::Agent, Consumer::Netd, Consumer::Gateway] {
            for batch in compiled
                .select(member, consumer)
                .map(|s| view::snapshot(&s, compiled.cursor))
                .unwrap_or_default()
            {
                all.extend(
                    batch
                        .upserts
                        .into_iter()
                        .map(|item| (format!("{member}/{consumer:?}/{}", item.key), item)),
                );
            }
        }
    }
    all
}

proptest! {
    /// The compiler's memory never shows: step by step gives the same as afresh, and `may_differ` never lies.
    #[test]
    fn memory_is_only_a_cache(steps in prop::collection::vec((0u8..8, any::<bool>()), 1..40)) {
        let mut written = BTreeMap::new();
        let mut kept = compiler();
        let mut last = Compiled::default();
        for (revision, (id, delete)) in (1u64..).zip(steps) {
            if delete { written.remove(&id); } else { written.insert(id, revision); }
            let snapshot = world(&written);
            let stepwise = kept.compile(&snapshot);
            let afresh = compiler().compile(&snapshot);
            prop_assert_eq!(everything(&stepwise), everything(&afresh));
            for member in ["n", "m"] {
                for consumer in [Consumer::Agent, Consumer::Netd, Consumer::Gateway] {
                    if let (Some(old), Some(new)) = (last.select(member, consumer), stepwise.select(member, consumer)) {
                        let changed = !view::difference(&old, &new).is_empty();
                        prop_assert!(!changed || stepwise.may_differ(&last, member, consumer));
                    }
                }
            }
            last = stepwise;
        }
    }
}
