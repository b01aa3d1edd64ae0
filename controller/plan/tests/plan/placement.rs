//! Whatever pods ask of their nodes and of each other: who gets a node fits there, who gets none fits nowhere, and what was
//! planned for what was touched is what would be planned afresh.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use warren_state::{Key, Write};
use warren_vocabulary::resources::*;

use crate::{
    affinity::{HOST, ZONE},
    model::{Model, condition, has_ended, is_deleting},
};

const APPS: [&str; 4] = ["web", "db", "job", "cache"];
const BUDGETS: &str = "poddisruptionbudgets.policy";

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Pod { number: u8, app: usize, shape: u8, topology: usize, other: usize, priority: i32 },
    Remove { which: usize },
    Delete { which: usize },
    Relabel { which: usize, app: usize },
    Zone { node: usize, zone: usize },
    Team { shop: bool, team: usize },
    Close { node: usize, closed: bool },
    Budget { app: usize, allowed: i64 },
    Ungate { which: usize },
    Plan { steps: usize },
    Agents,
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let app = || 0..APPS.len();
    prop_oneof![
        8 => (0..12u8, app(), 0..16u8, 0..2usize, app(), 0..3i32).prop_map(
            |(number, app, shape, topology, other, priority)| Event::Pod { number, app, shape, topology, other, priority }
        ),
        1 => (0..16usize).prop_map(|which| Event::Remove { which }),
        1 => (0..16usize).prop_map(|which| Event::Delete { which }),
        3 => (0..16usize, app()).prop_map(|(which, app)| Event::Relabel { which, app }),
        1 => (1..5usize, 0..4usize).prop_map(|(node, zone)| Event::Zone { node, zone }),
        1 => (any::<bool>(), 0..2usize).prop_map(|(shop, team)| Event::Team { shop, team }),
        1 => (1..5usize, any::<bool>()).prop_map(|(node, closed)| Event::Close { node, closed }),
        1 => (app(), 0..2i64).prop_map(|(app, allowed)| Event::Budget { app, allowed }),
        1 => (0..16usize).prop_map(|which| Event::Ungate { which }),
        4 => (0..12usize).prop_map(|steps| Event::Plan { steps }),
        2 => Just(Event::Agents),
    ]
}

fn spec(app: usize, shape: u8, topology: usize, other: usize, priority: i32) -> Value {
    let topology = [HOST, ZONE][topology];
    let term = json!({"labelSelector": {"matchLabels": {"app": APPS[other]}}, "topologyKey": topology});
    let weighted = |term: &Value| json!([{"weight": 30, "podAffinityTerm": term}]);
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let spread = |when: &str, more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": topology, "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": APPS[app]}}});
        for (field, value) in more.as_object().unwrap() {
            constraint[field] = value.clone();
        }
        json!({"topologySpreadConstraints": [constraint]})
    };
    let mut spec = match shape {
        0 | 1 => json!({"affinity": {"podAntiAffinity": {required: [term]}}}),
        2 | 3 => json!({"affinity": {"podAffinity": {required: [term]}}}),
        4 => {
            let mut term = term;
            term["namespaceSelector"] = json!({"matchLabels": {"team": "1"}});
            json!({"affinity": {"podAntiAffinity": {required: [term]}}})
        }
        5 => json!({"affinity": {"podAffinity": {preferred: weighted(&term)}}}),
        6 => json!({"affinity": {"podAntiAffinity": {preferred: weighted(&term)}}}),
        7 | 8 => spread("DoNotSchedule", json!({})),
        9 => spread("DoNotSchedule", json!({"minDomains": 3})),
        10 => spread("ScheduleAnyway", json!({})),
        11 => {
            let mut spec = spread("DoNotSchedule", json!({}));
            spec["nodeSelector"] = json!({HOST: format!("node-{}", other % 4 + 1)});
            spec
        }
        12 => json!({"schedulingGates": [{"name": "mine"}]}),
        _ => json!({}),
    };
    let ports = if shape == 13 { json!([{"containerPort": 80, "hostPort": 80}]) } else { json!([]) };
    let cpu = if shape >= 14 { "1500m" } else { "300m" };
    spec["priority"] = priority.into();
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec["containers"] =
        json!([{"name": "c", "image": "i", "ports": ports, "resources": {"requests": {"cpu": cpu}}}]);
    spec
}

