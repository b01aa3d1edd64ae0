//! What the controller wants of this member's network, checked once and turned into vocabulary.
//!
//! A bad item is a [`Problem`], not a failure: everything else still comes into force.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
};

use ipnet::Ipv4Net;
use warren_proto::{
    control::{self, feed_item::Item},
    vocabulary::{NodeName, PodCidr, WireGuardKey},
};

/// The longest `timeoutSeconds` that Kubernetes admits: a day.
const LONGEST_AFFINITY: u32 = 86_400;

/// A service's namespace and name.
pub type ServiceName = (String, String);

/// The whole desired state of a member's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The member's own place in the overlay; `None` until the controller has assigned one.
    pub network: Option<Network>,
    /// Every other member, by name.
    pub peers: BTreeMap<NodeName, Peer>,
    /// Every service, by namespace and name.
    pub services: BTreeMap<ServiceName, Service>,
}

/// The member's own place in the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// All members' pods.
    pub cluster_cidr: Ipv4Net,
    /// This member's pods.
    pub pod_cidr: PodCidr,
    /// All service addresses.
    pub service_cidr: Ipv4Net,
    /// The member's own overlay address.
    pub address: Ipv4Addr,
    /// Where DNS answers, on every member.
    pub dns_address: Ipv4Addr,
    /// The cluster's DNS domain, without dots at the ends.
    pub domain: String,
}

/// Another member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub key: WireGuardKey,
    /// Where to dial it; `None` while unknown.
    pub endpoint: Option<SocketAddr>,
    /// Its pods.
    pub pod_cidr: PodCidr,
    /// Its overlay address.
    pub address: Ipv4Addr,
}

/// A service and where it leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its address; `None` for headless services.
    pub address: Option<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Ready pods, for headless answers.
    pub endpoints: Vec<NamedEndpoint>,
    /// The target of an ExternalName service, without a dot at the end.
    pub external_name: Option<String>,
    /// For how many seconds without a new connection a client keeps its endpoint; `None` when it does not.
    pub affinity_seconds: Option<u32>,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Empty for an unnamed port.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port at the service's address.
    pub port: u16,
    /// Where connections go.
    pub targets: Vec<Target>,
}

/// A pod's address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The pod.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// A pod behind a headless service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedEndpoint {
    /// The pod.
    pub address: Ipv4Addr,
    /// Its host name, or empty.
    pub hostname: String,
}

/// A transport protocol of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
    /// The protocol with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.number() == number)
    }
    /// Lower case, as in SRV names.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// An item that cannot be put in force, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The item's key in the feed.
    pub item: String,
    /// What is wrong with which field.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.item, self.message)
    }
}

impl World {
    /// Reads a feed's items; what cannot be used is returned as problems.
    pub fn read<'i>(items: impl IntoIterator<Item = (&'i String, &'i Item)>) -> (Self, Vec<Problem>) {
        let (mut world, mut problems) = (Self::default(), Vec::new());
        for (key, item) in items {
            let (part, unusable) = read_item(key, item);
            problems.extend(unusable);
            world.take_in(part);
        }
        (world, problems)
    }

    pub(crate) fn take_in(&mut self, part: Option<Part>) {
        match part {
            Some(Part::Network(network)) => self.network = Some(network),
            Some(Part::Peer(name, peer)) => _ = self.peers.insert(name, peer),
            Some(Part::Service(name, service)) => _ = self.services.insert(name, service),
            None => {}
        }
    }
}

/// What an item of the feed says.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Network(Network),
    Peer(NodeName, Peer),
    Service(ServiceName, Service),
}

/// Reads one item; what of it cannot be used is returned as problems.
pub(crate) fn read_item(key: &str, item: &Item) -> (Option<Part>, Vec<Problem>) {
    let mut skipped = Vec::new();
    let read = match item {
        Item::Network(network) => network_of(network).map(|network| Some(Part::Network(network))),
        Item::Peer(peer) => peer_of(peer).map(|(name, peer)| Some(Part::Peer(name, peer))),
        Item::Service(service) => service_of(service, &mut skipped).map(|read| {
            let name = (service.namespace.clone(), service.name.clone());
            Some(Part::Service(name, read))
        }),
        // Other views' items are not ours to judge.
        Item::Pod(_) | Item::HttpRoute(_) | Item::TlsCertificate(_) | Item::BasicAuthentication(_) => {
            Ok(None)
        }
    };
    let (part, error) = match read {
        Ok(part) => (part, None),
        Err(message) => (None, Some(message)),
    };
    let messages = error.into_iter().chain(skipped);
    (part, messages.map(|message| Problem { item: key.to_owned(), message }).collect())
}

