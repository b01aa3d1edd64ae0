//! What makes a node better than another, beside how full they are.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    affinity::{HOST, ZONE, zones},
    model::Model,
    scheduling::pod,
};

fn node_of<'m>(model: &'m Model, key: &Key) -> &'m str {
    model.get(key)["spec"]["nodeName"].as_str().unwrap_or("")
}

/// Takes so many thousandths of a core, of four, on a node.
fn fill(model: &mut Model, node: usize, millis: i64) {
    let containers =
        json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": format!("{millis}m")}}}]);
    pod(
        model,
        &format!("fill-{node}"),
        json!({"containers": containers, "nodeName": format!("node-{node}")}),
    );
    model.settle();
}

fn prefers_node(weight: i32, node: &str) -> Value {
    json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": weight, "preference": {"matchExpressions": [{"key": HOST, "operator": "In", "values": [node]}]}}]}}})
}

fn prefers_pods(kind: &str, weight: i32, app: &str, topology: &str) -> Value {
    json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm":
        {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology}}]}}})
}

#[test]
fn a_preference_for_a_node_outweighs_as_much_load_as_it_has_weight() {
    for (weight, node) in [(100, "node-1"), (60, "node-1"), (40, "node-2")] {
        let mut model = zones(&["", ""]);
        fill(&mut model, 1, 2_000);
        let key = pod(&mut model, "picky", prefers_node(weight, "node-1"));
        model.settle();
        assert_eq!(node_of(&model, &key), node, "{weight}");
    }
}

