//! How many pods a second get a node, in a large cluster, by what they ask of each other:
//! `cargo bench -p warren-plan --bench bindings`. `WARREN_BENCH_QUICK=1` takes a small cluster;
//! what stands behind `--` names the lines that are run.
//!
//! Each line is one plan of a planner that knows the cluster already: so many pods have come since. Processor time is that of
//! the one thread that plans, so that other work on the machine does not count.

#![allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads its time and its environment")]

mod cluster;

use std::sync::Arc;

use cluster::{network, node_name, put};
use serde_json::{Value, json};
use warren_plan::{Planner, World};
use warren_state::Snapshot;
use warren_vocabulary::{
    ClusterConfig,
    guard::Unwatched,
    resources::{PODS, REPLICASETS},
};

/// Bindings a second that are aimed at: for pods that ask nothing of each other, and for all others.
const PLAIN_GOAL: f64 = 10_000.0;
const GOAL: f64 = 5_000.0;
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// What the pods of an app ask for.
type Shape = (&'static str, fn(&str) -> Value);

const SHAPES: [Shape; 7] = [
    ("nothing", |_| json!({})),
    ("a node each", |app| json!({"affinity": {"podAntiAffinity": {REQUIRED: [term(app, HOST)]}}})),
    ("one zone together", |app| json!({"affinity": {"podAffinity": {REQUIRED: [term(app, ZONE)]}}})),
    ("even over hosts and zones", |app| {
        let hard = "DoNotSchedule";
        json!({"topologySpreadConstraints": [spread(app, HOST, hard), spread(app, ZONE, hard)]})
    }),
    ("rather even over racks and zones", |app| {
        let soft = "ScheduleAnyway";
        json!({"topologySpreadConstraints": [spread(app, "rack", soft), spread(app, ZONE, soft)]})
    }),
    ("even with all the others", |_| {
        let selector = json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]});
        json!({"topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": ZONE,
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]})
    }),
    ("all at once", |app| {
        json!({
            "affinity": {
                "podAntiAffinity": {REQUIRED: [term(app, HOST)],
                    PREFERRED: [{"weight": 10, "podAffinityTerm": term("app-0", ZONE)}]},
                "podAffinity": {PREFERRED: [{"weight": 10, "podAffinityTerm": term(app, "rack")}]},
            },
            "topologySpreadConstraints": [spread(app, ZONE, "DoNotSchedule")],
        })
    }),
];

fn term(app: &str, topology: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology})
}

fn spread(app: &str, topology: &str, when: &str) -> Value {
    json!({"maxSkew": 1, "topologyKey": topology, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": app}}})
}

fn main() {
    let quick = std::env::var("WARREN_BENCH_QUICK").is_ok();
    let (nodes, pods, placed) = if quick { (500, 400, 400) } else { (5_000, 4_000, 40_000) };
    println!("{nodes} nodes in 3 zones and racks of 25; {pods} pods come, to none and to {placed} that run");
    println!("{:5} {:>9}  {:36} {:>9} {:>9}", "apps", "pods each", "which ask for", "to none", "to many");
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut below = 0;
    for apps in [1, pods / 100, pods / 10] {
        for (place, shape) in SHAPES.into_iter().enumerate() {
            if !only.is_empty() && !only.iter().any(|name| name == shape.0) {
                continue;
            }
            let goal = if place == 0 { PLAIN_GOAL } else { GOAL };
            // An app whose pods want a node each has no more of them than there are nodes.
            let run = (placed / apps).min(nodes - pods / apps);
            let come = pods / apps;
            let to_none = measure(nodes, apps, (come, 0), 0, shape);
            let to_many = measure(nodes, apps, (come, run), placed - run * apps, shape);
            let missed = to_none.min(to_many) < goal;
            below += usize::from(missed);
            let mark = if missed { format!("  below {goal}/s") } else { String::new() };
            println!("{apps:5} {come:>9}  {:36} {to_none:7.0}/s {to_many:7.0}/s{mark}", shape.0);
        }
    }
    println!("{below} lines below their goal");
}

/// Plans for pods that come, beside those that run: so many of each app, and the rest of those that run of another one.
fn measure(nodes: usize, apps: usize, (come, run): (usize, usize), rest: usize, shape: Shape) -> f64 {
    let (_, shape) = shape;
    let mut snapshot = cluster(nodes);
    let apps: Vec<String> = (0..apps).map(|app| format!("app-{app}")).collect();
    let others = [("others".to_owned(), rest, SHAPES[0].1)];
    let mut place = 0;
    for (app, run, shape) in apps.iter().map(|app| (app.clone(), run, shape)).chain(others) {
        put(&mut snapshot, REPLICASETS, "default", set(&app, run, shape));
        for index in 0..run {
            let mut pod = pod(&app, &format!("{app}-old-{index}"), shape);
            let node = place % nodes;
            pod["spec"]["nodeName"] = node_name(node).into();
            pod["status"] =
                json!({"phase": "Running", "podIP": format!("{}.{}", network(node), 2 + place / nodes)});
            place += 1;
            put(&mut snapshot, PODS, "default", pod);
        }
    }
    let now = "2026-11-22T12:00:00Z".parse().unwrap_or_default();
    let mut world = World { config: ClusterConfig::default(), acknowledged: 1, ..World::default() };
    world.snapshot = Arc::new(snapshot.clone());
    let mut planner = Planner::default();
    planner.plan(&world, now, &Unwatched);
    for app in &apps {
        put(&mut snapshot, REPLICASETS, "default", set(app, run + come, shape));
        for index in 0..come {
            put(&mut snapshot, PODS, "default", pod(app, &format!("{app}-{index}"), shape));
        }
    }
    snapshot.revision = 2;
    (world.snapshot, world.acknowledged) = (Arc::new(snapshot), 2);
    let before = processor_seconds();
    let plan = planner.plan(&world, now, &Unwatched);
    let bound = plan.steps.iter().filter(|step| step.why.starts_with("bind ")).count();
    assert_eq!(bound, apps.len() * come, "all get a node");
    bound as f64 / (processor_seconds() - before)
}

fn cluster(nodes: usize) -> Snapshot {
    let mut snapshot = cluster::empty();
    let allocatable = json!({"cpu": "16", "memory": "64Gi", "pods": "110"});
    for index in 0..nodes {
        let labels = json!({HOST: node_name(index), ZONE: format!("zone-{}", index % 3),
            "rack": format!("rack-{}", index / 25)});
        cluster::add_node(&mut snapshot, index, labels, &allocatable);
    }
    snapshot
}

/// The pods' owner. Pods without one would be collected as garbage, which is not what is measured.
fn set(app: &str, replicas: usize, shape: fn(&str) -> Value) -> Value {
    let pod = pod(app, "template", shape);
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": app, "namespace": "default", "uid": app, "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}},
            "template": {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}},
    })
}

fn pod(app: &str, name: &str, shape: fn(&str) -> Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": app, "tier": "all"},
            "creationTimestamp": "2026-11-22T11:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": app,
                "controller": true}]},
        "spec": {"containers": [{"name": "main", "image": "image:1",
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
        "status": {"phase": "Pending"},
    });
    for (field, value) in shape(app).as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// What this thread has taken of the processor.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
