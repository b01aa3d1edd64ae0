//! netd's view: the member's own place, its peers, and every service with where it leads.

use k8s_openapi::api::core::v1 as core;
use warren_proto::control::{FeedItem, NetworkConfig, Peer, Service, ServicePort, feed_item::Item};
use warren_vocabulary::{ClusterConfig, member::Member};

use crate::{endpoints::Slices, view};

const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// The item that only this member gets.
pub(crate) fn config(member: &Member, config: &ClusterConfig) -> FeedItem {
    let network = NetworkConfig {
        cluster_cidr: config.cluster_cidr.to_string(),
        pod_cidr: member.pod_cidr.to_string(),
        service_cidr: config.service_cidr.to_string(),
        address: member.pod_cidr.member_address().to_string(),
        dns_address: config.dns_address.to_string(),
        cluster_domain: config.domain.clone(),
    };
    view::item("network".into(), Item::Network(network))
}

/// The key of a member's peer item; hidden from the member itself.
pub fn peer_key(name: &str) -> String {
    format!("peer/{name}")
}

/// The key of a service's item.
pub(crate) fn service_key(namespace: &str, name: &str) -> String {
    format!("service/{namespace}/{name}")
}

/// A member as the others see it. Without a public key it is no peer yet.
pub(crate) fn peer(member: &Member) -> Option<FeedItem> {
    let peer = Peer {
        name: member.name.clone(),
        public_key: member.public_key.clone()?,
        endpoint: member.endpoint.clone().unwrap_or_default(),
        pod_cidr: member.pod_cidr.to_string(),
        address: member.pod_cidr.member_address().to_string(),
    };
    Some(view::item(peer_key(&member.name), Item::Peer(peer)))
}

/// `None` while the service has no address yet.
pub(crate) fn service(service: &core::Service, slices: &Slices) -> Option<FeedItem> {
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    let spec = service.spec.as_ref()?;
    let mut compiled = Service { namespace: namespace.clone(), name: name.clone(), ..Service::default() };
    if spec.type_.as_deref() == Some("ExternalName") {
        compiled.external_name = spec.external_name.clone()?;
    } else {
        match spec.cluster_ip.as_deref() {
            None | Some("") => return None,
            Some("None") => compiled.endpoints = slices.named(&namespace, &name),
            Some(address) => compiled.address = address.to_owned(),
        }
        // Others (SCTP) are stored with a warning; they must not take the service's other ports along.
        let carried =
            |port: &&core::ServicePort| matches!(port.protocol.as_deref(), None | Some("" | "TCP" | "UDP"));
        let ports = spec.ports.iter().flatten().filter(carried);
        compiled.ports = ports.map(|port| compile_port(&namespace, &name, port, slices)).collect();
        compiled.affinity_seconds = affinity(spec);
    }
    Some(view::item(service_key(&namespace, &name), Item::Service(compiled)))
}

fn compile_port(namespace: &str, name: &str, port: &core::ServicePort, slices: &Slices) -> ServicePort {
    ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        port: u32::try_from(port.port).unwrap_or_default(),
        endpoints: slices.of_port(namespace, name, port),
    }
}

fn affinity(spec: &core::ServiceSpec) -> u32 {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return 0;
    }
    let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| client.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS);
    u32::try_from(seconds).unwrap_or_default()
}
