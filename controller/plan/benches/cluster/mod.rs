//! A cluster in memory, for benchmarks of the scheduler: nodes that answer, and the objects that it plans for.

use std::sync::Arc;

use serde_json::{Value, json};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::{
    member::{Member, MemberRole},
    resources::{MEMBERS, NAMESPACES, NODES},
};

/// The default namespace alone.
pub(crate) fn empty() -> Snapshot {
    let mut snapshot = Snapshot::from_objects(1, []);
    let namespace = json!({"metadata": {"name": "default", "uid": "default"}, "status": {"phase": "Active"}});
    put(&mut snapshot, NAMESPACES, "", namespace);
    snapshot
}

/// The name of a node.
pub(crate) fn node_name(index: usize) -> String {
    format!("node-{index:05}")
}

/// The first three numbers of the addresses of a node's pods.
pub(crate) fn network(index: usize) -> String {
    format!("10.{}.{}", index / 250, index % 250)
}

/// Adds a node that is ready, and its member.
pub(crate) fn add_node(snapshot: &mut Snapshot, index: usize, labels: Value, allocatable: &Value) {
    let name = node_name(index);
    let member = Member {
        name: name.clone(),
        role: MemberRole::Node,
        pod_cidr: format!("{}.0/24", network(index)).parse().expect("a network of 256 addresses"),
        public_key: None,
        endpoint: None,
        backend: None,
        mtu: None,
        machine: None,
        id: None,
    };
    let key = Key::new(MEMBERS, "", &name);
    snapshot.insert(Arc::new(Object::new(key, 1, member.to_value())));
    let conditions =
        json!([{"type": "ContainerRuntimeReady", "status": "True"}, {"type": "Ready", "status": "True"}]);
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": allocatable, "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    });
    put(snapshot, NODES, "", node);
}

/// Adds or replaces an object, at the snapshot's revision.
pub(crate) fn put(snapshot: &mut Snapshot, resource: &str, namespace: &str, value: Value) {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let revision = snapshot.revision;
    snapshot.insert(Arc::new(Object::new(Key::new(resource, namespace, &name), revision, value)));
}
