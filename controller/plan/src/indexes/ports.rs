//! Ports of the machine that pods take for themselves. Two pods that want the same one cannot share a node.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};

/// A port of the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    number: i32,
    protocol: Arc<str>,
    /// One of the machine's addresses, or all of them.
    address: Option<Arc<str>>,
}

/// The ports that a pod takes, each once, in their order. In the network of its node, a pod's ports are the node's.
pub(crate) fn of(spec: &PodSpec) -> Vec<HostPort> {
    let in_host = spec.host_network == Some(true);
    let initial = spec.init_containers.iter().flatten();
    let lasting = initial.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(lasting).flat_map(|container| container.ports.iter().flatten());
    let mut ports: Vec<_> = ports.filter_map(|port| host_port(port, in_host)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn host_port(port: &ContainerPort, in_host: bool) -> Option<HostPort> {
    let asked = port.host_port.filter(|number| *number > 0);
    let number = asked.or_else(|| in_host.then_some(port.container_port).filter(|number| *number > 0))?;
    let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
    let address = port.host_ip.as_deref().filter(|address| !["", "0.0.0.0", "::"].contains(address));
    Some(HostPort { number, protocol: protocol.into(), address: address.map(Arc::from) })
}

/// How many pods of a node have each port.
#[derive(Debug, Clone, Default)]
pub(crate) struct TakenPorts(BTreeMap<HostPort, usize>);

impl TakenPorts {
    pub(crate) fn take(&mut self, ports: &[HostPort]) {
        for port in ports {
            *self.0.entry(port.clone()).or_default() += 1;
        }
    }

    pub(crate) fn release(&mut self, ports: &[HostPort]) {
        ports.iter().for_each(|port| super::count_down(&mut self.0, port));
    }

    /// Whether one of the wanted ports is taken: by its own address, or by all addresses on either side.
    pub(crate) fn clash(&self, wanted: &[HostPort]) -> bool {
        wanted.iter().any(|wanted| {
            let first = HostPort { address: None, ..wanted.clone() };
            let same = self.0.range((Bound::Included(first), Bound::Unbounded)).map(|(port, _)| port);
            same.take_while(|port| port.number == wanted.number && port.protocol == wanted.protocol).any(
                |port| port.address.is_none() || wanted.address.is_none() || port.address == wanted.address,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ports(ports: Value) -> Vec<HostPort> {
        let spec = json!({"containers": [{"name": "c", "ports": ports}]});
        of(&serde_json::from_value(spec).expect("a pod's spec"))
    }

    #[test]
    fn ports_clash_by_number_protocol_and_address() {
        let port = |address: &str, number: i32, protocol: &str| json!([{"containerPort": 80, "hostPort": number, "hostIP": address, "protocol": protocol}]);
        let cases = [
            (port("127.0.0.1", 1, "TCP"), port("192.0.2.1", 1, "TCP"), false),
            (port("192.0.2.1", 1, "TCP"), port("192.0.2.1", 1, "UDP"), false),
            (port("192.0.2.1", 1, "TCP"), port("192.0.2.1", 2, "TCP"), false),
            (port("192.0.2.1", 1, "TCP"), port("192.0.2.1", 1, "TCP"), true),
            (port("", 1, "TCP"), port("192.0.2.1", 1, "TCP"), true),
            (port("192.0.2.1", 1, "TCP"), port("0.0.0.0", 1, "TCP"), true),
            (port("", 1, "TCP"), json!([{"containerPort": 1}]), false),
        ];
        for (one, other, clash) in cases {
            let mut taken = TakenPorts::default();
            taken.take(&ports(one.clone()));
            assert_eq!(taken.clash(&ports(other.clone())), clash, "{one} {other}");
            taken.take(&ports(one.clone()));
            taken.release(&ports(one.clone()));
            assert_eq!(taken.clash(&ports(other.clone())), clash, "{one} twice, {other}");
            taken.release(&ports(one));
            assert!(!taken.clash(&ports(other)), "what was taken can be released");
        }
    }

    #[test]
    fn in_the_network_of_the_node_all_ports_are_its_own() {
        let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}],
            "initContainers": [
                {"name": "once", "ports": [{"containerPort": 81, "hostPort": 81}]},
                {"name": "on", "restartPolicy": "Always", "ports": [{"containerPort": 82, "hostPort": 83}]}]});
        let numbers: Vec<_> = of(&serde_json::from_value(spec).expect("a pod's spec"))
            .into_iter()
            .map(|port| port.number)
            .collect();
        assert_eq!(numbers, [80, 83]);
    }
}