#[test]
fn greater_and_less_choose_nodes_by_number() {
    let mut model = zones(&["", "", ""]);
    for (node, slots) in [(1, "3"), (2, "10"), (3, "many")] {
        let key = Key::new(NODES, "", &format!("node-{node}"));
        model.change(&key, |value| value["metadata"]["labels"]["slots"] = slots.into());
    }
    for (operator, node) in [("Gt", "node-2"), ("Lt", "node-1")] {
        let wanted = json!({"key": "slots", "operator": operator, "values": ["5"]});
        let required = json!({"nodeSelectorTerms": [{"matchExpressions": [wanted]}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
        let key = pod(&mut model, &operator.to_lowercase(), json!({"affinity": affinity}));
        model.settle();
        assert_eq!(node_of(&model, &key), node, "{operator}");
    }
}

#[test]
fn pods_go_near_and_far_as_they_like() {
    for (kind, topology, there) in
        [("podAffinity", HOST, true), ("podAffinity", ZONE, true), ("podAntiAffinity", HOST, false)]
    {
        let mut model = zones(&["a", "b", "c"]);
        let web = pod(&mut model, "web", json!({"nodeName": "node-2"}));
        model.settle();
        let key = pod(&mut model, "fan", prefers_pods(kind, 50, "web", topology));
        model.settle();
        assert_eq!(node_of(&model, &key) == node_of(&model, &web), there, "{kind} {topology}");
    }
    // Where there is no choice, they go all the same.
    let mut model = zones(&["a"]);
    pod(&mut model, "web", json!({}));
    let key = pod(&mut model, "foe", prefers_pods("podAntiAffinity", 100, "web", HOST));
    model.settle();
    assert_eq!(node_of(&model, &key), "node-1");
}

#[test]
fn what_others_like_of_a_pod_counts_for_it() {
    for (kind, near) in [("podAffinity", true), ("podAntiAffinity", false)] {
        for topology in [HOST, ZONE] {
            let mut model = zones(&["a", "b", "c"]);
            let mut spec = prefers_pods(kind, 80, "web", topology);
            spec["nodeName"] = "node-1".into();
            pod(&mut model, "fan", spec);
            model.settle();
            let web = pod(&mut model, "web", json!({}));
            model.settle();
            assert_eq!(node_of(&model, &web) == "node-1", near, "{kind} {topology}");
        }
    }
}

#[test]
fn company_of_the_same_pass_attracts() {
    for topology in [HOST, ZONE] {
        let mut model = zones(&["a", "b", "c"]);
        let deployment = model.deployment("web", 3, json!({}));
        model.change(&deployment, |value| {
            value["spec"]["template"]["spec"]["affinity"] =
                prefers_pods("podAffinity", 100, "web", topology)["affinity"].clone();
        });
        model.settle();
        let mut spread = model.spread("web");
        spread.sort_unstable();
        assert_eq!(spread, [0, 0, 3], "{topology}");
    }
}

#[test]
fn an_even_spread_is_sought_where_it_is_not_demanded() {
    let names = ["a", "a", "a", "b"];
    let mut model = zones(&names);
    let deployment = model.deployment("web", 8, json!({}));
    model.change(&deployment, |value| {
        value["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": ZONE,
            "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    });
    model.settle();
    let spread = model.spread("web");
    assert_eq!(spread.iter().take(3).sum::<usize>(), 4, "{spread:?}");
    // But a zone that can take no more holds nobody back.
    model.change(&Key::new(NODES, "", "node-4"), |node| node["spec"]["unschedulable"] = true.into());
    model.change(&deployment, |value| value["spec"]["replicas"] = 12.into());
    model.settle();
    assert_eq!(model.spread("web")[3], 4);
    assert_eq!(model.spread("web").iter().sum::<usize>(), 12);
}

#[test]
fn few_pods_of_one_owner_are_in_different_zones_though_nobody_asks() {
    let mut model = zones(&["a", "a", "a", "b"]);
    fill(&mut model, 4, 500);
    model.deployment("web", 2, json!({}));
    model.settle();
    assert_eq!(model.spread("web")[3], 1, "{:?}", model.spread("web"));
}

#[test]
fn a_node_that_has_the_image_is_better() {
    let mut model = zones(&["", "", ""]);
    model.change(&Key::new(NODES, "", "node-3"), |node| {
        node["status"]["images"] =
            json!([{"names": ["docker.io/library/large:latest"], "sizeBytes": 2_000_000_000}]);
    });
    let image = |name: &str| json!({"containers": [{"name": "c", "image": name}]});
    let large = pod(&mut model, "large", image("large"));
    let other = pod(&mut model, "other", image("other"));
    model.settle();
    assert_eq!(node_of(&model, &large), "node-3");
    assert_eq!(node_of(&model, &other), "node-1");
}

#[test]
fn a_taint_that_only_asks_is_heeded_where_there_is_a_choice() {
    let mut model = zones(&["", ""]);
    model.change(&Key::new(NODES, "", "node-1"), |node| {
        node["spec"]["taints"] = json!([{"key": "mine", "effect": "PreferNoSchedule"}]);
    });
    fill(&mut model, 2, 3_000);
    let key = pod(&mut model, "any", json!({}));
    let tolerant = pod(&mut model, "tolerant", json!({"tolerations": [{"operator": "Exists"}]}));
    model.settle();
    assert_eq!(node_of(&model, &key), "node-2");
    assert_eq!(node_of(&model, &tolerant), "node-1");
}

#[test]
fn large_nodes_are_kept_for_large_pods() {
    let mut model = zones(&["", ""]);
    let key = Key::new(NODES, "", "node-2");
    model.change(&key, |value| {
        value["status"]["allocatable"]["cpu"] = "16".into();
        value["status"]["allocatable"]["memory"] = "32Gi".into();
    });
    fill(&mut model, 1, 400);
    let containers = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "3200m"}}}]);
    pod(&mut model, "fill-2", json!({"containers": containers, "nodeName": "node-2"}));
    model.settle();
    // With it the small node would be at 25 % and the large one at 24 %; but it is 15 % of the small one, and 4 % of the large.
    let containers =
        json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "600m", "memory": "1228Mi"}}}]);
    let key = pod(&mut model, "small", json!({"containers": containers}));
    model.settle();
    assert_eq!(node_of(&model, &key), "node-1");
}
