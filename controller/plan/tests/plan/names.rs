//! A pod's name is never given twice, and no plan makes up for the same pods as another.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;
use warren_state::{Key, Write};
use warren_vocabulary::resources::*;

use crate::model::Model;

fn names(model: &Model) -> BTreeSet<String> {
    model.pods().map(|(key, _)| key.name.to_string()).collect()
}

#[test]
fn scaling_and_deleting_never_bring_a_name_back() {
    let mut model = Model::new(2);
    let key = model.deployment("web", 3, json!({}));
    let (mut ever, mut made) = (BTreeSet::new(), 0);
    let mut settle = |model: &mut Model| {
        let before = names(model);
        model.settle();
        let fresh: Vec<String> = names(model).difference(&before).cloned().collect();
        made += fresh.len();
        ever.extend(fresh);
        assert_eq!(ever.len(), made, "a name came back");
    };
    settle(&mut model);
    for replicas in [0, 3, 1, 4, 0, 3] {
        model.change(&key, |value| value["spec"]["replicas"] = replicas.into());
        settle(&mut model);
    }
    for _ in 0..20 {
        let pod = model.pods().next().map(|(key, _)| key.clone()).unwrap();
        model.remove(&pod);
        settle(&mut model);
    }
    assert_eq!(names(&model).len(), 3);
    for (pod, value) in model.pods() {
        let suffix = pod.name.strip_prefix(value["metadata"]["generateName"].as_str().unwrap()).unwrap();
        assert_eq!(suffix.len(), 5);
        assert!(suffix.chars().all(|letter| "bcdfghjklmnpqrstvwxz2456789".contains(letter)), "{suffix}");
    }
}

#[test]
fn a_long_name_is_cut_as_kubernetes_cuts_it() {
    let mut model = Model::new(1);
    let name = "a".repeat(200);
    model.deployment(&name, 1, json!({}));
    model.settle();
    let pod = names(&model).pop_first().unwrap();
    assert_eq!(pod.len(), 63);
    assert!(pod.starts_with(&"a".repeat(58)), "{pod}");
}

/// The plan as it was made, and again from a world in which something else has happened since.
#[test]
fn an_older_plan_makes_nothing_twice() {
    let mut model = Model::new(2);
    let key = model.deployment("web", 1, json!({}));
    model.settle();
    model.change(&key, |value| value["spec"]["replicas"] = 4.into());
    while !model.plan().steps.iter().any(|step| creates(&step.transaction)) {
        model.pass();
    }
    let first = model.plan();
    model.put(CONFIGMAPS, "default", json!({"metadata": {"name": "unrelated"}}));
    let second = model.plan();
    let create = |plan: &warren_plan::Plan| {
        plan.steps.iter().map(|step| step.transaction.clone()).find(creates).expect("makes pods")
    };
    assert!(model.commit(&create(&first)));
    assert!(!model.commit(&create(&first)), "a replay");
    assert!(!model.commit(&create(&second)), "another plan for the same pods");
    model.settle();
    assert_eq!(model.active("web").count(), 4);
}

fn creates(transaction: &warren_state::Transaction) -> bool {
    transaction.writes.iter().any(|write| matches!(write, Write::Put(key, _) if &*key.resource == PODS))
        && transaction
            .writes
            .iter()
            .any(|write| matches!(write, Write::Put(key, _) if &*key.resource == REPLICASETS))
}

#[test]
fn a_number_that_nobody_can_run_does_not_fill_the_memory() {
    let mut model = Model::new(0);
    let key = model.deployment("web", i64::from(i32::MAX), json!({}));
    model.settle();
    assert_eq!(model.pods().count(), 500);
    let set = model.list(REPLICASETS).next().unwrap().0.name.to_string();
    assert!(model.told(&set).contains("FailedCreate"), "{:?}", model.told(&set));
    assert_eq!(model.get(&key)["status"]["replicas"], 500);
    // As nodes come, more pods are made; nobody counts in vain.
    model.node(1, "4", "8Gi", "10");
    model.settle();
    assert_eq!(model.pods().filter(|(_, pod)| !pod["spec"]["nodeName"].is_null()).count(), 10);
    assert_eq!(model.pods().count(), 510);
}

#[test]
fn large_templates_wait_in_smaller_numbers() {
    let mut model = Model::new(0);
    let key = model.deployment("web", 400, json!({}));
    model.change(&key, |value| {
        value["spec"]["template"]["metadata"]["annotations"]["large"] = "x".repeat(1 << 20).into();
    });
    model.settle();
    assert!((32..=64).contains(&model.pods().count()), "{}", model.pods().count());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Wherever the controller dies, and however often, it ends with the wanted number of pods.
    #[test]
    fn a_crash_between_commits_makes_no_pod_twice(crashes in proptest::collection::vec((0..6usize, 0..9i64), 1..12)) {
        let mut model = Model::new(3);
        let key = model.deployment("web", 2, json!({}));
        let mut ever = BTreeSet::new();
        for (after, replicas) in crashes {
            model.change(&key, |value| value["spec"]["replicas"] = replicas.into());
            for step in model.plan().steps.iter().take(after) {
                let before = names(&model);
                prop_assert!(model.commit(&step.transaction), "{}", step.why);
                for name in names(&model).difference(&before) {
                    prop_assert!(ever.insert(name.clone()), "{name} was there before");
                }
                let set = model.list(REPLICASETS).next().map(|(_, set)| set["spec"]["replicas"].as_i64().unwrap());
                prop_assert!(model.active("web").count() as i64 <= set.unwrap_or(0).max(9));
            }
        }
        model.settle();
        let wanted = model.get(&Key::new(DEPLOYMENTS, "default", "web"))["spec"]["replicas"].as_u64();
        prop_assert_eq!(Some(model.active("web").count() as u64), wanted);
    }
}
