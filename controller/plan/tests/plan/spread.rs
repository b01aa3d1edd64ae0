//! Pods that are spread over the domains of a label.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    affinity::{HOST, ZONE, zones},
    model::Model,
    scheduling::{asking, offer, pod, refusal},
};

fn constraint(skew: i32, topology: &str, more: Value) -> Value {
    let mut constraint = json!({"maxSkew": skew, "topologyKey": topology, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}});
    for (field, value) in more.as_object().unwrap() {
        constraint[field] = value.clone();
    }
    constraint
}

fn spread_over(constraints: Value) -> Value {
    json!({"topologySpreadConstraints": constraints})
}

fn deployment(model: &mut Model, replicas: i64, spec: Value) -> Key {
    let key = model.deployment("web", replicas, json!({}));
    model.change(&key, |value| {
        for (field, part) in spec.as_object().unwrap() {
            value["spec"]["template"]["spec"][field] = part.clone();
        }
    });
    key
}

/// How many pods are in each zone of the first nodes.
fn by_zone(model: &Model, zones: &[&str]) -> Vec<usize> {
    let mut names: Vec<_> = zones.to_vec();
    names.sort_unstable();
    names.dedup();
    let spread = model.spread("web");
    let of = |name: &&str| {
        zones.iter().zip(&spread).filter(|(zone, _)| zone == &name).map(|(_, count)| count).sum()
    };
    names.iter().map(of).collect()
}

#[test]
fn pods_are_spread_evenly_over_zones_of_any_size() {
    let names = ["a", "a", "a", "a", "b"];
    let mut model = zones(&names);
    deployment(&mut model, 10, spread_over(json!([constraint(1, ZONE, json!({}))])));
    model.settle();
    assert_eq!(by_zone(&model, &names), [5, 5]);
}

