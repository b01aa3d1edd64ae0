//! A Node object from what its agent reports. Pure.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use warren_proto::control::NodeReport;
use warren_vocabulary::member::Member;

use crate::json::{rfc3339, set_condition};

/// The condition that says whether the node's Docker engine answers; an input of the node's readiness.
pub(crate) const RUNTIME_CONDITION: &str = "ContainerRuntimeReady";
/// The Kubernetes level whose objects Warren serves; tools parse the version of a node.
const LEVEL: &str = "v1.34.0+warren";
/// As many images as Kubernetes' nodes report.
const MOST_IMAGES: usize = 50;

/// A Node object for a member that just joined.
pub(crate) fn new_node(member: &Member, uid: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": member.name,
            "uid": uid,
            "creationTimestamp": rfc3339(now),
            "labels": {"kubernetes.io/hostname": member.name, "kubernetes.io/os": "linux"},
        },
        "spec": {"podCIDR": member.pod_cidr.to_string(), "podCIDRs": [member.pod_cidr.to_string()]},
        "status": {},
    })
}

/// The node with the report in its labels and status.
/// What others decide by is not its word: it is called what it joined as, whatever it calls itself.
pub(crate) fn next(node: &Value, report: &NodeReport, address: Option<IpAddr>, now: Timestamp) -> Value {
    let mut node = node.clone();
    let architecture = architecture(&report.architecture);
    let name = node["metadata"]["name"].clone();
    if let Some(labels) = object(&mut node["metadata"], "labels") {
        labels.insert("kubernetes.io/hostname".into(), name.clone());
        labels.insert("kubernetes.io/os".into(), "linux".into());
        labels.insert("kubernetes.io/arch".into(), architecture.into());
    }
    let Some(status) = object(&mut node, "status") else { return node };
    for list in ["capacity", "allocatable"] {
        let offered = offered(status.get(list), resources(report));
        status.insert(list.into(), offered);
    }
    let mut addresses = vec![json!({"type": "Hostname", "address": name})];
    if let Some(address) = address {
        addresses.insert(0, json!({"type": "InternalIP", "address": address.to_string()}));
    }
    status.insert("addresses".into(), addresses.into());
    status.insert("nodeInfo".into(), information(report, architecture));
    status.insert("images".into(), images(report));
    let (value, reason) = if report.runtime_ready {
        ("True", "ContainerRuntimeAnswers")
    } else {
        ("False", "ContainerRuntimeDown")
    };
    set_condition(status, RUNTIME_CONDITION, value, reason, &report.message, now);
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten();
    for condition in conditions.filter(|condition| condition["type"] == RUNTIME_CONDITION) {
        // The agent reports changes only, so that the last transition is also when it was last heard of.
        condition["lastHeartbeatTime"] = condition["lastTransitionTime"].clone();
    }
    node
}

/// The object in a field, made if it is missing or something else.
fn object<'a>(parent: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let value = parent.as_object_mut()?.entry(field).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// What is reported, and what others offer on the node beside: resources whose names have a domain.
fn offered(before: Option<&Value>, mut reported: Value) -> Value {
    let others = before.and_then(Value::as_object).into_iter().flatten();
    for (name, amount) in others.filter(|(name, _)| name.contains('/')) {
        reported[name] = amount.clone();
    }
    reported
}

fn resources(report: &NodeReport) -> Value {
    let kibibytes = |bytes: i64| format!("{}Ki", bytes.max(0) / 1024);
    let cpu = match report.cpu_millis.max(0) {
        millis if millis % 1000 == 0 => (millis / 1000).to_string(),
        millis => format!("{millis}m"),
    };
    json!({
        "cpu": cpu,
        "memory": kibibytes(report.memory_bytes),
        "ephemeral-storage": kibibytes(report.ephemeral_storage_bytes),
        "pods": report.max_pods.to_string(),
    })
}

fn information(report: &NodeReport, architecture: &str) -> Value {
    json!({
        "machineID": report.machine_id,
        "systemUUID": "",
        "bootID": report.boot_id,
        "kernelVersion": report.kernel_version,
        "osImage": report.os_image,
        "containerRuntimeVersion": report.container_runtime_version,
        "kubeletVersion": format!("{LEVEL}.{}", report.warren_version),
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture,
    })
}

