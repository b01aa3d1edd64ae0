//! Rollouts whose pods run and answer errors: the gateways' figures take them back.

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};
use warren_plan::{Answered, Answers, maker};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, condition, is_ready, rolling},
    rollbacks::{ROLLED_BACK, all_ready, image, note, running, switch, told},
};

/// Pods of it are ready, and answer every request by 500.
const FAILING: &str = "error:2";

fn is_failing(pod: &Value) -> bool {
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
    image.contains("error") || image.contains("bad")
}

/// The ready pods by name, and whether they answer errors.
fn serving(model: &Model) -> BTreeMap<String, bool> {
    let ready = model.pods().filter(|(_, pod)| is_ready(pod));
    ready.map(|(key, pod)| (key.name.to_string(), is_failing(pod))).collect()
}

/// What a gateway saw that sent each of these pods so many requests.
fn window(pods: &BTreeMap<String, bool>, requests: u64) -> Arc<Answers> {
    let mut answers = Answers::new();
    for (pod, fails) in pods {
        let answered = Answered { requests, failures: if *fails { requests } else { 0 } };
        let sum = answers.entry(maker("default", pod).unwrap()).or_default();
        *sum = sum.and(answered);
    }
    Arc::new(answers)
}

/// A gateway tells what it sees, and only so many of the windows before are young enough.
pub(crate) fn answer(model: &mut Model, requests: u64, kept: usize) {
    let windows = &mut model.usage.windows;
    windows.drain(..windows.len().saturating_sub(kept));
    let window = window(&serving(model), requests);
    model.usage.windows.push(window);
}

/// Everything goes on for a while, a window each second.
fn go_on(model: &mut Model, requests: u64) {
    for _ in 0..30 {
        model.pass();
        model.agents();
        answer(model, requests, 5);
        model.now += SignedDuration::from_secs(1);
    }
    model.settle();
}

#[test]
fn a_rollout_that_answers_errors_returns_whole_and_says_the_figures() {
    for restarts in [false, true] {
        let (mut model, key) = running(3, rolling(json!(1), json!(0)));
        model.set_image(&key, FAILING);
        for _ in 0..100 {
            model.pass();
            model.agents();
            answer(&mut model, 60, 5);
            if restarts {
                model.restart();
            }
            if image(&model, &key) != FAILING {
                break;
            }
        }
        assert_eq!(image(&model, &key), "image:1");
        assert!(all_ready(&model, "image:1") > 0, "it is caught before the last good pod goes");
        model.settle();
        assert_eq!((all_ready(&model, "image:1"), model.active("web").count()), (3, 3));
        let said = condition(model.get(&key), "RolledBack");
        assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("ErrorRateRegressed")));
        let message = said["message"].as_str().unwrap();
        let figures = |part: &str| message.contains(part);
        assert!(message.starts_with("Rolled back from revision 2 to revision 1 (ReplicaSet \""), "{message}");
        assert!(
            figures(" failed 60 of 60 requests (100.0%) that gateways sent them, those of "),
            "{message}"
        );
        assert!(figures(" 0 of 180 requests (0.0%) in the same time."), "{message}");
        assert_eq!(json!(told(&model)), json!([message]));
    }
}

#[test]
fn a_rollout_that_was_complete_before_anything_was_told_may_fail_for_two_minutes() {
    for (seconds, expected) in [(0, "image:1"), (100, "image:1"), (130, FAILING)] {
        let (mut model, key) = running(3, json!({}));
        let before = serving(&model);
        model.set_image(&key, FAILING);
        model.settle();
        assert_eq!(all_ready(&model, FAILING), 3);
        model.now += SignedDuration::from_secs(seconds);
        let mut both = serving(&model);
        assert!(both.values().all(|fails| *fails));
        // The old pods are gone by now.
        both.extend(before);
        model.usage.windows = vec![window(&both, 20)];
        model.settle();
        assert_eq!(image(&model, &key), expected, "{seconds}");
    }
}

#[test]
fn without_figures_of_both_at_the_same_time_nothing_is_judged() {
    let (mut model, key) = running(3, json!({}));
    let before = serving(&model);
    model.set_image(&key, FAILING);
    model.settle();
    let after = serving(&model);
    let both: BTreeMap<_, _> = before.clone().into_iter().chain(after.clone()).collect();
    let all_fail: BTreeMap<_, _> = both.keys().map(|pod| (pod.clone(), true)).collect();
    let other = BTreeMap::from([("other-1-abcde".to_owned(), true), ("bare".repeat(3) + "-zzzzz", false)]);
    for (what, windows) in [
        ("gateways of earlier versions", vec![]),
        ("one after the other", vec![window(&before, 1_000), window(&after, 1_000)]),
        ("different gateways", vec![window(&after, 1_000), window(&before, 1_000), window(&other, 1_000)]),
        ("too few", vec![window(&both, 5), window(&both, 5), window(&both, 6)]),
        ("both suffer", vec![window(&all_fail, 1_000)]),
    ] {
        model.usage.windows = windows;
        model.settle();
        assert_eq!((image(&model, &key), told(&model).len()), (FAILING, 0), "{what}");
    }
    // Enough in several windows, and one who does not want it.
    model.usage.windows = (0..4).map(|_| window(&both, 5)).collect();
    switch(&mut model, &key, Some("false"));
    model.settle();
    assert_eq!(image(&model, &key), FAILING);
    switch(&mut model, &key, None);
    switch(&mut model, &Key::new(NAMESPACES, "", "default"), Some("true"));
    model.settle();
    assert_eq!((image(&model, &key), told(&model).len()), ("image:1", 1));
}

