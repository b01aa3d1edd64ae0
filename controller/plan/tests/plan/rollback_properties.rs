//! However a rollout fails and whatever happens meanwhile: it is taken back once, whole, and within the limits.

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{is_ready, rolling},
    regressions::answer,
    rollbacks::{ROLLED_BACK, fail, running, switch, told},
};

/// By what a rollout fails.
const HOWS: [&str; 4] = ["CrashLoopBackOff", "ErrImagePull", "InvalidImageName", "a deadline"];

#[derive(Debug, Clone)]
enum Event {
    Image(u8),
    /// On the deployment, its namespace or the cluster's.
    Switch(usize, Option<bool>),
    Fail {
        how: usize,
        restarts: i32,
        every: usize,
    },
    Scale(i64),
    Pause(bool),
    Recreate(bool),
    Silence(usize, u64),
    Some(u32),
    Agents,
    Wait(i64),
    Forget(usize),
    /// What a gateway saw, and how many of its older windows are still remembered.
    Answers(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..4u8).prop_map(Event::Image),
        3 => (0..3usize, proptest::option::of(any::<bool>())).prop_map(|(of, on)| Event::Switch(of, on)),
        6 => (0..3usize, 0..4i32, 1..3usize)
            .prop_map(|(how, restarts, every)| Event::Fail { how, restarts, every }),
        1 => (0..5i64).prop_map(Event::Scale),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => any::<bool>().prop_map(Event::Recreate),
        1 => (1..4usize, prop_oneof![Just(0), Just(3)]).prop_map(|(node, seconds)| Event::Silence(node, seconds)),
        4 => any::<u32>().prop_map(Event::Some),
        4 => Just(Event::Agents),
        3 => prop_oneof![1..8i64, Just(61), Just(121), Just(601)].prop_map(Event::Wait),
        1 => (0..3usize).prop_map(Event::Forget),
        4 => (0..4usize).prop_map(Event::Answers),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_failing_rollout_is_taken_back_once_and_within_its_limits(
        replicas in 1..6i64,
        surge in 0..4i64,
        unavailable in 0..4i64,
        recreate in any::<bool>(),
        how in 0..HOWS.len(),
        chances in proptest::collection::vec((0..12usize, 0..30usize), 10..60),
    ) {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let (min, max) = if recreate { (0, replicas) } else { ((replicas - unavailable).max(0), replicas + surge) };
        let strategy =
            if recreate { json!({"type": "Recreate"}) } else { rolling(json!(surge), json!(unavailable)) };
        let (mut model, key) = running(replicas, strategy);
        model.change(&key, |value| value["spec"]["progressDeadlineSeconds"] = 120.into());
        model.set_image(&key, "image:2");
        model.settle();
        model.set_image(&key, "bad");
        let mut steps = chances.into_iter().chain(std::iter::repeat((0, usize::MAX)));
        let mut quiet = 0;
        while quiet < 4 {
            let (which, after) = steps.next().unwrap();
            let plan = model.plan();
            for step in plan.steps.iter().take(after) {
                prop_assert!(model.commit(&step.transaction), "{}", step.why);
                model.check();
                let ready = model.active("web").filter(|(_, pod)| is_ready(pod)).count() as i64;
                let all = model.active("web").count() as i64;
                prop_assert!(ready >= min, "{ready} ready, {min} wanted after {}", step.why);
                prop_assert!(all <= max, "{all} pods, {max} allowed after {}", step.why);
            }
            let pod = model.pods().nth(which).map(|(key, _)| key.clone());
            pod.map(|key| model.agent(&key));
            let failed = how < 3 && fail(&mut model, HOWS[how], 1, |_| true);
            if plan.steps.is_empty() && !failed && !model.agents() {
                quiet += 1;
                model.now += SignedDuration::from_secs(60);
            } else if after == usize::MAX {
                quiet = 0;
            }
            model.now += SignedDuration::from_secs(1);
        }
        prop_assert_eq!(model.active("web").count() as i64, replicas);
        prop_assert!(model.pods().all(|(_, pod)| pod["spec"]["containers"][0]["image"] == "image:2" && is_ready(pod)));
        prop_assert_eq!(told(&model).len(), 1);
        prop_assert!(model.get(&key)["metadata"]["annotations"][ROLLED_BACK].is_string());
    }

    /// The model compares what is planned for what was touched with what is planned afresh.
    #[test]
    fn whatever_a_rollback_depends_on_is_touched(events in proptest::collection::vec(event(), 1..40)) {
        let (mut model, key) = running(3, rolling(json!(2), json!(1)));
        model.namespace("kube-system");
        for event in &events {
            match event {
                Event::Image(image) => {
                    model.set_image(&key, &format!("{}:{image}", if *image < 2 { "image" } else { "bad" }));
                }
                Event::Switch(of, on) => {
                    let namespace = Key::new(NAMESPACES, "", if *of == 1 { "default" } else { "kube-system" });
                    let said = on.map(|on| if on { "true" } else { "false" });
                    switch(&mut model, if *of == 0 { &key } else { &namespace }, said);
                }
                Event::Fail { how, restarts, every } => {
                    fail(&mut model, HOWS[*how], *restarts, |index| index.is_multiple_of(*every));
                }
                Event::Scale(replicas) => model.change(&key, |value| value["spec"]["replicas"] = (*replicas).into()),
                Event::Pause(paused) => model.change(&key, |value| value["spec"]["paused"] = (*paused).into()),
                Event::Recreate(recreate) => model.change(&key, |value| {
                    let rolling = rolling(json!(1), json!(1));
                    value["spec"]["strategy"] = if *recreate { json!({"type": "Recreate"}) } else { rolling };
                }),
                Event::Silence(node, seconds) => model.hear(*node, *seconds),
                Event::Some(which) => {
                    for (index, step) in model.plan().steps.iter().enumerate() {
                        if which >> (index % 32) & 1 == 1 {
                            model.commit(&step.transaction);
                        }
                    }
                }
                Event::Agents => drop(model.agents()),
                Event::Wait(seconds) => model.now += SignedDuration::from_secs(*seconds),
                Event::Answers(kept) => answer(&mut model, 40, *kept),
                Event::Forget(which) => {
                    let set = model.list(REPLICASETS).nth(*which).map(|(key, _)| key.clone());
                    if let Some(set) = set {
                        model.remove(&set);
                    }
                }
            }
            drop(model.plan());
        }
        (1..4).for_each(|node| model.hear(node, 0));
        model.change(&key, |value| value["spec"]["paused"] = false.into());
        // It comes to rest, whoever fails.
        for _ in 0..3 {
            model.settle();
            fail(&mut model, "CrashLoopBackOff", 1, |_| true);
        }
        model.settle();
    }
}