#[test]
fn a_zone_that_is_full_holds_the_others_back() {
    let names = ["a", "b"];
    let mut model = zones(&names);
    offer(&mut model, 2, "pods", "2");
    deployment(&mut model, 8, spread_over(json!([constraint(1, ZONE, json!({}))])));
    model.settle();
    assert_eq!(by_zone(&model, &names), [3, 2]);
    let pending = model.active("web").find(|(_, pod)| pod["spec"]["nodeName"].is_null()).unwrap().0.clone();
    assert_eq!(
        refusal(&model, &pending),
        "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints. \
         preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    offer(&mut model, 2, "pods", "110");
    model.settle();
    assert_eq!(by_zone(&model, &names), [4, 4]);
}

#[test]
fn each_host_gets_its_share_when_the_last_has_caught_up() {
    let mut model = zones(&["a", "a", "b", "b"]);
    deployment(&mut model, 10, spread_over(json!([constraint(1, HOST, json!({}))])));
    model.settle();
    let mut spread = model.spread("web");
    spread.sort_unstable();
    assert_eq!(spread, [2, 2, 3, 3]);
}

#[test]
fn several_constraints_hold_at_once() {
    let names = ["a", "a", "a", "b", "b"];
    let mut model = zones(&names);
    let both = json!([constraint(1, ZONE, json!({})), constraint(2, HOST, json!({}))]);
    deployment(&mut model, 8, spread_over(both));
    model.settle();
    assert_eq!(by_zone(&model, &names), [4, 4]);
    assert!(model.spread("web").iter().all(|count| *count <= 2), "{:?}", model.spread("web"));
}

#[test]
fn a_node_without_the_label_takes_none() {
    let mut model = zones(&["a", "b", ""]);
    let everyone = json!([constraint(5, ZONE, json!({}))]);
    deployment(&mut model, 6, spread_over(everyone.clone()));
    model.settle();
    assert_eq!(model.spread("web")[2], 0);
    let mut spec = spread_over(everyone);
    spec["nodeSelector"] = json!({HOST: "node-3"});
    let lost = pod(&mut model, "lost", spec);
    model.settle();
    assert!(
        refusal(&model, &lost)
            .contains("1 node(s) didn't match pod topology spread constraints (missing required label)")
    );
}

#[test]
fn with_too_few_domains_the_fewest_count_as_none() {
    let names = ["a", "b"];
    let mut model = zones(&names);
    deployment(&mut model, 6, spread_over(json!([constraint(2, ZONE, json!({"minDomains": 3}))])));
    model.settle();
    assert_eq!(by_zone(&model, &names), [2, 2]);
    model.node(3, "4", "8Gi", "110");
    model.change(&Key::new(NODES, "", "node-3"), |node| node["metadata"]["labels"][ZONE] = "c".into());
    model.settle();
    assert_eq!(model.spread("web"), [2, 2, 2]);
}

#[test]
fn nodes_that_the_pod_may_not_run_on_count_if_it_says_so() {
    for (policy, together) in [(json!({}), 4), (json!({"nodeAffinityPolicy": "Ignore"}), 1)] {
        let mut model = zones(&["a", "b"]);
        let mut spec = spread_over(json!([constraint(1, ZONE, policy.clone())]));
        spec["nodeSelector"] = json!({ZONE: "a"});
        deployment(&mut model, 4, spec);
        model.settle();
        assert_eq!(model.spread("web"), [together, 0], "{policy}");
    }
    for (policy, together) in [(json!({}), 1), (json!({"nodeTaintsPolicy": "Honor"}), 4)] {
        let mut model = zones(&["a", "b"]);
        model.change(&Key::new(NODES, "", "node-2"), |node| {
            node["spec"]["taints"] = json!([{"key": "mine", "effect": "NoSchedule"}]);
        });
        deployment(&mut model, 4, spread_over(json!([constraint(1, ZONE, policy.clone())])));
        model.settle();
        assert_eq!(model.spread("web"), [together, 0], "{policy}");
    }
}

#[test]
fn a_rollout_spreads_its_own_pods_if_it_says_so() {
    let names = ["a", "b"];
    let mut model = zones(&names);
    let rolled = constraint(1, ZONE, json!({"matchLabelKeys": ["pod-template-hash"]}));
    let key = deployment(&mut model, 4, spread_over(json!([rolled])));
    model.settle();
    model.set_image(&key, "image:2");
    model.settle();
    assert_eq!(by_zone(&model, &names), [2, 2]);
}

#[test]
fn who_is_on_his_way_out_does_not_count() {
    let mut model = zones(&["a", "b"]);
    let spec = || spread_over(json!([constraint(1, ZONE, json!({}))]));
    let first = pod(&mut model, "first", spec());
    model.settle();
    model.change(&first, |pod| pod["metadata"]["finalizers"] = json!(["example.com/held"]));
    model.delete_pod(&first);
    let mut second = spec();
    second["nodeSelector"] = json!({HOST: model.get(&first)["spec"]["nodeName"]});
    let second = pod(&mut model, "second", second);
    model.settle();
    assert!(model.get(&second)["spec"]["nodeName"].is_string());
}

#[test]
fn as_many_go_as_an_even_spread_takes() {
    let resource = "example.com/fake";
    let mut model = zones(&["", ""]);
    for node in 1..=2 {
        model.change(&Key::new(NODES, "", &format!("node-{node}")), |value| {
            value["metadata"]["labels"]["mine"] = format!("{node}").into();
        });
        offer(&mut model, node, resource, "10");
    }
    let sized =
        |amount: &str, priority: i32| json!({"containers": asking(resource, amount), "priority": priority});
    let high = pod(&mut model, "high", sized("9", 1_000));
    model.settle();
    let low: Vec<_> = (0..3).map(|index| pod(&mut model, &format!("low-{index}"), sized("3", 1))).collect();
    model.settle();
    let mut spec = sized("3", 100);
    spec["topologySpreadConstraints"] = json!([constraint(1, "mine", json!({}))]);
    let medium = pod(&mut model, "medium", spec);
    model.settle();
    // One would have to go for its room; two for an even spread.
    assert!(model.get(&medium)["spec"]["nodeName"].is_string());
    assert_eq!(low.iter().filter(|key| model.objects.contains_key(key)).count(), 1);
    assert!(model.objects.contains_key(&high));
}
