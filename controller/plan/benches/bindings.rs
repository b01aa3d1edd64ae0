//! How many pods a second get a node, in a large cluster, by what they ask of each other:
//! `cargo bench -p warren-plan --bench bindings`. `WARREN_BENCH_QUICK=1` takes a small cluster.
//!
//! Each line is one plan of a planner that knows the cluster already: so many pods have come since. Processor time is that of
//! the one thread that plans, so that other work on the machine does not count.

#![allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads its time and its environment")]

use std::sync::Arc;

use serde_json::{Value, json};
use warren_plan::{Planner, World};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::{
    ClusterConfig,
    guard::Unwatched,
    member::{Member, MemberRole},
    resources::{MEMBERS, NAMESPACES, NODES, PODS},
};

/// What is aimed at, with apps of a hundred pods and more.
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
    println!("{nodes} nodes in 3 zones and racks of 25; {placed} pods run at most, {pods} come");
    for apps in [1, pods / 100, pods / 10] {
        for (name, shape) in SHAPES {
            let rate = measure(nodes, apps, (pods / apps, placed / apps.max(pods / 100)), shape);
            let goal =
                if apps < pods / 10 { format!(", {:.1} of the goal", rate / GOAL) } else { String::new() };
            println!("{apps:4} apps of {:4} pods, {name}: {rate:.0} bindings/s{goal}", pods / apps);
        }
    }
}

/// Plans for pods that come, beside those that run, so many of each app.
fn measure(nodes: usize, apps: usize, (come, run): (usize, usize), shape: fn(&str) -> Value) -> f64 {
    let mut snapshot = cluster(nodes);
    let mut place = 0;
    for app in (0..apps).map(|app| format!("app-{app}")) {
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
    for app in (0..apps).map(|app| format!("app-{app}")) {
        for index in 0..come {
            put(&mut snapshot, PODS, "default", pod(&app, &format!("{app}-{index}"), shape));
        }
    }
    snapshot.revision = 2;
    (world.snapshot, world.acknowledged) = (Arc::new(snapshot), 2);
    let before = processor_seconds();
    let plan = planner.plan(&world, now, &Unwatched);
    let bound = plan.steps.iter().filter(|step| step.why.starts_with("bind ")).count();
    assert_eq!(bound, apps * come, "all get a node");
    bound as f64 / (processor_seconds() - before)
}

fn node_name(index: usize) -> String {
    format!("node-{index:05}")
}

fn network(index: usize) -> String {
    format!("10.{}.{}", index / 250, index % 250)
}

fn cluster(nodes: usize) -> Snapshot {
    let mut snapshot = Snapshot::from_objects(1, []);
    let namespace = json!({"metadata": {"name": "default", "uid": "default"}, "status": {"phase": "Active"}});
    put(&mut snapshot, NAMESPACES, "", namespace);
    for index in 0..nodes {
        let name = node_name(index);
        let Ok(pod_cidr) = format!("{}.0/24", network(index)).parse() else { continue };
        let member = Member {
            name: name.clone(),
            role: MemberRole::Node,
            pod_cidr,
            public_key: None,
            endpoint: None,
            backend: None,
            mtu: None,
            machine: None,
            id: None,
        };
        let key = Key::new(MEMBERS, "", &name);
        snapshot.insert(Arc::new(Object::new(key, 1, member.to_value())));
        let conditions =
            json!([{"type": "ContainerRuntimeReady", "status": "True"}, {"type": "Ready", "status": "True"}]);
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "uid": name, "labels": {HOST: name, ZONE: format!("zone-{}", index % 3),
                "rack": format!("rack-{}", index / 25)}},
            "spec": {},
            "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"}, "conditions": conditions,
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        });
        put(&mut snapshot, NODES, "", node);
    }
    snapshot
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

fn put(snapshot: &mut Snapshot, resource: &str, namespace: &str, value: Value) {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let revision = snapshot.revision;
    snapshot.insert(Arc::new(Object::new(Key::new(resource, namespace, &name), revision, value)));
}

/// What this thread has taken of the processor.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
