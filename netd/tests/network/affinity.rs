//! `sessionAffinity: ClientIP`, with real connections: a client stays with its living pod, and for how long.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use warren_proto::control;

use crate::lab::{Lab, Pod, Space, eventually, service};

const WEB: &str = "10.43.7.7";
const LONG: u32 = 10_800;

fn sticky(pods: &[&Pod], seconds: u32) -> control::Service {
    let endpoints: Vec<_> = pods.iter().map(|pod| (*pod, 8080)).collect();
    let mut service = service("web", WEB, "TCP", &endpoints);
    service.affinity_seconds = seconds;
    service
}

/// Who answers `times` connections.
fn answering(from: &Space, times: usize) -> BTreeSet<String> {
    let web: Ipv4Addr = WEB.parse().expect("an address");
    let name = |answer: String| answer.split_whitespace().next().expect("a name").to_owned();
    (0..times).map(|_| name(from.ask((web, 80)).expect("the service answers"))).collect()
}

fn pods(lab: &Lab, hosts: std::ops::Range<u8>) -> Vec<Pod> {
    let pods: Vec<Pod> = hosts.map(|host| lab.nodes[usize::from(host) % lab.nodes.len()].pod(host)).collect();
    for pod in &pods {
        pod.space.serve_tcp(8080, &pod.address.to_string());
    }
    pods
}

/// Each client's pod; every client has just one.
fn homes(clients: &[Pod]) -> BTreeMap<Ipv4Addr, String> {
    let home = |client: &Pod| {
        let homes = answering(&client.space, 6);
        assert_eq!(homes.len(), 1, "{} was sent around: {homes:?}", client.address);
        (client.address, homes.into_iter().next().expect("one"))
    };
    clients.iter().map(home).collect()
}

fn remembered(space: &Space) -> usize {
    space.shell("nft list map ip warren clients").matches("expires").count()
}

#[test]
fn clients_stay_with_their_living_pods_while_others_come_and_go() {
    let mut lab = Lab::new(2);
    let servers = pods(&lab, 2..7);
    let clients: Vec<Pod> = (20..28).map(|host| lab.nodes[0].pod(host)).collect();
    // One replica, more, fewer, and one of the middle deleted.
    let worlds: [&[usize]; 9] =
        [&[0], &[0, 1], &[0, 1, 2], &[0, 1, 2, 3], &[0, 1, 2], &[0, 2], &[0, 2, 4], &[2, 4], &[1, 2, 3, 4]];
    let mut before = BTreeMap::<Ipv4Addr, String>::new();
    let (mut used, mut stayed, mut moved) = (BTreeSet::new(), 0, 0);
    for world in worlds {
        let living: Vec<&Pod> = world.iter().map(|index| &servers[*index]).collect();
        lab.publish_services(vec![sticky(&living, LONG)]);
        let alive: BTreeSet<String> = living.iter().map(|pod| pod.address.to_string()).collect();
        let now = homes(&clients);
        for (client, home) in &now {
            assert!(alive.contains(home), "{client} was sent to {home}, which left");
            match before.get(client).filter(|home| alive.contains(*home)) {
                Some(kept) => {
                    assert_eq!(home, kept, "{client} was moved although its pod lives: {world:?}");
                    stayed += 1;
                }
                None => moved += 1,
            }
        }
        used.extend(now.values().cloned());
        before = now;
    }
    assert!(stayed > 30 && moved > 0 && used.len() > 1, "{stayed} stayed, {moved} moved, on {used:?}");
}

#[test]
fn clients_are_remembered_when_netd_starts_again_and_when_it_mends_its_table() {
    let mut lab = Lab::new(1);
    let servers = pods(&lab, 2..8);
    let clients: Vec<Pod> = (20..26).map(|host| lab.nodes[0].pod(host)).collect();
    let all: Vec<&Pod> = servers.iter().collect();
    lab.publish_services(vec![sticky(&all, LONG)]);
    let before = homes(&clients);
    lab.nodes[0].stop();
    lab.nodes[0].start();
    lab.publish();
    assert_eq!(homes(&clients), before);
    lab.nodes[0].space.shell("nft flush chain ip warren postrouting");
    eventually("the table is mended", || {
        lab.nodes[0].space.shell("nft list chain ip warren postrouting").contains("masquerade").then_some(())
    });
    assert_eq!(homes(&clients), before);
    // Nothing is left of a service that does not ask for it any more, and of one that is gone.
    lab.publish_services(vec![sticky(&all, 0)]);
    assert_eq!(remembered(&lab.nodes[0].space), 0);
    assert!(answering(&clients[0].space, 60).len() > 1);
    let chains = lab.nodes[0].space.shell("nft list chains ip");
    assert!(!chains.contains(&format!("s{LONG}")), "{chains}");
}

