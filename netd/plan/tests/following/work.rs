//! What a change costs does not grow with the cluster: counted in what this thread takes from the allocator, which
//! is the same on every machine.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeMap,
};

use warren_proto::control::{self, feed_item::Item};

use crate::model::{Items, Member, network, network_of, peer};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // At the end of a thread there is nothing to count with any more.
    let _ = BYTES.try_with(|counted| counted.set(counted.get().saturating_add(bytes)));
}

// SAFETY: every call is passed on to the system's allocator as it is; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// A cluster where every member brings a service of ten pods.
fn cluster(members: u16) -> Items {
    let mut items = Items::from([("network".to_owned(), network("cluster.local"))]);
    for n in 0..members {
        items.insert(format!("peer/node-{n}"), peer(&format!("node-{n}"), n, n, 1));
        items.insert(format!("service/default/web-{n}"), service(n, 10));
    }
    items
}

fn service(n: u16, pods: u8) -> Item {
    let [above, below] = n.to_be_bytes();
    let endpoints = (2..pods + 2).map(|pod| control::Endpoint {
        address: format!("10.{}.{below}.{pod}", 42 + above),
        port: 8_080,
        ..control::Endpoint::default()
    });
    let port = control::ServicePort {
        name: "http".into(),
        protocol: "TCP".into(),
        port: 80,
        endpoints: endpoints.collect(),
        ..control::ServicePort::default()
    };
    Item::Service(control::Service {
        namespace: "default".into(),
        name: format!("web-{n}"),
        address: format!("10.43.{above}.{below}"),
        ports: vec![port],
        ..control::Service::default()
    })
}

/// Bytes taken per change, by kind of change.
fn costs(members: u16) -> BTreeMap<&'static str, usize> {
    let mut items = cluster(members);
    let pods = BTreeMap::new();
    let mut member = Member::default();
    member.read(&items, &pods);
    assert_eq!(network_of(&member.world).domain, "cluster.local");
    let mut costs = BTreeMap::new();
    let mut each = |kind, change: &dyn Fn(u16) -> (String, Option<Item>)| {
        let followed = member.followed;
        let mut bytes = 0;
        let chosen = (0..50).map(|n| n * (members / 50));
        for n in chosen {
            let (key, item) = change(n);
            let (mut changed, mut gone) = (Items::new(), Vec::new());
            match item {
                Some(item) => drop((items.insert(key.clone(), item.clone()), changed.insert(key, item))),
                None => drop((items.remove(&key), gone.push(key))),
            }
            let before = BYTES.get();
            member.follow(&changed, &gone, &items, &pods);
            bytes += BYTES.get() - before;
        }
        assert_eq!(member.followed, followed + 50, "{kind}: nothing was read whole");
        member.check(&items, &pods);
        costs.insert(kind, bytes / 50);
    };
    each("a member moves", &|n| (format!("peer/node-{n}"), Some(peer(&format!("node-{n}"), n, n, 2))));
    each("a pod leaves a service", &|n| (format!("service/default/web-{n}"), Some(service(n, 9))));
    each("a service goes", &|n| (format!("service/default/web-{n}"), None));
    each("a service comes", &|n| (format!("service/default/web-{n}"), Some(service(n, 10))));
    each("a member goes", &|n| (format!("peer/node-{n}"), None));
    each("a member comes", &|n| (format!("peer/node-{n}"), Some(peer(&format!("node-{n}"), n, n, 1))));
    costs
}

#[test]
fn a_change_costs_the_same_among_a_hundred_members_and_among_five_thousand() {
    let (few, many) = (costs(100), costs(5_000));
    println!("bytes taken per change: {few:?} among 100 members, {many:?} among 5,000");
    for (kind, few) in few {
        let many = many[kind];
        assert!(many <= few + few / 2, "{kind}: {few} bytes among 100 members, {many} among 5,000");
        assert!(many < 64 << 10, "{kind}: {many} bytes");
    }
}
