//! Service addresses in the callers' own kernels.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use crate::lab::{AT_ONCE, DNS, Lab, Pod, Space, ask_udp, eventually, service, source};

const WEB: &str = "10.43.7.7";

fn web() -> Ipv4Addr {
    WEB.parse().expect("an address")
}

fn name_of(answer: &str) -> String {
    answer.split_whitespace().next().expect("a name").to_owned()
}

/// How often each server answered, of `times` connections.
fn spread(from: &Space, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let answer = from.ask((web(), 80)).expect("the service answers");
        *counts.entry(name_of(&answer)).or_default() += 1;
    }
    counts
}

fn assert_refused(from: &Space, address: Ipv4Addr, port: u16) {
    let start = Instant::now();
    let error = from.ask((address, port)).expect_err("nobody may answer");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}:{port}: {error}");
    assert!(start.elapsed() < AT_ONCE, "{address}:{port} was refused too late");
}

#[test]
fn a_service_spreads_over_all_nodes_keeps_the_source_and_loops_back() {
    let mut lab = Lab::new(3);
    let pods: Vec<Pod> = lab.nodes.iter().flat_map(|node| [node.pod(2), node.pod(3)]).collect();
    for pod in &pods {
        pod.space.serve_tcp(8080, &pod.address.to_string());
    }
    let endpoints: Vec<_> = pods.iter().map(|pod| (pod, 8080)).collect();
    lab.publish_services(vec![service("web", WEB, "TCP", &endpoints)]);
    // From a pod that is an endpoint itself: one in six connections comes back to it.
    let counts = spread(&pods[0].space, 120);
    assert_eq!(counts.len(), 6, "all endpoints answer: {counts:?}");
    assert!(counts.values().all(|count| *count >= 5), "evenly: {counts:?}");
    // From the node itself.
    assert_eq!(spread(&lab.nodes[1].space, 60).len(), 6);
    // The server sees the pod's own address, on the same node and on others.
    let client = lab.nodes[0].pod(9);
    for _ in 0..12 {
        let answer = client.space.ask((web(), 80)).expect("an answer");
        assert_eq!(source(&answer), IpAddr::from(client.address));
    }
    let answer = lab.nodes[0].space.ask((web(), 80)).expect("an answer");
    assert_eq!(source(&answer), IpAddr::from(lab.nodes[0].address()));
}

#[test]
fn endpoints_come_and_go_without_a_failed_connection() {
    let mut lab = Lab::new(2);
    let pods: Vec<Pod> = (2..8).map(|host| lab.nodes[usize::from(host % 2)].pod(host)).collect();
    for pod in &pods {
        pod.space.serve_tcp(8080, &pod.address.to_string());
    }
    let client = lab.nodes[0].pod(99);
    for size in [1, 6, 3, 5, 2] {
        let endpoints: Vec<_> = pods.iter().take(size).map(|pod| (pod, 8080)).collect();
        lab.publish_services(vec![service("web", WEB, "TCP", &endpoints)]);
        let allowed: BTreeSet<_> = endpoints.iter().map(|(pod, _)| pod.address.to_string()).collect();
        let counts = spread(&client.space, 10 * size);
        assert!(counts.keys().all(|name| allowed.contains(name)), "{counts:?} of {allowed:?}");
    }
}

#[test]
fn more_endpoints_than_chains_are_served() {
    let mut lab = Lab::new(1);
    // One pod with many ports stands for many endpoints.
    let (pod, client) = (lab.nodes[0].pod(2), lab.nodes[0].pod(3));
    for port in [9000, 9069] {
        pod.space.serve_tcp(port, &port.to_string());
    }
    let endpoints: Vec<_> = (9000..9070).map(|port| (&pod, port)).collect();
    lab.publish_services(vec![service("web", WEB, "TCP", &endpoints)]);
    let listed = lab.nodes[0].space.shell("nft list map ip warren counts");
    assert!(listed.contains("goto n512"), "{listed}");
    // Only two of the seventy listen: both must be met, the rest refuses.
    let mut met = BTreeSet::new();
    eventually("both listening endpoints are met", || {
        met.extend(client.space.ask((web(), 80)).ok());
        (met.len() == 2).then_some(())
    });
}