#[test]
fn a_client_is_forgotten_after_its_time_and_each_connection_begins_it_anew() {
    const SECONDS: u32 = 3;
    let mut lab = Lab::new(1);
    let servers = pods(&lab, 2..10);
    let clients: Vec<Pod> = (20..23).map(|host| lab.nodes[0].pod(host)).collect();
    let all: Vec<&Pod> = servers.iter().collect();
    lab.publish_services(vec![sticky(&all, SECONDS)]);
    let time = Duration::from_secs(u64::from(SECONDS));
    // One who keeps coming stays, for longer than the time.
    let start = Instant::now();
    let home = answering(&clients[0].space, 1);
    while start.elapsed() < 2 * time {
        let asked = Instant::now();
        assert_eq!(answering(&clients[0].space, 1), home);
        std::thread::sleep(time / 6);
        assert!(asked.elapsed() < time, "this machine is too slow to tell");
    }
    assert_eq!(remembered(&lab.nodes[0].space), 1);
    // One who stays away is forgotten, and sent anywhere.
    let mut met = BTreeSet::new();
    eventually("another pod answers", || {
        met.extend(answering(&clients[1].space, 2));
        eventually("the client is forgotten", || (remembered(&lab.nodes[0].space) == 0).then_some(()));
        (met.len() > 1).then_some(())
    });
    // A longer time that is made shorter is over for those who were away for so long.
    lab.publish_services(vec![sticky(&all, LONG)]);
    answering(&clients[2].space, 1);
    lab.publish_services(vec![sticky(&all, SECONDS)]);
    eventually("the shorter time is over", || (remembered(&lab.nodes[0].space) == 0).then_some(()));
}

#[test]
fn services_with_their_own_times_and_sizes_share_a_node() {
    let mut lab = Lab::new(1);
    let servers = pods(&lab, 2..6);
    let client = lab.nodes[0].pod(20);
    let all: Vec<&Pod> = servers.iter().collect();
    let mut services: Vec<_> = (1..=40u32)
        .map(|n| {
            let mut service = sticky(&all[..1 + n as usize % 4], n * 2_160);
            service.name = format!("web-{n}");
            service.address = format!("10.43.9.{n}");
            service
        })
        .collect();
    services.push(sticky(&all, LONG));
    lab.publish_services(services);
    let home = answering(&client.space, 8);
    assert_eq!(home.len(), 1);
    for n in [1u8, 2, 3, 40] {
        let ask = || client.space.ask((Ipv4Addr::new(10, 43, 9, n), 80)).expect("an answer");
        let first = ask();
        assert!((0..6).all(|_| ask() == first), "web-{n}");
    }
    let timeouts = lab.nodes[0].space.shell("nft list map ip warren clients");
    assert!(timeouts.contains("timeout 1d") && timeouts.contains("timeout 36m"), "{timeouts}");
    lab.publish_services(vec![]);
    assert_eq!(remembered(&lab.nodes[0].space), 0);
}

#[test]
fn clients_beyond_those_that_can_be_remembered_are_served_by_their_address() {
    const MOST: u32 = 65_536;
    let mut lab = Lab::new(1);
    let servers = pods(&lab, 2..6);
    let clients: Vec<Pod> = (20..26).map(|host| lab.nodes[0].pod(host)).collect();
    let all: Vec<&Pod> = servers.iter().collect();
    lab.publish_services(vec![sticky(&all, LONG)]);
    let known = answering(&clients[0].space, 1);
    // All other places are taken, by clients of living pods.
    let space = lab.nodes[0].space.clone();
    let file = lab.nodes[0].state.path().join("clients.nft");
    let element = |n: u32| {
        let (client, pod) = (Ipv4Addr::from(0x0b00_0000 + n), servers[n as usize % servers.len()].address);
        format!("{WEB} . tcp . 80 . {client} timeout 1h : {pod} . 8080")
    };
    let lines: Vec<String> = (1..MOST)
        .collect::<Vec<_>>()
        .chunks(1_000)
        .map(|chunk| {
            let elements: Vec<_> = chunk.iter().map(|n| element(*n)).collect();
            format!("add element ip warren clients {{ {} }}\n", elements.join(", "))
        })
        .collect();
    std::fs::write(&file, lines.concat()).expect("written");
    space.shell(&format!("nft -f {}", file.display()));
    assert_eq!(answering(&clients[0].space, 6), known, "a known client was moved");
    let homes = homes(&clients[1..]);
    assert!(homes.values().collect::<BTreeSet<_>>().len() > 1, "all are sent to one pod: {homes:?}");
    let is_remembered = |client: &Pod| {
        let element = format!("{WEB} . tcp . 80 . {}", client.address);
        let got = space.shell(&format!("nft get element ip warren clients '{{ {element} }}' 2>&1 || true"));
        got.contains("expires")
    };
    assert!(is_remembered(&clients[0]) && !is_remembered(&clients[1]), "there was a place left");
    // A pod leaves: its clients make room, and the others stay.
    let living: Vec<&Pod> = servers.iter().skip(1).collect();
    lab.publish_services(vec![sticky(&living, LONG)]);
    let left = remembered(&space);
    assert!(left > 45_000 && left < 50_000, "{left} of {MOST} are remembered");
    answering(&clients[1].space, 1);
    assert!(is_remembered(&clients[1]), "there is a place now");
}