#[test]
fn what_came_back_stays_and_so_does_what_somebody_insists_on() {
    let (mut model, key) = running(3, json!({}));
    model.set_image(&key, FAILING);
    go_on(&mut model, 60);
    assert_eq!((image(&model, &key), told(&model).len()), ("image:1", 1));
    go_on(&mut model, 60);
    assert_eq!((image(&model, &key), told(&model).len()), ("image:1", 1), "it is not tried again");
    assert!(note(&model, &key, ROLLED_BACK).is_some());
    for _ in 0..3 {
        model.set_image(&key, FAILING);
        go_on(&mut model, 60);
        assert_eq!(
            (image(&model, &key), told(&model).len()),
            (FAILING, 1),
            "who applies it once more wants it"
        );
    }
    assert_eq!((all_ready(&model, FAILING), note(&model, &key, ROLLED_BACK)), (3, None));
    // Another one is judged again, against what runs now.
    model.set_image(&key, "image:3");
    go_on(&mut model, 60);
    model.now += SignedDuration::from_secs(200);
    model.set_image(&key, "error:4");
    go_on(&mut model, 60);
    assert_eq!((image(&model, &key), told(&model).len()), ("image:3", 2));
}

#[test]
fn a_name_that_is_too_long_for_its_pods_is_judged_by_nothing() {
    assert_eq!(maker("a", "web-5d4f-abcde"), maker("a", "web-5d4f-vwxyz"));
    assert_ne!(maker("a", "web-5d4f-abcde"), maker("b", "web-5d4f-abcde"));
    for pod in ["", "-", "web", "web-0", "-abcde", "web-abcdef", "\u{e9}-\u{e9}\u{e9}\u{e9}", &"x".repeat(63)]
    {
        assert_eq!(maker("a", pod), None, "{pod}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// However far each pass comes, and whenever gateways tell what they see.
    #[test]
    fn a_rollout_that_answers_errors_is_taken_back_once_and_within_its_limits(
        replicas in 2..6i64,
        surge in 0..4i64,
        unavailable in 0..2i64,
        chances in proptest::collection::vec((0..12usize, 0..30usize, 0..200u64, any::<bool>()), 10..60),
    ) {
        let unavailable = if surge == 0 { 1 } else { unavailable };
        let (min, max) = ((replicas - unavailable).max(0), replicas + surge);
        let (mut model, key) = running(replicas, rolling(json!(surge), json!(unavailable)));
        model.set_image(&key, FAILING);
        let mut steps = chances.into_iter().chain(std::iter::repeat((0, usize::MAX, 100, true)));
        let mut quiet = 0;
        while quiet < 4 {
            let (which, after, requests, tells) = steps.next().unwrap();
            let plan = model.plan();
            for step in plan.steps.iter().take(after) {
                prop_assert!(model.commit(&step.transaction), "{}", step.why);
                model.check();
                let ready = model.active("web").filter(|(_, pod)| is_ready(pod)).count() as i64;
                let all = model.active("web").count() as i64;
                prop_assert!(ready >= min, "{ready} ready, {min} wanted after {}", step.why);
                prop_assert!(all <= max, "{all} pods, {max} allowed after {}", step.why);
            }
            if tells {
                answer(&mut model, requests, 5);
            }
            let pod = model.pods().nth(which).map(|(key, _)| key.clone());
            pod.map(|key| model.agent(&key));
            if plan.steps.is_empty() && !model.agents() {
                quiet += 1;
            } else if after == usize::MAX {
                quiet = 0;
            }
            model.now += SignedDuration::from_secs(1);
        }
        // One revision alone, whichever it is, and it stays.
        let wanted = image(&model, &key).to_owned();
        let count = told(&model).len();
        prop_assert_eq!(count, usize::from(wanted == "image:1"));
        prop_assert_eq!((all_ready(&model, &wanted) as i64, model.active("web").count() as i64), (replicas, replicas));
        go_on(&mut model, 100);
        let again = (image(&model, &key), told(&model).len());
        prop_assert!(again == (&*wanted, count) || again == ("image:1", 1), "{again:?} after {wanted}");
    }
}