#[test]
fn what_has_no_endpoint_is_refused_at_once() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    pod.space.serve_tcp(8080, "web");
    lab.publish_services(vec![
        service("web", WEB, "TCP", &[(&pod, 8080)]),
        service("empty", "10.43.7.8", "TCP", &[]),
    ]);
    for from in [&pod.space, &lab.nodes[0].space] {
        assert_refused(from, Ipv4Addr::new(10, 43, 7, 8), 80);
        assert_refused(from, Ipv4Addr::new(10, 43, 99, 99), 80);
        assert_refused(from, web(), 81);
        let socket = from.udp((web(), 80));
        let refused = eventually("a UDP refusal", || {
            let _ = socket.send(b"hello");
            socket.recv(&mut [0; 64]).err().filter(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        });
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(name_of(&from.ask((web(), 80)).expect("an answer")), "web");
    }
    // And when the last endpoint leaves.
    lab.publish_services(vec![service("web", WEB, "TCP", &[])]);
    assert_refused(&pod.space, web(), 80);
    // The DNS address is ours, though it is among the services'.
    assert!(pod.space.can_connect((DNS, 53)), "DNS accepts connections");
}

#[test]
fn a_udp_flow_moves_when_its_pod_leaves() {
    let mut lab = Lab::new(2);
    let (client, a, b) = (lab.nodes[0].pod(2), lab.nodes[0].pod(3), lab.nodes[1].pod(4));
    a.space.serve_udp(5353, "a");
    b.space.serve_udp(5353, "b");
    lab.publish_services(vec![service("web", WEB, "UDP", &[(&a, 5353)])]);
    // One socket, one flow: connection tracking would keep it on "a" for ever.
    let socket = client.space.udp((web(), 80));
    assert_eq!(name_of(&ask_udp(&socket)), "a");
    lab.publish_services(vec![service("web", WEB, "UDP", &[(&b, 5353)])]);
    let mut buffer = [0; 64];
    // Answers of "a" that were under way are drained first.
    let name = eventually("the flow moves", || {
        socket.send(b"hello").ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        Some(name_of(&String::from_utf8_lossy(&buffer[..length]))).filter(|name| name == "b")
    });
    assert_eq!(name, "b");
}

#[test]
fn rules_that_somebody_removed_come_back() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    pod.space.serve_tcp(8080, "web");
    lab.publish_services(vec![service("web", WEB, "TCP", &[(&pod, 8080)])]);
    let (world, _) = warren_netd::world::DesiredNetwork::read(&lab.items(&lab.nodes[0]));
    for harm in [
        "nft delete table ip warren",
        "nft flush chain ip warren prerouting",
        "nft flush map ip warren slots",
        "ip route flush proto 0x57",
        "ip addr del 10.43.0.10/32 dev warren0",
        "ip link set warren0 down",
    ] {
        lab.nodes[0].space.shell(harm);
        let (data_plane, world) = (lab.nodes[0].data_plane(), world.clone());
        let problems = lab.nodes[0].block(async move { data_plane.enforce(&world, true).await });
        assert_eq!(problems, Vec::<String>::new(), "after {harm}");
        assert_eq!(name_of(&pod.space.ask((web(), 80)).expect(harm)), "web");
        assert!(pod.space.can_connect((DNS, 53)), "DNS after {harm}");
    }
}

#[test]
fn foreign_rules_and_routes_are_left_alone() {
    let mut lab = Lab::new(1);
    let node = lab.nodes[0].space.clone();
    node.shell("nft add table ip theirs && nft add chain ip theirs keep && ip route add 198.51.100.0/24 via 10.9.1.1");
    lab.publish_services(vec![service("web", WEB, "TCP", &[])]);
    lab.nodes[0].stop();
    lab.nodes[0].start();
    lab.publish();
    assert!(node.shell("nft list tables").contains("table ip theirs"));
    assert!(node.shell("ip route").contains("198.51.100.0/24"));
}
