//! Random histories: whatever changes, in whatever order, the end is the same as of a fresh start.

use std::{collections::BTreeMap, net::Ipv4Addr};

use proptest::{collection::vec, option, prelude::*};
use warren_proto::control::{self, feed_item::Item};

use crate::model::{DNS, Items, Member, network, peer};

fn any_peer() -> impl Strategy<Value = (String, Option<Item>)> {
    // Seldom two keys are about the same member, and seldom one cannot be read.
    let name = prop_oneof![30 => Just(None), 1 => (0u8..6).prop_map(Some)];
    let item = (name, 0u16..6, 2u16..7, 0u8..4, prop_oneof![20 => Just(false), 1 => Just(true)]);
    (0u8..6, option::weighted(0.8, item)).prop_map(|(key, item)| {
        let item = item.map(|(name, public, network, place, is_bad)| {
            let name = format!("node-{}", name.unwrap_or(key));
            match peer(&name, public, network, place) {
                Item::Peer(bad) if is_bad => Item::Peer(control::Peer { public_key: "short".into(), ..bad }),
                item => item,
            }
        });
        (format!("peer/node-{key}"), item)
    })
}

fn any_port() -> impl Strategy<Value = control::ServicePort> {
    let endpoint = (0u8..9).prop_map(|n| control::Endpoint {
        address: format!("10.42.1.{n}"),
        port: 8_080,
        ..control::Endpoint::default()
    });
    (0u8..3, prop_oneof![Just("TCP"), Just("UDP")], 79u32..82, vec(endpoint, 0..6)).prop_map(
        |(name, protocol, port, endpoints)| control::ServicePort {
            name: ["", "http", "web"][usize::from(name)].into(),
            protocol: protocol.into(),
            port,
            endpoints,
            ..control::ServicePort::default()
        },
    )
}

fn any_service() -> impl Strategy<Value = (String, Option<Item>)> {
    let address = prop_oneof![
        6 => (1u8..4).prop_map(|n| format!("10.43.1.{n}")),
        3 => Just(String::new()),
        1 => Just(DNS.to_string()),
    ];
    let endpoint = (0u8..9, 0u8..4).prop_map(|(n, host)| control::NamedEndpoint {
        address: format!("10.42.1.{n}"),
        hostname: ["", "db-0", "db-1", "a.b"][usize::from(host)].into(),
        ..control::NamedEndpoint::default()
    });
    let external = prop_oneof![9 => Just(""), 1 => Just("example.com")];
    let rest = (vec(any_port(), 0..4), vec(endpoint, 0..5), external, prop_oneof![Just(0), 1u32..4]);
    (0u8..5, option::weighted(0.8, (address, rest))).prop_map(|(key, item)| {
        let names = ["web", "db", "web.db", "Web", "api"];
        let name = names[usize::from(key)];
        let item = item.map(|(address, (ports, endpoints, external, affinity_seconds))| {
            Item::Service(control::Service {
                namespace: "default".into(),
                name: name.into(),
                address,
                ports,
                endpoints,
                external_name: external.into(),
                affinity_seconds,
            })
        });
        (format!("service/default/{name}"), item)
    })
}

fn any_network() -> impl Strategy<Value = (String, Option<Item>)> {
    let domain = prop_oneof![Just("cluster.local"), Just("other.test"), Just("")];
    option::weighted(0.9, domain).prop_map(|domain| ("network".to_owned(), domain.map(network)))
}

type Step = (Vec<(String, Option<Item>)>, BTreeMap<Ipv4Addr, u32>);

fn any_step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![15 => any_peer(), 30 => any_service(), 1 => any_network()];
    let pods = proptest::collection::btree_map(2u8..6, 5u32..8, 0..4);
    let pods =
        pods.prop_map(|pods| pods.into_iter().map(|(n, link)| (Ipv4Addr::new(10, 42, 1, n), link)).collect());
    (vec(change, 0..5), pods)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn following_comes_to_what_a_fresh_start_comes_to(steps in vec(any_step(), 1..24)) {
        let mut items = Items::from([("network".to_owned(), network("cluster.local"))]);
        let mut member = Member::default();
        member.read(&items, &BTreeMap::new());
        for (changes, pods) in steps {
            let (mut changed, mut gone) = (Items::new(), Vec::new());
            for (key, item) in changes.into_iter().collect::<BTreeMap<_, _>>() {
                match item {
                    Some(item) => {
                        items.insert(key.clone(), item.clone());
                        changed.insert(key, item);
                    }
                    None if items.remove(&key).is_some() => gone.push(key),
                    None => {}
                }
            }
            member.follow(&changed, &gone, &items, &pods);
            member.check(&items, &pods);
        }
    }
}

#[test]
fn most_changes_are_followed() {
    let mut items = Items::from([("network".to_owned(), network("cluster.local"))]);
    let mut member = Member::default();
    member.read(&items, &BTreeMap::new());
    for n in 2..40 {
        let changed = Items::from([(format!("peer/{n}"), peer(&format!("node-{n}"), n, n, 1))]);
        items.extend(changed.clone());
        member.follow(&changed, &[], &items, &BTreeMap::new());
        member.check(&items, &BTreeMap::new());
    }
    assert_eq!(member.followed, 38);
    // Two keys for one member: all are read, until it is one again.
    let twice = Items::from([("peer/twice".to_owned(), peer("node-5", 99, 99, 2))]);
    items.extend(twice.clone());
    member.follow(&twice, &[], &items, &BTreeMap::new());
    member.check(&items, &BTreeMap::new());
    items.remove("peer/twice");
    member.follow(&Items::new(), &["peer/twice".to_owned()], &items, &BTreeMap::new());
    member.check(&items, &BTreeMap::new());
    assert_eq!(member.followed, 38);
    items.remove("peer/5");
    member.follow(&Items::new(), &["peer/5".to_owned()], &items, &BTreeMap::new());
    member.check(&items, &BTreeMap::new());
    assert_eq!(member.followed, 39);
}
