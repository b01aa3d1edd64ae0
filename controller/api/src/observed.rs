//! Objects made of what members told and no store holds: what nodes and pods use, and the nodes' leases. Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};
use warren_proto::control::{ContainerUsage, Usage, UsageReport};
use warren_store::{Key, Object, Snapshot};
use warren_vocabulary::{
    health::LOST_AFTER,
    resources::{NODES, PODS},
};

use crate::{Observations, meta::timestamp};

const LEASES: &str = "leases.coordination.k8s.io";
/// Where the nodes' leases are.
const NODE_LEASES: &str = "kube-node-lease";

/// Stored leases, and one of each node, renewed by its heartbeats.
pub(crate) fn leases(snapshot: &Snapshot, observations: &dyn Observations, namespace: &str) -> Vec<Object> {
    let stored =
        snapshot.list(LEASES).filter(|lease| namespace.is_empty() || &*lease.key.namespace == namespace);
    let mut all: Vec<Object> =
        stored.map(|lease| Object::new(lease.key.clone(), lease.revision, lease.value.clone())).collect();
    if namespace.is_empty() || namespace == NODE_LEASES {
        let heard = observations.heartbeats().into_iter();
        let own = heard.filter_map(|(name, time)| {
            let node = snapshot.get(&Key::new(NODES, "", &name))?;
            let key = Key::new(LEASES, NODE_LEASES, &name);
            // A lease that a client wrote stays as it is.
            snapshot.get(&key).is_none().then(|| lease(key, node, time))
        });
        all.extend(own);
    }
    all
}

fn lease(key: Key, node: &Object, renewed: Timestamp) -> Object {
    let (name, metadata) = (&*key.name, &node.value["metadata"]);
    let value = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": NODE_LEASES, "resourceVersion": node.revision.to_string(),
            "creationTimestamp": metadata["creationTimestamp"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": metadata["uid"]}],
        },
        "spec": {
            "holderIdentity": name, "leaseDurationSeconds": LOST_AFTER.as_secs(),
            "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        },
    });
    let revision = node.revision;
    Object::new(key, revision, value)
}

/// What each node uses.
pub(crate) fn nodes(snapshot: &Snapshot, observations: &dyn Observations, _: &str) -> Vec<Object> {
    let usage = |(name, time, report): (String, Timestamp, Arc<UsageReport>)| {
        let node = snapshot.get(&Key::new(NODES, "", &name))?;
        let mut value = measured("NodeMetrics", node, time, &report);
        value["usage"] = amounts(report.node.as_ref());
        Some(Object::new(Key::new("nodes.metrics.k8s.io", "", &name), snapshot.revision, value))
    };
    observations.usage().into_iter().filter_map(usage).collect()
}

/// What each pod of a namespace, or of all, uses; pods of which nothing was measured yet are left out.
pub(crate) fn pods(snapshot: &Snapshot, observations: &dyn Observations, namespace: &str) -> Vec<Object> {
    let mut all = BTreeMap::new();
    for (node, time, report) in observations.usage() {
        for pod in report.pods.iter().filter(|pod| namespace.is_empty() || pod.namespace == namespace) {
            let key = Key::new(PODS, &pod.namespace, &pod.name);
            let Some(stored) = snapshot.get(&key) else { continue };
            if stored.value["metadata"]["uid"] != pod.uid.as_str()
                || stored.value["spec"]["nodeName"] != node.as_str()
            {
                continue;
            }
            let mut value = measured("PodMetrics", stored, time, &report);
            value["containers"] = pod.containers.iter().map(container).collect();
            let key = Key::new("pods.metrics.k8s.io", &pod.namespace, &pod.name);
            all.insert(key.clone(), Object::new(key, snapshot.revision, value));
        }
    }
    all.into_values().collect()
}

fn measured(kind: &str, about: &Object, time: Timestamp, report: &UsageReport) -> Value {
    let metadata = &about.value["metadata"];
    let mut value = json!({
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": kind,
        "metadata": {"name": metadata["name"], "creationTimestamp": timestamp(time)},
        "timestamp": timestamp(time),
        "window": format!("{}s", (report.window_milliseconds + 500) / 1000),
    });
    for field in ["namespace", "labels"] {
        if !metadata[field].is_null() {
            value["metadata"][field] = metadata[field].clone();
        }
    }
    value
}

fn container(container: &ContainerUsage) -> Value {
    json!({"name": container.name, "usage": amounts(container.usage.as_ref())})
}

/// As quantities: billionths of a processor, and Kibibytes.
fn amounts(usage: Option<&Usage>) -> Value {
    let usage = usage.copied().unwrap_or_default();
    json!({"cpu": format!("{}n", usage.cpu_nanos), "memory": format!("{}Ki", usage.memory_bytes / 1024)})
}
