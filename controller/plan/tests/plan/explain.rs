//! Why a pod is where it is, or nowhere.

use serde_json::{Value, json};
use warren_plan::{Explanation, Lack, Planner, Preemption, Verdict};
use warren_state::Key;
use warren_vocabulary::{guard::Unwatched, resources::*};

use crate::{
    affinity::{HOST, ZONE, zones},
    model::Model,
    scheduling::{asking, offer, pod},
};

fn explain(model: &Model, key: &Key) -> Explanation {
    warren_plan::explain(&model.world(), key, model.now).unwrap()
}

fn refusals(explanation: &Explanation) -> Vec<(&str, Vec<&str>)> {
    let all = explanation.nodes.iter().filter_map(|verdict| match &verdict.verdict {
        Verdict::Refuses(all) => Some((&*verdict.node, all.iter().map(|why| &*why.reason).collect())),
        Verdict::Fits(_) => None,
    });
    all.collect()
}

#[test]
fn each_node_says_why_it_refuses_a_pod() {
    let mut model = zones(&["a", "a", "b", "b", "c"]);
    let node = |index: usize| Key::new(NODES, "", &format!("node-{index}"));
    model.change(&node(1), |value| value["spec"]["unschedulable"] = true.into());
    model.change(&node(2), |value| value["status"]["allocatable"]["cpu"] = "100m".into());
    model.change(&node(2), |value| value["status"]["allocatable"]["memory"] = "1Mi".into());
    let ports = json!([{"containerPort": 80, "hostPort": 80}]);
    pod(
        &mut model,
        "taken",
        json!({"nodeName": "node-3", "containers": [{"name": "c", "image": "i", "ports": ports}]}),
    );
    pod(&mut model, "web", json!({"nodeName": "node-4"}));
    model.settle();
    let containers = json!([{"name": "c", "image": "i", "ports": ports,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]);
    let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": HOST}]}});
    let spread = json!([{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "picky"}}}]);
    let spec = json!({"containers": containers, "affinity": apart});
    let key = pod(&mut model, "picky", spec);
    let explanation = explain(&model, &key);
    assert_eq!(
        refusals(&explanation),
        [
            ("node-1", vec!["node(s) were unschedulable"]),
            ("node-2", vec!["Insufficient cpu", "Insufficient memory"]),
            ("node-3", vec!["node(s) didn't have free ports for the requested pod ports"]),
            ("node-4", vec!["node(s) didn't match pod anti-affinity rules"]),
        ]
    );
    let filters = explanation.nodes.iter().flat_map(|verdict| match &verdict.verdict {
        Verdict::Refuses(all) => all.iter().map(|why| (why.filter, why.lack.as_ref())).collect(),
        Verdict::Fits(_) => Vec::new(),
    });
    let lack = |of: &str, requested: &str, taken: &str, allocatable: &str| Lack {
        resource: of.into(),
        requested: requested.into(),
        taken: taken.into(),
        allocatable: allocatable.into(),
    };
    assert_eq!(
        filters.collect::<Vec<_>>(),
        [
            ("NodeUnschedulable", None),
            ("NodeResourcesFit", Some(&lack("cpu", "1", "0", "100m"))),
            ("NodeResourcesFit", Some(&lack("memory", "1Gi", "0", "1Mi"))),
            ("NodePorts", None),
            ("InterPodAffinity", None),
        ]
    );
    assert_eq!((explanation.nodes[0].node.as_str(), &explanation.preemption), ("node-5", &None));
    assert_eq!(explanation.message, None, "there is a node for it");
    model.change(&key, |value| value["spec"]["topologySpreadConstraints"] = spread);
    let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
    assert!(refusals(&explain(&model, &key)).contains(&("node-5", vec![reason])));
}