fn nth_pod(model: &Model, which: usize) -> Option<Key> {
    model.pods().nth(which).map(|(key, _)| key.clone())
}

pub(crate) fn occur(model: &mut Model, event: &Event) {
    match event {
        Event::Pod { number, app, shape, topology, other, priority } => {
            let namespace = if number % 4 == 0 { "shop" } else { "default" };
            let name = format!("pod-{number}");
            let shop = Key::new(NAMESPACES, "", "shop");
            if !model.objects.contains_key(&Key::new(PODS, namespace, &name))
                && (namespace == "default" || model.objects.contains_key(&shop))
            {
                let pod = json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": name, "labels": {"app": APPS[*app]}},
                    "spec": spec(*app, *shape, *topology, *other, *priority), "status": {"phase": "Pending"}});
                drop(model.put(PODS, namespace, pod));
            }
        }
        Event::Remove { which } => drop(nth_pod(model, *which).map(|key| model.remove(&key))),
        Event::Delete { which } => drop(nth_pod(model, *which).map(|key| model.delete_pod(&key))),
        Event::Relabel { which, app } => {
            if let Some(key) = nth_pod(model, *which) {
                model.change(&key, |pod| pod["metadata"]["labels"]["app"] = APPS[*app].into());
            }
        }
        Event::Zone { node, zone } => change_node(model, *node, |value| {
            value["metadata"]["labels"][ZONE] = ["a", "b", "c", "a"][*zone].into();
        }),
        Event::Team { shop, team } => {
            let key = Key::new(NAMESPACES, "", if *shop { "shop" } else { "default" });
            if model.objects.contains_key(&key) {
                model.change(&key, |value| value["metadata"]["labels"]["team"] = team.to_string().into());
            } else {
                model.namespace("shop");
            }
        }
        Event::Close { node, closed } => {
            change_node(model, *node, |value| value["spec"]["unschedulable"] = (*closed).into());
        }
        Event::Budget { app, allowed } => {
            let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"name": APPS[*app]},
                "spec": {"selector": {"matchLabels": {"app": APPS[*app]}}},
                "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
            drop(model.put(BUDGETS, "default", budget));
        }
        Event::Ungate { which } => {
            if let Some(key) = nth_pod(model, *which) {
                model
                    .change(&key, |pod| drop(pod["spec"].as_object_mut().unwrap().remove("schedulingGates")));
            }
        }
        Event::Plan { steps } => {
            for step in model.plan().steps.iter().take(*steps) {
                check(model, &step.transaction);
                assert!(model.commit(&step.transaction), "{}", step.why);
                model.check();
            }
        }
        Event::Agents => drop(model.agents()),
    }
}

fn change_node(model: &mut Model, node: usize, change: impl FnOnce(&mut Value)) {
    let key = Key::new(NODES, "", &format!("node-{node}"));
    if model.objects.contains_key(&key) {
        model.change(&key, change);
    }
}

/// A step that gives a pod a node gives it one that it fits on.
fn check(model: &Model, transaction: &warren_state::Transaction) {
    for write in &transaction.writes {
        let Write::Put(key, value) = write else { continue };
        let before = model.objects.get(key).map(|(_, value)| value);
        if let (PODS, Some(before), Some(node)) = (&*key.resource, before, value["spec"]["nodeName"].as_str())
            && before["spec"]["nodeName"].is_null()
        {
            assert_eq!(obstacle(model, key, node), None, "{key} on {node}");
        }
    }
}

