//! Whatever happens: a stateful set keeps its order and its limits, a daemon set ends with one pod on each fitting node.

use proptest::prelude::*;
use serde_json::{Value, json};
use warren_state::{Key, Write};
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, is_deleting, is_ready},
    sets::{daemon, end, gated, ready, stateful},
};

#[derive(Debug, Clone)]
enum Event {
    Replicas(i64),
    Start(i64),
    Partition(i64),
    Image(u8),
    Kill(usize),
    Fail(usize),
    Agent(usize),
    Agents,
    Crash(usize),
    Silence(usize, u64),
    Node(usize, u8),
    Wait(i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..5i64).prop_map(Event::Replicas),
        1 => (0..3i64).prop_map(Event::Start),
        1 => (0..4i64).prop_map(Event::Partition),
        1 => (1..4u8).prop_map(Event::Image),
        1 => (0..8usize).prop_map(Event::Kill),
        1 => (0..8usize).prop_map(Event::Fail),
        4 => (0..8usize).prop_map(Event::Agent),
        2 => Just(Event::Agents),
        6 => (0..12usize).prop_map(Event::Crash),
        1 => (1..4usize, prop_oneof![Just(0), Just(3), Just(12)]).prop_map(|(node, seconds)| Event::Silence(node, seconds)),
        2 => (1..5usize, 0..6u8).prop_map(|(node, change)| Event::Node(node, change)),
        1 => (1..60i64).prop_map(Event::Wait),
    ]
}

fn change_node(model: &mut Model, number: usize, change: u8) {
    let key = Key::new(NODES, "", &format!("node-{number}"));
    if !model.objects.contains_key(&key) {
        return model.node(number, "4", "8Gi", "110");
    }
    let taint = |effect: &str| json!({"taints": [{"key": "mine", "value": "x", "effect": effect}]});
    match change {
        0 => model.remove(&key),
        1 => model.change(&key, |value| value["spec"] = taint("NoSchedule")),
        2 => model.change(&key, |value| value["spec"] = taint("NoExecute")),
        3 => model.change(&key, |value| value["metadata"]["labels"]["tier"] = "other".into()),
        4 => model
            .change(&key, |value| drop(value["metadata"]["labels"].as_object_mut().unwrap().remove("tier"))),
        _ => model.change(&key, |value| value["spec"] = json!({})),
    }
}