#[test]
fn the_parts_of_a_score_are_said_and_the_best_node_is_the_one_that_is_taken() {
    let mut model = zones(&["a", "b", "c"]);
    model.change(&Key::new(NODES, "", "node-3"), |node| {
        node["spec"]["taints"] = json!([{"key": "mine", "effect": "PreferNoSchedule"}]);
        node["status"]["images"] = json!([{"names": ["large:latest"], "sizeBytes": 4_000_000_000i64}]);
    });
    pod(&mut model, "web", json!({"nodeName": "node-1"}));
    model.settle();
    let affinity = json!({
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 20, "preference":
            {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["b"]}]}}]},
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm":
            {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": ZONE}}]}});
    let spread = json!([{"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]);
    let containers =
        json!([{"name": "c", "image": "large", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]);
    let spec = json!({"containers": containers, "affinity": affinity, "topologySpreadConstraints": spread});
    let key = pod(&mut model, "picky", spec);
    let explanation = explain(&model, &key);
    let scores: Vec<_> = explanation
        .nodes
        .iter()
        .map(|verdict| match &verdict.verdict {
            Verdict::Fits(score) => (&*verdict.node, score.clone()),
            Verdict::Refuses(reasons) => panic!("{reasons:?}"),
        })
        .collect();
    let names: Vec<_> = scores.iter().map(|(node, _)| *node).collect();
    assert_eq!(names, ["node-2", "node-1", "node-3"]);
    let parts: Vec<_> = scores
        .iter()
        .map(|(_, score)| {
            (score.load, score.taints, score.preferences, score.spread, score.company, score.images < 0)
        })
        .collect();
    assert_eq!(
        parts,
        [
            (("cpu", 250_000), 0, -200_000, 0, 0, false),
            (("cpu", 275_000), 0, 0, 200_000, -100_000, false),
            (("cpu", 250_000), 2_000_000, 0, 0, 0, true),
        ]
    );
    for (node, score) in &scores {
        let sum = score.load.1
            + score.size
            + score.siblings
            + score.taints
            + score.preferences
            + score.spread
            + score.company
            + score.images;
        assert_eq!(score.cost, sum, "{node}");
    }
    model.settle();
    assert_eq!(model.get(&key)["spec"]["nodeName"], names[0]);
    // Of one that has a node, it is as if it came again.
    let after = explain(&model, &key);
    assert_eq!(after.nodes, explanation.nodes);
    assert_eq!(after.node.as_deref(), Some("node-2"));
}

#[test]
fn who_waits_for_something_else_is_told() {
    let mut model = Model::new(1);
    let gated = pod(&mut model, "gated", json!({"schedulingGates": [{"name": "mine"}]}));
    let other = pod(&mut model, "other", json!({"schedulerName": "mine"}));
    let claim = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "none"}}]);
    let claiming = pod(&mut model, "claiming", json!({"volumes": claim}));
    let waits = |model: &Model, key: &Key| -> Vec<(&str, String)> {
        explain(model, key).waits.into_iter().map(|wait| (wait.reason, wait.message)).collect()
    };
    let gates = "Scheduling is blocked due to non-empty scheduling gates: mine".to_owned();
    assert_eq!(waits(&model, &gated), [("SchedulingGated", gates)]);
    assert_eq!(waits(&model, &other), [("OtherScheduler", "it waits for the scheduler \"mine\"".to_owned())]);
    let unclaimed = "persistentvolumeclaim \"none\" not found".to_owned();
    assert_eq!(waits(&model, &claiming), [("Claims", unclaimed)]);
    let explanation = explain(&model, &claiming);
    let message = "0/1 nodes are available: persistentvolumeclaim \"none\" not found.";
    assert_eq!((explanation.message.as_deref(), explanation.preemption), (Some(message), None));
    assert!(explain(&model, &gated).message.is_none() && explain(&model, &other).message.is_none());
    model.change(&gated, |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    model.change(&Key::new(NAMESPACES, "", "default"), |namespace| {
        namespace["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        namespace["status"]["phase"] = "Terminating".into();
    });
    let reasons: Vec<_> = waits(&model, &gated).into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["NamespaceTerminating", "Deleting"]);
    assert!(warren_plan::explain(&model.world(), &Key::new(PODS, "default", "none"), model.now).is_none());
}

#[test]
fn a_pod_that_is_set_aside_waits_for_the_operator() {
    let mut model = Model::new(1);
    let key = pod(&mut model, "web", json!({}));
    let mut world = model.world();
    let (rest, quarantined) = world.snapshot.without([&key]);
    (world.snapshot, world.quarantined) = (rest.into(), quarantined);
    let explanation = warren_plan::explain(&world, &key, model.now).unwrap();
    assert_eq!(explanation.waits[0].reason, "SetAside");
    assert!(explanation.nodes.is_empty());
}

#[test]
fn what_is_explained_is_what_the_pod_and_its_event_are_told() {
    let mut model = zones(&["a", "a", "b"]);
    model.change(&Key::new(NODES, "", "node-3"), |node| {
        node["spec"]["taints"] = json!([{"key": "mine", "value": "x", "effect": "NoSchedule"}]);
    });
    let key = pod(&mut model, "large", json!({"containers": asking("cpu", "1000")}));
    let before = explain(&model, &key);
    model.settle();
    let told = crate::model::condition(model.get(&key), "PodScheduled")["message"].as_str().unwrap();
    assert_eq!(
        told,
        "0/3 nodes are available: 1 node(s) had untolerated taint {mine: x}, 2 Insufficient cpu. preemption: 0/3 \
         nodes are available: 3 Preemption is not helpful for scheduling."
    );
    assert_eq!(before.message.as_deref(), Some(told));
    let event = model.list(EVENTS).find(|(_, event)| event["reason"] == "FailedScheduling").unwrap().1;
    assert_eq!((event["message"].as_str(), &event["action"]), (Some(told), &json!("Scheduling")));
    assert_eq!(explain(&model, &key), before);
}

#[test]
fn a_planner_explains_with_what_it_knows_already_as_it_would_afresh() {
    let mut model = zones(&["a", "b"]);
    let large = pod(&mut model, "large", json!({"containers": asking("cpu", "1000")}));
    pod(&mut model, "web", json!({"nodeName": "node-1"}));
    let world = model.world();
    let mut planner = Planner::default();
    planner.plan(&world, model.now, &Unwatched);
    let known = planner.explain(&world, &large, model.now);
    assert_eq!(known, warren_plan::explain(&world, &large, model.now));
    assert_eq!(known.unwrap().nodes.len(), 2);
    // Of another world it knows nothing, and does not pretend to.
    model.remove(&Key::new(NODES, "", "node-2"));
    assert_eq!(planner.explain(&model.world(), &large, model.now).unwrap().nodes.len(), 1);
}

#[test]
fn who_would_make_room_is_named() {
    let mut model = Model::new(1);
    offer(&mut model, 1, "example.com/x", "1");
    let sized = |priority: i32| -> Value {
        json!({"containers": asking("example.com/x", "1"), "priority": priority})
    };
    let low = pod(&mut model, "low", sized(1));
    model.settle();
    let equal = pod(&mut model, "equal", sized(1));
    let high = pod(&mut model, "high", sized(2));
    assert_eq!(
        explain(&model, &high).preemption,
        Some(Preemption::Possible { node: "node-1".into(), victims: vec![low] })
    );
    let none = "0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    assert_eq!(explain(&model, &equal).preemption, Some(Preemption::Impossible(none.into())));
    model.pass();
    assert_eq!(explain(&model, &high).nominated.as_deref(), Some("node-1"));
}