/// Why a pod may not run on a node: read off the state, slowly and plainly.
fn obstacle(model: &Model, key: &Key, node: &str) -> Option<&'static str> {
    let pod = model.get(key);
    let place = model.get(&Key::new(NODES, "", node));
    let there: Vec<(&Key, &Value)> = model
        .pods()
        .filter(|(other, value)| *other != key && value["spec"]["nodeName"].is_string() && !has_ended(value))
        .collect();
    let here = || there.iter().filter(|(_, other)| other["spec"]["nodeName"] == node);
    if place["spec"]["unschedulable"] == true {
        return Some("unschedulable");
    }
    if condition(place, "Ready")["status"] != "True" {
        return Some("not ready");
    }
    let wanted = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    if wanted.into_iter().any(|(name, value)| place["metadata"]["labels"][name] != *value) {
        return Some("selector");
    }
    if !pod["spec"]["containers"][0]["ports"].as_array().unwrap().is_empty()
        && here().any(|(_, other)| !other["spec"]["containers"][0]["ports"].as_array().unwrap().is_empty())
    {
        return Some("ports");
    }
    let millis = |pod: &Value| {
        let text = pod["spec"]["containers"][0]["resources"]["requests"]["cpu"].as_str().unwrap();
        text.strip_suffix('m').unwrap().parse::<i64>().unwrap()
    };
    if here().map(|(_, other)| millis(other)).sum::<i64>() + millis(pod) > 4_000 {
        return Some("cpu");
    }
    for constraint in pod["spec"]["topologySpreadConstraints"].as_array().into_iter().flatten() {
        if constraint["whenUnsatisfiable"] == "DoNotSchedule"
            && !is_even(model, key, pod, node, constraint, &there)
        {
            return Some("spread");
        }
    }
    let same_domain = |topology: &str, other: &Value| {
        let label = |node: &Value| {
            model.get(&Key::new(NODES, "", node.as_str().unwrap()))["metadata"]["labels"][topology].clone()
        };
        let ours = &place["metadata"]["labels"][topology];
        ours.is_string() && *ours == label(&other["spec"]["nodeName"])
    };
    for term in terms(pod, "podAffinity") {
        let topology = term["topologyKey"].as_str().unwrap();
        let mut company = there.iter().filter(|(other, value)| is_about(model, key, &term, other, value));
        if place["metadata"]["labels"][topology].is_null() {
            return Some("no domain");
        }
        let alone = !there.iter().any(|(other, value)| {
            let domain = Key::new(NODES, "", value["spec"]["nodeName"].as_str().unwrap());
            is_about(model, key, &term, other, value)
                && model.get(&domain)["metadata"]["labels"][topology].is_string()
        });
        let first = alone && is_about(model, key, &term, key, pod);
        if !first && !company.any(|(_, other)| same_domain(topology, other)) {
            return Some("affinity");
        }
    }
    for term in terms(pod, "podAntiAffinity") {
        let topology = term["topologyKey"].as_str().unwrap();
        let mut foes = there.iter().filter(|(other, value)| is_about(model, key, &term, other, value));
        if foes.any(|(_, other)| same_domain(topology, other)) {
            return Some("anti-affinity");
        }
    }
    for (other, value) in &there {
        for term in terms(value, "podAntiAffinity") {
            let topology = term["topologyKey"].as_str().unwrap();
            if is_about(model, other, &term, key, pod) && same_domain(topology, value) {
                return Some("anti-affinity of others");
            }
        }
    }
    None
}

fn terms(pod: &Value, kind: &str) -> Vec<Value> {
    let terms = &pod["spec"]["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"];
    terms.as_array().cloned().unwrap_or_default()
}

/// Whether a term of one pod is about another.
fn is_about(model: &Model, owner: &Key, term: &Value, other: &Key, pod: &Value) -> bool {
    let team = &term["namespaceSelector"]["matchLabels"]["team"];
    let namespace = if team.is_null() {
        owner.namespace == other.namespace
    } else {
        let namespace = Key::new(NAMESPACES, "", &other.namespace);
        model.objects.get(&namespace).is_some_and(|(_, value)| value["metadata"]["labels"]["team"] == *team)
    };
    namespace && pod["metadata"]["labels"]["app"] == term["labelSelector"]["matchLabels"]["app"]
}

