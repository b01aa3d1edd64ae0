//! The cluster's names, after the Kubernetes DNS specification: services, headless services and their pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::world::{Network, Service, ServiceName};

/// What a name says. Names end with a dot and are lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// A port at a host.
    Srv {
        /// The port.
        port: u16,
        /// The host.
        target: String,
    },
    /// The name of an address.
    Ptr(String),
    /// Another name for the same.
    Cname(String),
    /// Text.
    Txt(String),
}

/// All names. A name that only has names below it has no data, but exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The zone's own name.
    pub origin: String,
    /// Data by name.
    pub names: BTreeMap<String, BTreeSet<Data>>,
    /// How often each of them is said; `None` says only that the name exists. What nobody says any more is gone.
    said: BTreeMap<String, BTreeMap<Option<Data>, usize>>,
    /// Whose addresses have reverse names here. A service may lead anywhere, but it names nobody else's addresses.
    networks: [Ipv4Net; 2],
}

/// The longest name, with the dot at its end, and the longest label.
const LONGEST_NAME: usize = 254;
const LONGEST_LABEL: usize = 63;

/// Whether a name can be asked for; some that are made of users' names are too long for that.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte);
        (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(known)
    };
    name.len() <= LONGEST_NAME && name.strip_suffix('.').unwrap_or(name).split('.').all(is_label)
}

/// The zone of a cluster.
pub fn plan(network: &Network, services: &BTreeMap<ServiceName, Service>) -> Zone {
    let origin = format!("{}.", network.domain);
    let networks = [network.cluster_cidr, network.service_cidr];
    let (names, said) = (BTreeMap::new(), BTreeMap::new());
    let mut zone = Zone { origin: origin.clone(), names, said, networks };
    zone.say((origin.clone(), None));
    zone.say((format!("svc.{origin}"), None));
    zone.say((format!("dns-version.{origin}"), Some(Data::Txt("1.1.0".to_owned()))));
    for (name, service) in services {
        zone.sayings(name, service).into_iter().for_each(|saying| zone.say(saying));
    }
    zone
}

/// A name, and what is said of it: that it exists, or its data.
type Saying = (String, Option<Data>);

/// The name under which an address is asked for in reverse.
pub fn reverse_name(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
}

/// The address that a reverse name asks for; `None` for other names and for whole networks.
pub fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut labels = name.strip_suffix(".in-addr.arpa.")?.split('.');
    for octet in octets.iter_mut().rev() {
        *octet = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then(|| octets.into())
}

impl Zone {
    /// Puts a service in the place of what it was. Returns the names that may say something else now.
    pub fn replace(
        &mut self,
        name: &ServiceName,
        before: Option<&Service>,
        after: Option<&Service>,
    ) -> BTreeSet<String> {
        let sayings = |service: Option<&Service>| service.map(|service| self.sayings(name, service));
        let (mut gone, mut new) = (BTreeMap::new(), Vec::new());
        for saying in sayings(before).unwrap_or_default() {
            *gone.entry(saying).or_insert(0usize) += 1;
        }
        for saying in sayings(after).unwrap_or_default() {
            match gone.get_mut(&saying).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => new.push(saying),
            }
        }
        gone.retain(|_, count| *count > 0);
        let names = gone.keys().chain(&new).map(|(name, _)| name.clone()).collect();
        new.into_iter().for_each(|saying| self.say(saying));
        gone.into_iter().for_each(|(saying, count)| self.unsay(&saying, count));
        names
    }

    fn say(&mut self, (name, data): Saying) {
        *self.said.entry(name.clone()).or_default().entry(data.clone()).or_default() += 1;
        self.names.entry(name).or_default().extend(data);
    }

    fn unsay(&mut self, (name, data): &Saying, count: usize) {
        let Some(said) = self.said.get_mut(name) else { return };
        let Some(times) = said.get_mut(data) else { return };
        *times = times.saturating_sub(count);
        if *times > 0 {
            return;
        }
        said.remove(data);
        if said.is_empty() {
            self.said.remove(name);
            self.names.remove(name);
        } else if let (Some(data), Some(held)) = (data, self.names.get_mut(name)) {
            held.remove(data);
        }
    }

    /// All that a service says.
    fn sayings(&self, (namespace, name): &ServiceName, service: &Service) -> Vec<Saying> {
        let base = format!("{name}.{namespace}.svc.{}", self.origin).to_ascii_lowercase();
        let mut sayings = Sayings { zone: self, all: Vec::new() };
        sayings.add_service(&base, service);
        sayings.all
    }
}