fn happen(model: &mut Model, key: &Key, event: &Event, check: &dyn Fn(&Model, &Key, &Write)) {
    let nth = |model: &Model, which: usize| model.pods().nth(which).map(|(key, _)| key.clone());
    match event {
        Event::Replicas(count) => model.change(key, |value| value["spec"]["replicas"] = (*count).into()),
        Event::Start(start) => model.change(key, |value| value["spec"]["ordinals"] = json!({"start": start})),
        Event::Partition(partition) => model.change(key, |value| {
            value["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = (*partition).into();
        }),
        Event::Image(image) => model.set_image(key, &format!("image:{image}")),
        Event::Kill(which) => nth(model, *which).into_iter().for_each(|key| model.remove(&key)),
        Event::Fail(which) => {
            let bound = |key: &Key| !model.get(key)["status"]["podIP"].is_null();
            if let Some(key) = nth(model, *which).filter(bound) {
                end(model, &key, "Failed");
            }
        }
        Event::Agent(which) => drop(nth(model, *which).map(|key| model.agent(&key))),
        Event::Agents => drop(model.agents()),
        Event::Crash(after) => {
            let before = model.objects.clone();
            for step in model.plan().steps.iter().take(*after) {
                assert!(model.commit(&step.transaction), "{}", step.why);
                model.check();
                let now = std::mem::replace(&mut model.objects, before.clone());
                step.transaction.writes.iter().for_each(|write| check(model, key, write));
                model.objects = now;
            }
        }
        Event::Silence(node, seconds) => model.hear(*node, *seconds),
        Event::Node(number, change) => change_node(model, *number, *change),
        Event::Wait(seconds) => model.now += jiff::SignedDuration::from_secs(*seconds),
    }
}

fn heal(model: &mut Model) {
    let nodes: Vec<_> = model.list(NODES).map(|(key, _)| key.name.to_string()).collect();
    model.nodes.retain(|name, _| nodes.contains(name));
    for name in nodes {
        model.hear(name.strip_prefix("node-").unwrap().parse().unwrap(), 0);
    }
    // The longest pause between pods that fail.
    for _ in 0..3 {
        model.settle();
        model.now += jiff::SignedDuration::from_secs(1_000);
    }
    model.settle();
}

fn ordinal(key: &Key) -> i64 {
    key.name.strip_prefix("db-").unwrap().parse().unwrap()
}

/// Pods are made when all before them are ready, and those that are too many go when all after them are gone.
fn keeps_its_order(before: &Model, set: &Key, write: &Write) {
    let Write::Put(key, value) = write else { return };
    if &*key.resource != PODS {
        return;
    }
    let spec = &before.get(set)["spec"];
    let start = spec["ordinals"]["start"].as_i64().unwrap_or(0);
    let end = start + spec["replicas"].as_i64().unwrap();
    let ordinal_here = ordinal(key);
    let well = |pod: &Value| is_ready(pod) && !is_deleting(pod);
    match before.objects.get(key).map(|(_, pod)| pod) {
        None => {
            assert!((start..end).contains(&ordinal_here), "{key} is not wanted");
            for other in start..ordinal_here {
                let other = before.objects.get(&Key::new(PODS, "default", &format!("db-{other}")));
                assert!(other.is_some_and(|(_, pod)| well(pod)), "{key} is made too early");
            }
        }
        Some(pod) if is_deleting(value) && !is_deleting(pod) && !(start..end).contains(&ordinal_here) => {
            let is_evicted = pod["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|said| said["reason"] == "NodeLost")
                || value["status"] != pod["status"];
            let mut later = before.pods().filter(|(other, _)| ordinal(other) > ordinal_here);
            // Those before the first one go after those behind the last.
            let late = later.any(|(other, _)| !(start..end).contains(&ordinal(other)));
            assert!(is_evicted || !late || lost(before, pod), "{key} goes before one after it");
        }
        Some(_) => {}
    }
}

/// Whether its node wants to be rid of it.
fn lost(model: &Model, pod: &Value) -> bool {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let node = model.objects.get(&Key::new(NODES, "", node));
    node.is_none_or(|(_, node)| !node["spec"]["taints"].is_null())
}

fn fits(node: &Value) -> bool {
    node["metadata"]["labels"]["tier"] != "other" && node["spec"]["taints"].is_null()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_stateful_set_keeps_its_order_and_ends_complete(
        events in proptest::collection::vec(event(), 1..30),
        parallel in any::<bool>(),
        unavailable in 1..3i64,
    ) {
        let mut model = Model::new(3);
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}});
        let key = stateful(&mut model, 2, json!({"podManagementPolicy": policy, "updateStrategy": strategy}));
        let nothing = |_: &Model, _: &Key, _: &Write| {};
        let check: &dyn Fn(&Model, &Key, &Write) = if parallel { &nothing } else { &keeps_its_order };
        for event in &events {
            happen(&mut model, &key, event, check);
        }
        (1..4).for_each(|node| { change_node(&mut model, node, 5); change_node(&mut model, node, 5); });
        heal(&mut model);
        prop_assert!(model.plan().steps.is_empty(), "stable");
        let spec = &model.get(&key)["spec"];
        let start = spec["ordinals"]["start"].as_i64().unwrap_or(0);
        let wanted: Vec<_> = (start..start + spec["replicas"].as_i64().unwrap()).collect();
        let mut there: Vec<_> = model.pods().map(|(key, _)| ordinal(key)).collect();
        there.sort_unstable();
        prop_assert_eq!(&there, &wanted);
        prop_assert_eq!(ready(&model, "db"), wanted.len());
        let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        let image = &spec["template"]["spec"]["containers"][0]["image"];
        for (key, pod) in model.pods().filter(|(key, _)| ordinal(key) >= start + partition) {
            prop_assert_eq!(&pod["spec"]["containers"][0]["image"], image, "{}", key);
        }
    }

    #[test]
    fn a_daemon_set_ends_with_one_pod_on_each_fitting_node(
        events in proptest::collection::vec(event(), 1..30),
        surges in any::<bool>(),
    ) {
        let mut model = Model::new(3);
        let rolling = if surges { json!({"maxUnavailable": 0, "maxSurge": 1}) } else { json!({"maxUnavailable": 1}) };
        let key = daemon(&mut model, &json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}));
        model.change(&key, |value| {
            let requirement = json!({"key": "tier", "operator": "NotIn", "values": ["other"]});
            value["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}});
        });
        for event in &events {
            happen(&mut model, &key, event, &|_, _, _| {});
        }
        heal(&mut model);
        prop_assert!(model.plan().steps.is_empty(), "stable");
        let image = &model.get(&key)["spec"]["template"]["spec"]["containers"][0]["image"];
        for (node, value) in model.list(NODES) {
            let here: Vec<_> = model.pods().filter(|(_, pod)| pod["spec"]["nodeName"] == *node.name).collect();
            if fits(value) {
                prop_assert_eq!(here.len(), 1, "{} {:?}", node, here.iter().map(|(key, _)| key).collect::<Vec<_>>());
                prop_assert!(is_ready(here[0].1) && here[0].1["spec"]["containers"][0]["image"] == *image);
            } else {
                // A taint that came later lets a pod stay that runs.
                prop_assert!(here.len() <= 1 && (here.is_empty() || value["spec"]["taints"][0]["effect"] == "NoSchedule"));
            }
        }
    }

    #[test]
    fn updates_without_faults_never_leave_their_limits(
        daemons in any::<bool>(),
        replicas in 1..6i64,
        limit in 1..4i64,
        surges in any::<bool>(),
        parallel in any::<bool>(),
        chances in proptest::collection::vec((0..8usize, 0..30usize), 10..50),
    ) {
        let nodes = if daemons { usize::try_from(replicas).unwrap() } else { 3 };
        let mut model = gated(nodes);
        let (app, key) = if daemons {
            let rolling = if surges { json!({"maxUnavailable": 0, "maxSurge": limit}) } else { json!({"maxUnavailable": limit}) };
            ("every", daemon(&mut model, &json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}})))
        } else {
            let policy = if parallel { "Parallel" } else { "OrderedReady" };
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": limit}});
            ("db", stateful(&mut model, replicas, json!({"podManagementPolicy": policy, "updateStrategy": strategy})))
        };
        model.settle();
        model.set_image(&key, "image:2");
        let least = if daemons && surges { replicas } else { (replicas - limit).max(0) };
        let most = if daemons && surges { replicas + limit } else { replicas };
        for (which, after) in chances {
            for step in model.plan().steps.iter().take(after) {
                prop_assert!(model.commit(&step.transaction), "{}", step.why);
                let (ready, all) = (ready(&model, app) as i64, model.active(app).count() as i64);
                prop_assert!(ready >= least, "{ready} ready, {least} wanted after {}", step.why);
                prop_assert!(all <= most, "{all} pods, {most} allowed after {}", step.why);
            }
            let pod = model.pods().nth(which).map(|(key, _)| key.clone());
            pod.map(|key| model.agent(&key));
            model.now += jiff::SignedDuration::from_secs(1);
        }
        model.settle();
        prop_assert_eq!(ready(&model, app) as i64, replicas);
        prop_assert!(model.pods().all(|(_, pod)| pod["spec"]["containers"][0]["image"] == "image:2"));
    }
}