fn is_even(
    model: &Model,
    key: &Key,
    pod: &Value,
    node: &str,
    constraint: &Value,
    there: &[(&Key, &Value)],
) -> bool {
    let topology = constraint["topologyKey"].as_str().unwrap();
    let app = &constraint["labelSelector"]["matchLabels"]["app"];
    let selected = |node: &Value| {
        let wanted = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
        wanted.into_iter().all(|(name, value)| node["metadata"]["labels"][name] == *value)
    };
    let nodes: Vec<_> = model
        .list(NODES)
        .filter(|(_, node)| selected(node) && node["metadata"]["labels"][topology].is_string())
        .collect();
    let domains: BTreeSet<&str> =
        nodes.iter().filter_map(|(_, node)| node["metadata"]["labels"][topology].as_str()).collect();
    let count = |domain: &str| {
        let is_in = |value: &Value| {
            nodes.iter().any(|(name, node)| {
                value["spec"]["nodeName"] == *name.name && node["metadata"]["labels"][topology] == *domain
            })
        };
        let counts = |(other, value): &&(&Key, &Value)| {
            other.namespace == key.namespace
                && value["metadata"]["labels"]["app"] == *app
                && !is_deleting(value)
                && is_in(value)
        };
        there.iter().filter(counts).count()
    };
    let ours = &model.get(&Key::new(NODES, "", node))["metadata"]["labels"][topology];
    let Some(ours) = ours.as_str() else { return false };
    let fewest = domains.iter().map(|domain| count(domain)).min().unwrap_or(0);
    let least = usize::try_from(constraint["minDomains"].as_i64().unwrap_or(1)).unwrap();
    let fewest = if domains.len() < least { 0 } else { fewest };
    let itself = usize::from(pod["metadata"]["labels"]["app"] == *app);
    count(ours) + itself <= fewest + 1
}

/// Plans and commits, with every single step looked at, until nothing happens any more.
fn settle(model: &mut Model) {
    for _ in 0..200 {
        let plan = model.plan();
        assert!(plan.failures.is_empty(), "{:?}", plan.failures);
        for step in &plan.steps {
            check(model, &step.transaction);
            assert!(model.commit(&step.transaction), "{}", step.why);
            model.check();
        }
        model.now += jiff::SignedDuration::from_secs(1);
        if !model.agents() && plan.steps.is_empty() {
            return;
        }
    }
    panic!("does not come to rest");
}

/// Who has no node fits on none.
fn nobody_waits_in_vain(model: &Model) {
    for (key, pod) in model.pods() {
        let gated = pod["spec"]["schedulingGates"].is_array();
        if pod["spec"]["nodeName"].is_string() || gated || is_deleting(pod) {
            continue;
        }
        for (node, _) in model.list(NODES) {
            // Somebody who matters as much may wait there for others to go.
            let waits = |other: &Value| {
                other["status"]["nominatedNodeName"] == *node.name
                    && other["spec"]["nodeName"].is_null()
                    && other["spec"]["priority"].as_i64() >= pod["spec"]["priority"].as_i64()
            };
            let awaited = model.pods().any(|(other, value)| other != key && waits(value));
            let fits = obstacle(model, key, &node.name).is_none();
            assert!(!fits || awaited, "{key} would fit on {node}: {}", pod["status"]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 600, ..ProptestConfig::default() })]

    #[test]
    fn who_gets_a_node_fits_there_and_who_gets_none_fits_nowhere(
        zones in proptest::collection::vec(0..4usize, 4),
        events in proptest::collection::vec((event(), 0..3u8), 1..60),
    ) {
        let mut model = Model::new(4);
        for (node, zone) in zones.iter().enumerate() {
            if *zone < 3 {
                occur(&mut model, &Event::Zone { node: node + 1, zone: *zone });
            }
        }
        for (event, quiet) in &events {
            occur(&mut model, event);
            // What follows then is by itself what is touched.
            if *quiet == 0 {
                settle(&mut model);
            }
        }
        settle(&mut model);
        nobody_waits_in_vain(&model);
    }
}