fn field<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error| format!("{name}: {text:?}: {error}"))
}

fn port_field(name: &str, port: u32) -> Result<u16, String> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{name}: {port} is not between 1 and 65535")),
    }
}

fn network_of(network: &control::NetworkConfig) -> Result<Network, String> {
    let read = Network {
        cluster_cidr: field::<Ipv4Net>("cluster_cidr", &network.cluster_cidr)?.trunc(),
        pod_cidr: field("pod_cidr", &network.pod_cidr)?,
        service_cidr: field::<Ipv4Net>("service_cidr", &network.service_cidr)?.trunc(),
        address: field("address", &network.address)?,
        dns_address: field("dns_address", &network.dns_address)?,
        domain: network.cluster_domain.trim_matches('.').to_ascii_lowercase(),
    };
    if read.domain.is_empty() {
        return Err("cluster_domain: must not be empty".into());
    }
    if !read.cluster_cidr.contains(&read.pod_cidr.network()) {
        return Err(format!("pod_cidr: {} is outside of cluster_cidr {}", read.pod_cidr, read.cluster_cidr));
    }
    if !read.pod_cidr.network().contains(&read.address) {
        return Err(format!("address: {} is outside of pod_cidr {}", read.address, read.pod_cidr));
    }
    Ok(read)
}

fn peer_of(peer: &control::Peer) -> Result<(NodeName, Peer), String> {
    let endpoint = match peer.endpoint.as_str() {
        "" => None,
        text => Some(field("endpoint", text)?),
    };
    let read = Peer {
        key: field("public_key", &peer.public_key)?,
        endpoint,
        pod_cidr: field("pod_cidr", &peer.pod_cidr)?,
        address: field("address", &peer.address)?,
    };
    Ok((field("name", &peer.name)?, read))
}

/// What of a service cannot be used is skipped, and said.
fn service_of(service: &control::Service, skipped: &mut Vec<String>) -> Result<Service, String> {
    let address = match service.address.as_str() {
        "" => None,
        text => Some(field("address", text)?),
    };
    let ports = service.ports.iter().filter_map(|port| {
        let read = port_of(port, skipped);
        read.map_err(|message| skipped.push(message)).ok()
    });
    let ports = ports.collect();
    let endpoints = service.endpoints.iter().filter_map(|endpoint| {
        let address = endpoint_address("endpoints.address", &endpoint.address);
        let address = address.map_err(|message| skipped.push(message)).ok()?;
        Some(NamedEndpoint { address, hostname: endpoint.hostname.to_ascii_lowercase() })
    });
    let endpoints = endpoints.collect();
    let external_name = match service.external_name.trim_end_matches('.') {
        "" => None,
        name => Some(name.to_ascii_lowercase()),
    };
    let affinity = service.affinity_seconds;
    let affinity_seconds = (affinity > 0).then(|| affinity.min(LONGEST_AFFINITY));
    Ok(Service { address, ports, endpoints, external_name, affinity_seconds })
}

fn port_of(port: &control::ServicePort, skipped: &mut Vec<String>) -> Result<Port, String> {
    let protocol = match port.protocol.as_str() {
        "TCP" | "" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        other => return Err(format!("ports.protocol: {other:?} is neither TCP nor UDP")),
    };
    let number = port_field("ports.port", port.port)?;
    let targets = port.endpoints.iter().filter_map(|endpoint| {
        let target = target_of(endpoint);
        target.map_err(|message| skipped.push(message)).ok()
    });
    let targets = targets.collect();
    Ok(Port { name: port.name.to_ascii_lowercase(), protocol, port: number, targets })
}

fn target_of(endpoint: &control::Endpoint) -> Result<Target, String> {
    Ok(Target {
        address: endpoint_address("ports.endpoints.address", &endpoint.address)?,
        port: port_field("ports.endpoints.port", endpoint.port)?,
    })
}