/// Kubernetes uses Go's names. What is none of them is no machine's.
fn architecture(reported: &str) -> &str {
    match reported {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv6l" | "armv7l" => "arm",
        "i386" | "i686" => "386",
        known @ ("amd64" | "arm64" | "arm" | "386" | "riscv64" | "ppc64le" | "s390x" | "loong64"
        | "mips64le") => known,
        _ => "unknown",
    }
}

fn images(report: &NodeReport) -> Value {
    let mut images: Vec<_> = report.images.iter().collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    let image =
        |image: &&warren_proto::control::Image| json!({"names": image.names, "sizeBytes": image.size_bytes});
    images.iter().take(MOST_IMAGES).map(image).collect()
}

#[cfg(test)]
mod tests {
    use warren_proto::control::Image;
    use warren_vocabulary::member::MemberRole;

    use super::*;

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)));

    fn node() -> Value {
        let member = Member {
            name: "node-1".into(),
            role: MemberRole::Node,
            pod_cidr: "10.42.1.0/24".parse().expect("valid"),
            public_key: None,
            endpoint: None,
            backend: None,
            mtu: None,
            machine: None,
            id: None,
        };
        new_node(&member, "uid", "2026-01-01T00:00:00Z".parse().expect("a time"))
    }

    fn report() -> NodeReport {
        NodeReport {
            cpu_millis: 2500,
            memory_bytes: 4 << 30,
            max_pods: 110,
            architecture: "x86_64".into(),
            warren_version: "0.1.0".into(),
            internal_ip: "192.0.2.7".into(),
            hostname: "node-1".into(),
            images: vec![
                Image { names: vec!["small".into()], size_bytes: 1 },
                Image { names: vec!["large".into()], size_bytes: 2 },
            ],
            runtime_ready: true,
            ..NodeReport::default()
        }
    }

    #[test]
    fn a_report_fills_status_and_labels() {
        let now = "2026-01-01T00:00:10Z".parse().expect("a time");
        let node = next(&node(), &report(), ADDRESS, now);
        assert_eq!(node["spec"]["podCIDR"], "10.42.1.0/24");
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/arch"], "amd64");
        assert_eq!(node["status"]["capacity"]["cpu"], "2500m");
        assert_eq!(node["status"]["allocatable"]["memory"], "4194304Ki");
        assert_eq!(node["status"]["addresses"][0], json!({"type": "InternalIP", "address": "192.0.2.7"}));
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.34.0+warren.0.1.0");
        assert_eq!(node["status"]["images"][0]["names"][0], "large");
        let condition = &node["status"]["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"]), (&json!(RUNTIME_CONDITION), &json!("True")));
    }

    #[test]
    fn a_node_is_called_what_it_joined_as_whatever_it_says() {
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().expect("a time");
        let lie = NodeReport { hostname: "node-2".into(), architecture: "node-2".into(), ..report() };
        let mut before = node();
        before["metadata"]["labels"]["topology.kubernetes.io/zone"] = "a".into();
        // A user wrote it into the label by hand.
        before["metadata"]["labels"]["kubernetes.io/hostname"] = "node-3".into();
        let node = next(&before, &lie, None, now);
        let labels = &node["metadata"]["labels"];
        assert_eq!(labels["kubernetes.io/hostname"], "node-1");
        assert_eq!(labels["topology.kubernetes.io/zone"], "a");
        assert_eq!(labels["kubernetes.io/arch"], "unknown");
        assert_eq!(node["status"]["addresses"], json!([{"type": "Hostname", "address": "node-1"}]));
    }

    #[test]
    fn a_repeated_report_changes_nothing_and_other_conditions_stay() {
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().expect("a time");
        let mut first = next(&node(), &report(), ADDRESS, now);
        first["status"]["conditions"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"type": "Ready", "status": "True"}));
        first["metadata"]["labels"]["zone"] = "a".into();
        // What others offer on the node stays.
        for list in ["capacity", "allocatable"] {
            first["status"][list]["example.com/fakecpu"] = "1000".into();
        }
        let later = now + jiff::SignedDuration::from_hours(1);
        assert_eq!(first, next(&first, &report(), ADDRESS, later));
        let down = NodeReport { runtime_ready: false, message: "docker does not answer".into(), ..report() };
        let node = next(&first, &down, ADDRESS, later);
        assert_eq!(node["status"]["conditions"][0]["status"], "False");
        assert_eq!(node["status"]["conditions"][0]["message"], "docker does not answer");
        assert_eq!(node["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T01:00:10Z");
        assert_eq!(node["status"]["conditions"][1]["type"], "Ready");
    }
}
