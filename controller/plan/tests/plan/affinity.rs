//! Pods that must be near others, or far from them.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::Model,
    scheduling::{pod, refusal},
};

pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
pub(crate) const HOST: &str = "kubernetes.io/hostname";

/// A cluster whose nodes are in these zones.
pub(crate) fn zones(zones: &[&str]) -> Model {
    let mut model = Model::new(zones.len());
    for (index, zone) in zones.iter().enumerate() {
        let key = Key::new(NODES, "", &format!("node-{}", index + 1));
        if !zone.is_empty() {
            model.change(&key, |node| node["metadata"]["labels"][ZONE] = (*zone).into());
        }
    }
    model.settle();
    model
}

fn term(app: &str, topology: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology})
}

fn near(terms: Value) -> Value {
    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn far(terms: Value) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn on(node: usize) -> Value {
    json!({"nodeSelector": {HOST: format!("node-{node}")}})
}

fn with(mut spec: Value, more: Value) -> Value {
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

fn node_of<'m>(model: &'m Model, key: &Key) -> &'m str {
    model.get(key)["spec"]["nodeName"].as_str().unwrap_or("")
}

fn why(model: &Model, key: &Key) -> String {
    refusal(model, key).split(" preemption: ").next().unwrap().to_owned()
}

#[test]
fn a_pod_goes_where_its_company_is() {
    let mut model = zones(&["a", "a", "b", "b"]);
    let web = pod(&mut model, "web", on(3));
    model.settle();
    let same_node = pod(&mut model, "same-node", near(json!([term("web", HOST)])));
    let same_zone = pod(&mut model, "same-zone", near(json!([term("web", ZONE)])));
    let nowhere = pod(&mut model, "nowhere", near(json!([term("db", ZONE)])));
    model.settle();
    assert_eq!(node_of(&model, &web), "node-3");
    assert_eq!(node_of(&model, &same_node), "node-3");
    assert!(["node-3", "node-4"].contains(&node_of(&model, &same_zone)));
    assert_eq!(
        refusal(&model, &nowhere),
        "0/4 nodes are available: 4 node(s) didn't match pod affinity rules. \
         preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    );
    // When its company comes, it follows.
    let db = pod(&mut model, "db", on(1));
    model.settle();
    assert_eq!(node_of(&model, &db), "node-1");
    assert!(["node-1", "node-2"].contains(&node_of(&model, &nowhere)));
}

#[test]
fn company_that_comes_in_the_same_pass_counts() {
    for topology in [HOST, ZONE] {
        let mut model = zones(&["a", "b", "c"]);
        let first = pod(&mut model, "a-web", with(on(2), json!({"priority": 1})));
        model.change(&first, |pod| pod["metadata"]["labels"]["app"] = "web".into());
        let keys: Vec<_> = (0..3)
            .map(|index| pod(&mut model, &format!("near-{index}"), near(json!([term("web", topology)]))))
            .collect();
        model.pass();
        for key in &keys {
            assert_eq!(node_of(&model, key), "node-2", "{topology}");
        }
    }
}

#[test]
fn the_first_of_its_kind_is_its_own_company() {
    let mut model = zones(&["a", "a", "b", "b", ""]);
    let together = near(json!([term("web", ZONE)]));
    let keys: Vec<_> = (0..4)
        .map(|index| {
            let key = pod(&mut model, &format!("web-{index}"), together.clone());
            model.change(&key, |pod| pod["metadata"]["labels"]["app"] = "web".into());
            key
        })
        .collect();
    model.settle();
    let zones: Vec<_> = keys
        .iter()
        .map(|key| {
            let node = Key::new(NODES, "", node_of(&model, key));
            model.get(&node)["metadata"]["labels"][ZONE].clone()
        })
        .collect();
    assert!(zones.iter().all(|zone| *zone == zones[0] && zone.is_string()), "{zones:?}");
}

#[test]
fn all_of_the_company_counts_together() {
    let mut model = zones(&["a", "b"]);
    let part = |model: &mut Model, name: &str, labels: Value, node: usize| {
        let key = pod(model, name, on(node));
        model.change(&key, |pod| pod["metadata"]["labels"] = labels);
    };
    part(&mut model, "half", json!({"app": "web"}), 1);
    part(&mut model, "other-half", json!({"tier": "front"}), 1);
    part(&mut model, "whole", json!({"app": "web", "tier": "front"}), 2);
    let tier = json!({"labelSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, "topologyKey": ZONE});
    let key = pod(&mut model, "picky", near(json!([term("web", HOST), tier])));
    model.settle();
    assert_eq!(node_of(&model, &key), "node-2", "one pod must be all that is wanted");
}

#[test]
fn pods_that_must_be_far_from_each_other_take_a_node_each() {
    let mut model = zones(&["a", "a", "b"]);
    let deployment = model.deployment("web", 4, json!({}));
    model.change(&deployment, |value| {
        value["spec"]["template"]["spec"]["affinity"] = far(json!([term("web", HOST)]))["affinity"].clone();
    });
    model.settle();
    assert_eq!(model.spread("web"), [1, 1, 1]);
    let pending = model.active("web").find(|(_, pod)| pod["spec"]["nodeName"].is_null()).unwrap().0.clone();
    assert_eq!(
        refusal(&model, &pending),
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. \
         preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
    );
    model.node(4, "4", "8Gi", "110");
    model.settle();
    assert_eq!(model.spread("web"), [1, 1, 1, 1]);
}

#[test]
fn those_who_are_there_keep_others_away() {
    let mut model = zones(&["a", "a", "b"]);
    let lonely = pod(&mut model, "lonely", with(on(1), far(json!([term("web", ZONE)]))));
    model.settle();
    let web = pod(&mut model, "web", json!({}));
    let other = pod(&mut model, "other", on(2));
    model.settle();
    assert_eq!(node_of(&model, &lonely), "node-1");
    assert_eq!(node_of(&model, &web), "node-3");
    assert_eq!(node_of(&model, &other), "node-2", "it is not about him");
    // Those who come in the same pass, too.
    model.remove(&lonely);
    model.remove(&web);
    let lonely = pod(&mut model, "lonely", with(far(json!([term("web", ZONE)])), json!({"priority": 5})));
    let webs: Vec<_> = (0..2)
        .map(|index| {
            let key = pod(&mut model, &format!("web-{index}"), json!({}));
            model.change(&key, |pod| pod["metadata"]["labels"]["app"] = "web".into());
            key
        })
        .collect();
    let cornered = pod(&mut model, "web", with(near(json!([term("lonely", HOST)])), json!({})));
    model.pass();
    let zone_of = |node: &str| if node == "node-3" { "b" } else { "a" };
    let hers = zone_of(node_of(&model, &lonely));
    for web in &webs {
        assert_ne!(zone_of(node_of(&model, web)), hers);
    }
    let said = why(&model, &cornered);
    assert!(said.contains("1 node(s) didn't satisfy existing pods anti-affinity rules"), "{said}");
    assert!(said.contains("2 node(s) didn't match pod affinity rules"), "{said}");
}

#[test]
fn a_node_without_the_label_is_far_from_all_and_near_nobody() {
    let mut model = zones(&["a", ""]);
    pod(&mut model, "web", on(1));
    model.settle();
    let apart = pod(&mut model, "apart", far(json!([term("web", ZONE)])));
    let together = pod(&mut model, "together", with(near(json!([term("web", ZONE)])), on(2)));
    model.settle();
    assert_eq!(node_of(&model, &apart), "node-2");
    let said = why(&model, &together);
    assert_eq!(
        said,
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod \
         affinity rules."
    );
}

#[test]
fn namespaces_are_named_or_chosen_by_their_labels() {
    let mut model = zones(&["a", "b"]);
    for (name, team) in [("shop", "one"), ("bank", "two")] {
        model.namespace(name);
        model.change(&Key::new(NAMESPACES, "", name), |value| {
            value["metadata"]["labels"] = json!({"team": team})
        });
    }
    let web = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "node-2"}, "status": {"phase": "Pending"},
    });
    model.put(PODS, "shop", web);
    model.settle();
    let scoped = |scope: Value| with(term("web", HOST), scope);
    let cases = [
        (json!({}), false),
        (json!({"namespaces": ["shop"]}), true),
        (json!({"namespaces": ["bank"]}), false),
        (json!({"namespaceSelector": {}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "one"}}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "two"}}}), false),
        (json!({"namespaces": ["shop"], "namespaceSelector": {"matchLabels": {"team": "two"}}}), true),
    ];
    for (index, (scope, found)) in cases.into_iter().enumerate() {
        let near = pod(&mut model, &format!("near-{index}"), near(json!([scoped(scope.clone())])));
        let far = pod(&mut model, &format!("far-{index}"), with(far(json!([scoped(scope.clone())])), on(2)));
        model.settle();
        assert_eq!(node_of(&model, &near) == "node-2", found, "{scope}");
        assert_eq!(node_of(&model, &far).is_empty(), found, "{scope}");
        model.remove(&near);
        model.remove(&far);
    }
    // The other way round: who is there keeps away a pod of a namespace by its labels.
    let lonely = far(json!([scoped(json!({"namespaceSelector": {"matchLabels": {"team": "two"}}}))]));
    pod(&mut model, "lonely", with(lonely, on(1)));
    model.settle();
    let bank = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeSelector": {HOST: "node-1"}},
        "status": {"phase": "Pending"},
    });
    let bank = model.put(PODS, "bank", bank);
    model.settle();
    assert_eq!(node_of(&model, &bank), "");
    model.change(&Key::new(NAMESPACES, "", "bank"), |value| {
        value["metadata"]["labels"] = json!({"team": "three"})
    });
    model.settle();
    assert_eq!(node_of(&model, &bank), "node-1", "the namespace is another now");
}

