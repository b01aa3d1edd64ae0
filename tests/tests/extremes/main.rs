//! Whatever the API admits, the system survives: every field that a client can write, at the edges of its type, goes
//! through the planners, the compiler, and the plans of those who read the feeds.
//!
//! ```text
//!  schema ──► every place × every edge value ──► admitted? ──► worlds of many objects ──► plan, commit, compile, read
//! ```
//!
//! No panic (in admission or after), no memory and no processor time out of proportion, no write without end.
#![allow(clippy::unwrap_used)]

mod admission;
mod amplifiers;
mod bases;
mod measure;
mod places;
mod values;
mod world;

use proptest::{
    strategy::Strategy as _,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use serde_json::Value;
use warren_objects::kinds;

use admission::Candidate;
use places::{Place, places};
use world::World;

/// How many objects one world has: enough that they meet, few enough that a failure is soon found.
const TOGETHER: usize = 250;

/// Every place of a kind's schema that clients may write.
fn writable(resource: &str) -> Vec<Place> {
    let kind = kinds::of(resource).unwrap();
    let message = kind.message().unwrap();
    places(message).into_iter().filter(|place| admission::is_writable(resource, place)).collect()
}

/// Puts all objects into worlds and lets them run.
fn run(objects: Vec<(String, Value)>) {
    for together in objects.chunks(TOGETHER) {
        let mut world = World::new();
        for (resource, object) in together {
            world.add(resource, object.clone());
        }
        world.settle();
    }
}

/// One place at a time, with every edge value of its type.
fn sweep(resource: &'static str) {
    let base = bases::of(resource);
    let mut admitted = Vec::new();
    let (mut tried, mut fields) = (0, 0);
    for place in writable(resource) {
        let before = admitted.len();
        for value in values::of(&place) {
            let mut object = base.clone();
            if !place.set(&mut object, value) {
                continue;
            }
            tried += 1;
            let candidate = Candidate { resource, base: &base, place: &place, object };
            if let Some(object) = candidate.admit() {
                let variants = bases::variants(resource, &place, object);
                admitted.extend(variants.into_iter().map(|object| (resource.to_owned(), object)));
            }
        }
        fields += usize::from(admitted.len() > before);
    }
    println!("{resource}: {tried} tried, {} admitted, by {fields} fields", admitted.len());
    assert!(fields > 3, "{resource}: the base object is not admitted: mend it");
    run(admitted);
}

macro_rules! sweeps {
    ($($name:ident: $resource:literal,)*) => {
        $(#[test] fn $name() { sweep($resource); })*
        const SWEPT: &[&str] = &[$($resource),*];
    };
}

sweeps! {
    config_maps: "configmaps",
    deployments: "deployments.apps",
    endpoint_slices: "endpointslices.discovery.k8s.io",
    events: "events",
    ingresses: "ingresses.networking.k8s.io",
    namespaces: "namespaces",
    nodes: "nodes",
    pods: "pods",
    replica_sets: "replicasets.apps",
    secrets: "secrets",
    service_accounts: "serviceaccounts",
    services: "services",
}

/// Several places at a time, at random; the seeds are the same in every run.
#[test]
fn combinations() {
    let all: Vec<(&str, Vec<Place>)> = SWEPT.iter().map(|resource| (*resource, writable(resource))).collect();
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 16, failure_persistence: None, max_shrink_iters: 64, ..Config::default() };
    let choice = (0..all.len(), proptest::collection::vec((0..1_000_000_usize, 0..1_000_000_usize), 1..5));
    let objects = proptest::collection::vec(choice, 40..120);
    let made = objects.prop_map(|choices| {
        let object = |(kind, changes): (usize, Vec<(usize, usize)>)| {
            let (resource, places) = &all[kind];
            let base = bases::of(resource);
            let mut object = base.clone();
            let mut last = &places[0];
            for (place, value) in changes {
                last = &places[place % places.len()];
                let values = values::of(last);
                last.set(&mut object, values[value % values.len()].clone());
            }
            let admitted = Candidate { resource, base: &base, place: last, object }.admit();
            let variants = admitted.map(|object| bases::variants(resource, last, object));
            variants.into_iter().flatten().map(|object| ((*resource).to_owned(), object)).collect::<Vec<_>>()
        };
        choices.into_iter().flat_map(object).collect::<Vec<_>>()
    });
    TestRunner::new_with_rng(config, random)
        .run(&made, |objects| {
            run(objects);
            Ok::<(), TestCaseError>(())
        })
        .unwrap();
}