/// What a service says, while it is put together.
struct Sayings<'z> {
    zone: &'z Zone,
    all: Vec<Saying>,
}

impl Sayings<'_> {
    fn add(&mut self, name: String, data: Data) {
        let target = match &data {
            Data::Srv { target, .. } | Data::Ptr(target) | Data::Cname(target) => Some(target),
            Data::A(_) | Data::Txt(_) => None,
        };
        if !is_name(&name) || target.is_some_and(|target| !is_name(target)) {
            return;
        }
        let origin = &self.zone.origin;
        if name.ends_with(origin) {
            // Every name between this one and the origin exists, if only by what is below it.
            let mut parent = name.as_str();
            while let Some((_, above)) = parent.split_once('.') {
                if above.len() <= origin.len() {
                    break;
                }
                self.all.push((above.to_owned(), None));
                parent = above;
            }
        }
        self.all.push((name, Some(data)));
    }

    fn add_reverse(&mut self, address: Ipv4Addr, name: &str) {
        if self.zone.networks.iter().any(|network| network.contains(&address)) {
            self.add(reverse_name(address), Data::Ptr(name.to_owned()));
        }
    }

    fn add_service(&mut self, base: &str, service: &Service) {
        if let Some(target) = &service.external_name {
            self.add(base.to_owned(), Data::Cname(format!("{target}.")));
        } else if let Some(address) = service.address {
            self.add(base.to_owned(), Data::A(address));
            self.add_reverse(address, base);
            for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
                let name = format!("_{}._{}.{base}", port.name, port.protocol.label());
                self.add(name, Data::Srv { port: port.port, target: base.to_owned() });
            }
        } else {
            self.add_headless(base, service);
        }
    }

    fn add_headless(&mut self, base: &str, service: &Service) {
        if is_name(base) {
            self.all.push((base.to_owned(), None));
        }
        let mut hosts = BTreeMap::new();
        for endpoint in &service.endpoints {
            let label = match endpoint.hostname.as_str() {
                "" => endpoint.address.to_string().replace('.', "-"),
                hostname => hostname.to_owned(),
            };
            let host = format!("{label}.{base}");
            self.add(base.to_owned(), Data::A(endpoint.address));
            self.add(host.clone(), Data::A(endpoint.address));
            if !endpoint.hostname.is_empty() {
                self.add_reverse(endpoint.address, &host);
            }
            hosts.insert(endpoint.address, host);
        }
        for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
            let name = format!("_{}._{}.{base}", port.name, port.protocol.label());
            for target in &port.targets {
                if let Some(host) = hosts.get(&target.address) {
                    self.add(name.clone(), Data::Srv { port: target.port, target: host.clone() });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{NamedEndpoint, Port, Protocol, Target};
    use proptest::prelude::*;

    fn network() -> Network {
        Network {
            cluster_cidr: "10.42.0.0/16".parse().expect("net"),
            pod_cidr: "10.42.1.0/24".parse().expect("cidr"),
            service_cidr: "10.43.0.0/16".parse().expect("net"),
            address: Ipv4Addr::new(10, 42, 1, 1),
            dns_address: Ipv4Addr::new(10, 43, 0, 10),
            domain: "cluster.local".into(),
        }
    }

    fn zone_of(service: Service) -> Zone {
        plan(&network(), &BTreeMap::from([(("shop".to_owned(), "web".to_owned()), service)]))
    }

    fn port(targets: Vec<Target>) -> Port {
        Port { name: "http".into(), protocol: Protocol::Tcp, port: 80, targets }
    }

    fn data(zone: &Zone, name: &str) -> Vec<Data> {
        zone.names.get(name).unwrap_or_else(|| panic!("{name} does not exist")).iter().cloned().collect()
    }

    #[test]
    fn a_service_has_an_address_a_port_and_a_reverse_name() {
        let address = Ipv4Addr::new(10, 43, 7, 9);
        let zone =
            zone_of(Service { address: Some(address), ports: vec![port(vec![])], ..Service::default() });
        let base = "web.shop.svc.cluster.local.";
        assert_eq!(data(&zone, base), [Data::A(address)]);
        assert_eq!(data(&zone, "9.7.43.10.in-addr.arpa."), [Data::Ptr(base.into())]);
        assert_eq!(
            data(&zone, "_http._tcp.web.shop.svc.cluster.local."),
            [Data::Srv { port: 80, target: base.into() }]
        );
        // What is only above a name exists without data; what is not there at all does not.
        assert_eq!(data(&zone, "shop.svc.cluster.local."), []);
        assert_eq!(data(&zone, "_tcp.web.shop.svc.cluster.local."), []);
        assert!(!zone.names.contains_key("example.com.shop.svc.cluster.local."));
        assert!(!zone.names.contains_key("local."));
    }

    #[test]
    fn a_headless_service_is_all_its_ready_pods() {
        let (a, b) = (Ipv4Addr::new(10, 42, 1, 2), Ipv4Addr::new(10, 42, 2, 2));
        let endpoints = vec![
            NamedEndpoint { address: a, hostname: "db-0".into() },
            NamedEndpoint { address: b, hostname: String::new() },
        ];
        let targets = [a, b].map(|address| Target { address, port: 5432 }).to_vec();
        let zone = zone_of(Service { endpoints, ports: vec![port(targets)], ..Service::default() });
        assert_eq!(data(&zone, "web.shop.svc.cluster.local."), [Data::A(a), Data::A(b)]);
        assert_eq!(data(&zone, "db-0.web.shop.svc.cluster.local."), [Data::A(a)]);
        assert_eq!(data(&zone, "10-42-2-2.web.shop.svc.cluster.local."), [Data::A(b)]);
        assert_eq!(
            data(&zone, "2.1.42.10.in-addr.arpa."),
            [Data::Ptr("db-0.web.shop.svc.cluster.local.".into())]
        );
        let srv = data(&zone, "_http._tcp.web.shop.svc.cluster.local.");
        assert_eq!(srv.len(), 2);
        assert!(srv.contains(&Data::Srv { port: 5432, target: "db-0.web.shop.svc.cluster.local.".into() }));
    }

    #[test]
    fn a_headless_service_without_pods_exists() {
        assert_eq!(data(&zone_of(Service::default()), "web.shop.svc.cluster.local."), []);
    }

    #[test]
    fn only_the_clusters_own_addresses_have_reverse_names() {
        let (inside, outside) = (Ipv4Addr::new(10, 42, 1, 2), Ipv4Addr::new(8, 8, 8, 8));
        let endpoints = [inside, outside].map(|address| NamedEndpoint { address, hostname: "db".into() });
        let zone = zone_of(Service { endpoints: endpoints.to_vec(), ..Service::default() });
        assert_eq!(data(&zone, "db.web.shop.svc.cluster.local."), [Data::A(outside), Data::A(inside)]);
        assert!(zone.names.contains_key("2.1.42.10.in-addr.arpa."));
        let reverse: Vec<_> = zone.names.keys().filter(|name| name.ends_with(".arpa.")).collect();
        assert_eq!(reverse, ["2.1.42.10.in-addr.arpa."]);
        let zone = zone_of(Service { address: Some(outside), ..Service::default() });
        assert!(!zone.names.keys().any(|name| name.ends_with(".arpa.")));
    }

    #[test]
    fn names_that_nobody_can_ask_for_are_left_out() {
        let long = "x".repeat(64);
        let endpoint = NamedEndpoint { address: Ipv4Addr::new(10, 42, 1, 2), hostname: long.clone() };
        let port = Port { name: long.clone(), ..port(vec![Target { address: endpoint.address, port: 1 }]) };
        let endpoints = vec![endpoint];
        let zone = zone_of(Service { endpoints, ports: vec![port.clone()], ..Service::default() });
        assert!(zone.names.keys().all(|name| is_name(name)));
        assert_eq!(data(&zone, "web.shop.svc.cluster.local.").len(), 1);
        for target in [format!("{long}.com"), "a.".repeat(127), "a..b".into(), ".".into()] {
            let zone = zone_of(Service { external_name: Some(target), ..Service::default() });
            assert!(!zone.names.contains_key("web.shop.svc.cluster.local."));
        }
        let services = BTreeMap::from([((long.clone(), long), Service::default())]);
        assert!(plan(&network(), &services).names.keys().all(|name| is_name(name)));
    }

    #[test]
    fn an_external_name_is_an_alias() {
        let zone = zone_of(Service { external_name: Some("db.example.com".into()), ..Service::default() });
        assert_eq!(data(&zone, "web.shop.svc.cluster.local."), [Data::Cname("db.example.com.".into())]);
    }

    proptest! {
        #[test]
        fn reverse_names_read_back(n: u32) {
            let address = Ipv4Addr::from(n);
            prop_assert_eq!(reverse_address(&reverse_name(address)), Some(address));
        }
        #[test]
        fn reading_reverse_names_never_panics(name in ".*") {
            let _ = reverse_address(&name);
            let _ = reverse_address(&format!("{name}.in-addr.arpa."));
        }
    }
}
