//! What users may write, to its extremes, through all that netd makes of it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use warren_proto::control::{self, feed_item::Item};

use super::answers::Answers;
use crate::{
    plan::{
        services::{self, Tables},
        zone,
    },
    world::DesiredNetwork,
};

fn network() -> control::NetworkConfig {
    control::NetworkConfig {
        cluster_cidr: "10.42.0.0/16".into(),
        pod_cidr: "10.42.1.0/24".into(),
        service_cidr: "10.43.0.0/16".into(),
        address: "10.42.1.1".into(),
        dns_address: "10.43.0.10".into(),
        cluster_domain: "cluster.local".into(),
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9-]{0,20}",
        "[a-z]{64,70}",
        "([a-z]{1,63}\\.){1,8}",
        "[a-z]{253}",
        ".{0,30}",
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("*".to_owned()),
        Just("\\".to_owned()),
    ]
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u32>().prop_map(|n| std::net::Ipv4Addr::from(n).to_string()),
        ".{0,20}",
        Just(String::new())
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(65_535), Just(65_536), Just(u32::MAX), Just(86_400), any::<u32>()]
}

fn service() -> impl Strategy<Value = control::Service> {
    let endpoint = (address(), number()).prop_map(|(address, port)| control::Endpoint {
        address,
        port,
        node: String::new(),
    });
    let port = (name(), number(), proptest::collection::vec(endpoint, 0..6), any::<bool>()).prop_map(
        |(name, port, endpoints, udp)| {
            let protocol = if udp { "UDP" } else { "TCP" }.to_owned();
            control::ServicePort { name, protocol, port, endpoints }
        },
    );
    let named = (address(), name()).prop_map(|(address, hostname)| control::NamedEndpoint {
        address,
        hostname,
        node: String::new(),
    });
    let lists = (proptest::collection::vec(port, 0..4), proptest::collection::vec(named, 0..4));
    (name(), name(), address(), lists, name(), number()).prop_map(
        |(namespace, name, address, (ports, endpoints), external_name, affinity_seconds)| control::Service {
            namespace,
            name,
            address,
            ports,
            endpoints,
            external_name,
            affinity_seconds,
        },
    )
}

fn world_of(services: Vec<control::Service>) -> DesiredNetwork {
    let mut items = BTreeMap::from([("network".to_owned(), Item::Network(network()))]);
    let services = services.into_iter().enumerate();
    items.extend(services.map(|(number, service)| (format!("service/{number}"), Item::Service(service))));
    DesiredNetwork::read(&items).0
}

/// Everything that is planned of a world.
fn plan(world: &DesiredNetwork, tables: &mut Tables) {
    let network = world.network.as_ref().expect("a network");
    let desired = services::desired(world.services.values(), tables, [], network.dns_address);
    for part in services::diff(tables, &desired).parts(2_000) {
        tables.apply(&part);
    }
    assert!(services::diff(tables, &desired).is_empty());
    let zone = zone::plan(network, &world.services);
    let answers = Answers::new(&zone, network);
    assert_eq!(answers.len(), zone.names.len(), "a planned name cannot be served");
}

proptest! {
    #[test]
    fn whatever_is_stored_is_planned(
        first in proptest::collection::vec(service(), 0..4),
        second in proptest::collection::vec(service(), 0..4),
    ) {
        let mut tables = Tables::default();
        for services in [first, second] {
            plan(&world_of(services), &mut tables);
        }
    }
}

#[test]
fn thousands_of_endpoints_and_the_largest_numbers_are_planned() {
    let addresses: Vec<_> =
        (0..6_000u32).map(|n| std::net::Ipv4Addr::from(0x0a2a_0000 + n).to_string()).collect();
    let endpoint =
        |address: &String| control::Endpoint { address: address.clone(), port: 65_535, node: String::new() };
    let port = |number| control::ServicePort {
        name: format!("p{number}"),
        protocol: "TCP".into(),
        port: number,
        endpoints: addresses.iter().map(endpoint).collect(),
    };
    let named = |address: &String| control::NamedEndpoint { address: address.clone(), ..Default::default() };
    let large = control::Service {
        namespace: "default".into(),
        name: "large".into(),
        address: "10.43.255.255".into(),
        ports: vec![port(1), port(65_535)],
        affinity_seconds: u32::MAX,
        ..control::Service::default()
    };
    let headless = control::Service {
        name: "headless".into(),
        address: String::new(),
        endpoints: addresses.iter().map(named).collect(),
        ..large.clone()
    };
    let mut tables = Tables::default();
    plan(&world_of(vec![large, headless]), &mut tables);
    assert_eq!((tables.counts.len(), tables.slots.len()), (2, 2 * 2_048));
    plan(&world_of(vec![]), &mut tables);
    assert_eq!(tables, Tables::default());
}