#[test]
fn keys_of_labels_narrow_the_company() {
    let mut model = zones(&["a", "b"]);
    let labelled = |model: &mut Model, name: &str, version: &str, spec: Value| {
        let key = pod(model, name, spec);
        model.change(&key, |pod| pod["metadata"]["labels"] = json!({"app": "web", "version": version}));
        key
    };
    labelled(&mut model, "old", "1", on(1));
    labelled(&mut model, "new", "2", on(2));
    model.settle();
    let narrowed = |keys: Value| json!([with(term("web", HOST), keys)]);
    let same = narrowed(json!({"matchLabelKeys": ["version"]}));
    let same = labelled(&mut model, "same", "2", near(same));
    let other = narrowed(json!({"mismatchLabelKeys": ["version"]}));
    let other = labelled(&mut model, "other", "2", near(other));
    model.settle();
    assert_eq!(node_of(&model, &same), "node-2");
    assert_eq!(node_of(&model, &other), "node-1");
}

#[test]
fn a_label_that_changes_lets_a_pod_in() {
    let mut model = zones(&["a"]);
    let web = pod(&mut model, "web", json!({}));
    model.settle();
    let apart = pod(&mut model, "apart", far(json!([term("web", HOST)])));
    model.settle();
    assert_eq!(node_of(&model, &apart), "");
    model.change(&web, |pod| pod["metadata"]["labels"]["app"] = "none".into());
    model.settle();
    assert_eq!(node_of(&model, &apart), "node-1");
}

#[test]
fn those_who_matter_less_go_when_they_are_in_the_way_of_a_wish() {
    let mut model = zones(&["a"]);
    let low = pod(&mut model, "low", json!({"priority": 1}));
    let other = pod(&mut model, "other", json!({"priority": 1}));
    model.settle();
    let high = pod(&mut model, "high", with(far(json!([term("low", HOST)])), json!({"priority": 9})));
    model.settle();
    assert_eq!(node_of(&model, &high), "node-1");
    assert!(!model.objects.contains_key(&low));
    assert_eq!(node_of(&model, &other), "node-1", "nobody else had to go");
}