/// Where a service may lead: Kubernetes refuses addresses that mean something else on every machine, since a service
/// would open what listens there to all. They may have been stored before that was checked.
fn endpoint_address(name: &str, text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = field(name, text)?;
    let special = [
        (address.octets()[0] == 0, "unspecified"),
        (address.is_loopback(), "a loopback address"),
        (address.is_link_local(), "a link-local address"),
        (address.is_multicast(), "a multicast address"),
        (address.is_broadcast(), "the broadcast address"),
    ];
    match special.into_iter().find(|(is, _)| *is) {
        Some((_, what)) => Err(format!("{name}: {address} is {what}; it is left out")),
        None => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> control::NetworkConfig {
        control::NetworkConfig {
            cluster_cidr: "10.42.0.0/16".into(),
            pod_cidr: "10.42.1.0/24".into(),
            service_cidr: "10.43.0.0/16".into(),
            address: "10.42.1.1".into(),
            dns_address: "10.43.0.10".into(),
            cluster_domain: "cluster.local".into(),
        }
    }

    #[test]
    fn a_bad_item_is_named_and_the_rest_is_read() {
        let peer = control::Peer { name: "b".into(), public_key: "short".into(), ..control::Peer::default() };
        let items = BTreeMap::from([
            ("network".to_owned(), Item::Network(config())),
            ("peer/b".to_owned(), Item::Peer(peer)),
        ]);
        let (world, problems) = World::read(&items);
        assert!(world.network.is_some());
        assert_eq!(problems.len(), 1);
        let text = problems[0].to_string();
        assert!(text.starts_with("peer/b: public_key: \"short\": WireGuard key"), "{text}");
    }

    #[test]
    fn a_place_outside_of_the_cluster_is_refused() {
        let outside = control::NetworkConfig { pod_cidr: "10.99.1.0/24".into(), ..config() };
        let items = BTreeMap::from([("network".to_owned(), Item::Network(outside))]);
        let (world, problems) = World::read(&items);
        assert_eq!(world.network, None);
        assert!(problems[0].message.starts_with("pod_cidr: 10.99.1.0/24 is outside"), "{problems:?}");
    }

    #[test]
    fn ports_outside_of_the_range_are_refused() {
        for port in [0, 65_536, u32::MAX] {
            let port = control::ServicePort { port, protocol: "TCP".into(), ..Default::default() };
            assert!(port_of(&port, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn what_of_a_service_cannot_be_used_is_left_out_and_named() {
        let special = [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.2.3",
            "255.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "nowhere",
        ];
        let endpoint =
            |address: &str, port| control::Endpoint { address: address.into(), port, ..Default::default() };
        let port = |port, protocol: &str, endpoints| control::ServicePort {
            port,
            protocol: protocol.into(),
            endpoints,
            ..Default::default()
        };
        let mut endpoints: Vec<_> = special.iter().map(|address| endpoint(address, 80)).collect();
        endpoints.extend([
            endpoint("10.42.1.2", 8080),
            endpoint("10.42.1.3", 0),
            endpoint("10.42.1.4", 70_000),
        ]);
        let named = special.iter().chain(&["10.42.1.2", "8.8.8.8"]);
        let named =
            named.map(|address| control::NamedEndpoint { address: (*address).into(), ..Default::default() });
        let service = control::Service {
            namespace: "default".into(),
            name: "web".into(),
            ports: vec![port(80, "TCP", endpoints), port(0, "TCP", vec![]), port(81, "SCTP", vec![])],
            endpoints: named.collect(),
            affinity_seconds: u32::MAX,
            ..Default::default()
        };
        let items = BTreeMap::from([("service/default/web".to_owned(), Item::Service(service))]);
        let (world, problems) = World::read(&items);
        let read = world.services.values().next().expect("the rest is read");
        assert_eq!(read.ports.len(), 1);
        let target = Target { address: Ipv4Addr::new(10, 42, 1, 2), port: 8080 };
        assert_eq!(read.ports[0].targets, [target]);
        let named: Vec<_> = read.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(named, ["10.42.1.2", "8.8.8.8"]);
        assert_eq!(read.affinity_seconds, Some(86_400));
        assert_eq!(problems.len(), 2 * special.len() + 4, "{problems:#?}");
        let text = "service/default/web: ports.endpoints.address: 169.254.169.254 is a link-local address; it is left out";
        assert!(problems.iter().any(|problem| problem.to_string() == text), "{problems:#?}");
    }
}
