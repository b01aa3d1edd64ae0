//! Whatever happens: no eviction leaves fewer healthy pods than are needed.

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};
use warren_objects::kinds::of;
use warren_state::Key;
use warren_vocabulary::{ClusterConfig, resources::*};
use warren_write::{Actor, Author, Gate, Intent, Operation, User, deletion::DeleteOptions};

use crate::{
    disruptions::{budget, counts},
    model::{Model, is_deleting, is_ready},
    sets::{gated, passes, plans},
};

#[derive(Debug, Clone)]
enum Step {
    Replicas(i64),
    Spec(usize),
    Ready(usize, bool),
    Image(u8),
    Evict(usize),
    Kill(usize),
    Passes(u8),
    Agent(usize),
    Commit(usize),
}

const SPECS: [&str; 6] = [
    r#"{"minAvailable": 2}"#,
    r#"{"minAvailable": "50%"}"#,
    r#"{"maxUnavailable": 1}"#,
    r#"{"maxUnavailable": "30%"}"#,
    r#"{"maxUnavailable": 0}"#,
    r#"{"minAvailable": "60%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}"#,
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..7i64).prop_map(Step::Replicas),
        1 => (0..SPECS.len()).prop_map(Step::Spec),
        2 => (0..8usize, any::<bool>()).prop_map(|(which, ready)| Step::Ready(which, ready)),
        1 => (1..3u8).prop_map(Step::Image),
        8 => (0..8usize).prop_map(Step::Evict),
        1 => (0..8usize).prop_map(Step::Kill),
        3 => (1..4u8).prop_map(Step::Passes),
        3 => (0..8usize).prop_map(Step::Agent),
        3 => (0..6usize).prop_map(Step::Commit),
    ]
}

fn spec(model: &mut Model, key: &Key, which: usize) {
    let mut spec: Value = serde_json::from_str(SPECS[which]).unwrap();
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    model.change(key, |value| value["spec"] = spec);
}

/// Evicts as the API does: whether the pod goes. It is what the budget says at that moment, or nothing is written.
fn evict(model: &mut Model, pod: &Key) -> bool {
    let (snapshot, user) = (model.world().snapshot, User::default());
    let (author, options) =
        (Author { actor: Actor::Client(&user), manager: "test" }, DeleteOptions::default());
    let (kind, now) = (of(PODS).unwrap(), model.now);
    let operation = Operation::Evict { old: snapshot.get(pod), options: &options, now };
    let gate = Gate::new(&ClusterConfig::default());
    let admitted = gate.admit(&snapshot, Intent { author, kind, key: pod, operation });
    match admitted {
        Ok(admitted) => {
            assert!(model.commit(&admitted.transaction));
            true
        }
        Err(refusal) => {
            assert_eq!(refusal.code, 429, "{refusal}");
            false
        }
    }
}

/// Healthy pods that stay.
fn healthy(model: &Model) -> i64 {
    i64::try_from(model.active("web").filter(|(_, pod)| is_ready(pod)).count()).unwrap()
}

fn set_ready(model: &mut Model, pod: &Key, ready: bool) {
    let runs = model.get(pod)["status"]["phase"] == "Running";
    if runs && !is_deleting(model.get(pod)) {
        let ready = if ready { "True" } else { "False" };
        model.change(pod, |pod| {
            for condition in pod["status"]["conditions"].as_array_mut().unwrap() {
                if condition["type"] == "Ready" {
                    condition["status"] = ready.into();
                }
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Whoever evicts, however often and between whichever commits: as long as the count is of what is there, no eviction
    /// of a healthy pod leaves fewer than are needed; and the count comes to what is there.
    #[test]
    fn evictions_never_leave_fewer_healthy_pods_than_are_needed(
        first in 0..SPECS.len(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut model = gated(3);
        let deployment = model.deployment("web", 5, json!({}));
        let key = budget(&mut model, "web", "web", json!({"minAvailable": 1}));
        spec(&mut model, &key, first);
        model.settle();
        for step in &steps {
            let pod = |model: &Model, which: usize| model.pods().nth(which).map(|(key, _)| key.clone());
            match step {
                Step::Replicas(count) => {
                    model.change(&deployment, |value| value["spec"]["replicas"] = (*count).into());
                }
                Step::Spec(which) => spec(&mut model, &key, *which),
                Step::Ready(which, ready) => {
                    if let Some(pod) = pod(&model, *which) {
                        set_ready(&mut model, &pod, *ready);
                        // Readiness is seen before the next eviction, as it is unless the planners lag.
                        plans(&mut model, 1);
                    }
                }
                Step::Image(image) => model.set_image(&deployment, &format!("image:{image}")),
                Step::Evict(which) => {
                    let Some(pod) = pod(&model, *which) else { continue };
                    let value = model.get(&pod).clone();
                    let status = model.get(&key)["status"].clone();
                    let before = healthy(&model);
                    let is_counted = status["currentHealthy"] == before
                        && status["observedGeneration"] == model.get(&key)["metadata"]["generation"];
                    let guarded = is_ready(&value) && !is_deleting(&value) && value["status"]["phase"] == "Running";
                    let gone = evict(&mut model, &pod);
                    if gone && guarded {
                        let allowed = status["disruptionsAllowed"].as_i64().unwrap();
                        prop_assert!(allowed > 0, "{status}");
                        let left = model.get(&key)["status"]["disruptionsAllowed"].as_i64().unwrap();
                        prop_assert_eq!(left, allowed - 1);
                        let needed = status["desiredHealthy"].as_i64().unwrap();
                        prop_assert!(!is_counted || healthy(&model) >= needed, "{status}");
                    }
                }
                Step::Kill(which) => {
                    if let Some(pod) = pod(&model, *which) {
                        model.remove(&pod);
                        plans(&mut model, 1);
                    }
                }
                Step::Passes(count) => passes(&mut model, usize::from(*count)),
                Step::Agent(which) => drop(pod(&model, *which).map(|pod| model.agent(&pod))),
                Step::Commit(which) => {
                    let snapshot = model.world().snapshot;
                    let gate = Gate::new(&ClusterConfig::default());
                    if let Some(step) = model.plan().steps.get(*which) {
                        let author = Author::controller(step.planner);
                        let passed = gate.admit_all(&snapshot, author, step.transaction.clone()).unwrap();
                        prop_assert!(model.commit(&passed.transaction));
                    }
                }
            }
            let status = &model.get(&key)["status"];
            for field in ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"] {
                prop_assert!(status[field].as_i64().unwrap() >= 0, "{status}");
            }
        }
        model.now += SignedDuration::from_secs(200);
        model.settle();
        prop_assert!(model.plan().steps.is_empty(), "stable");
        let [expected, needed, counted, allowed] = counts(&model, &key);
        prop_assert_eq!(counted, healthy(&model));
        prop_assert_eq!(allowed, if expected > 0 { (counted - needed).max(0) } else { 0 });
        prop_assert!(model.get(&key)["status"].get("disruptedPods").is_none());
    }
}
