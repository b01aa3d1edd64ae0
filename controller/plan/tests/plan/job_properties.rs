//! Jobs, whatever happens: exact counts, bounds, an end.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};
use warren_state::Key;

use crate::{
    jobs::{cluster, holds, is_tracked, running},
    model::{Model, has_ended, is_deleting},
};

#[derive(Debug, Clone)]
enum Event {
    End { which: usize, code: i32 },
    Delete { which: usize },
    Agents,
    Commit { count: usize },
    Restart,
    Wait { seconds: i64 },
    Suspend { suspend: bool },
    Parallelism { count: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6usize, 0..2i32).prop_map(|(which, code)| Event::End { which, code }),
        2 => (0..6usize).prop_map(|which| Event::Delete { which }),
        3 => Just(Event::Agents),
        6 => (0..4usize).prop_map(|count| Event::Commit { count }),
        1 => Just(Event::Restart),
        2 => prop_oneof![1..5i64, Just(15), Just(400)].prop_map(|seconds| Event::Wait { seconds }),
        1 => any::<bool>().prop_map(|suspend| Event::Suspend { suspend }),
        1 => (1..5i64).prop_map(|count| Event::Parallelism { count }),
    ]
}

/// Who is not counted yet, and how it ended if it has; how often what was done.
#[derive(Default)]
struct Ledger {
    due: BTreeMap<String, Option<bool>>,
    succeeded: i64,
    failed: i64,
    active: usize,
}

impl Ledger {
    fn look(&mut self, model: &Model, job: &Key, early: bool) {
        let value = model.get(job);
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let tracked: BTreeMap<String, &Value> =
            model.pods().filter(|(_, pod)| is_tracked(pod)).map(|(_, pod)| (uid(pod), pod)).collect();
        for (uid, end) in std::mem::take(&mut self.due) {
            // What still runs is stopped: it has failed with the job, or was not needed.
            let success = end.or(holds(value, "FailureTarget").then_some(false));
            match success.filter(|_| !tracked.contains_key(&uid)) {
                Some(true) => self.succeeded += 1,
                Some(false) => self.failed += 1,
                None => {}
            }
        }
        for (uid, pod) in tracked {
            let let_go = is_deleting(pod) && pod["metadata"]["deletionGracePeriodSeconds"] == 0;
            let unplaced = is_deleting(pod) && !pod["spec"]["nodeName"].is_string();
            let ended = has_ended(pod) || let_go || unplaced || (early && is_deleting(pod));
            self.due.insert(uid, ended.then(|| pod["status"]["phase"] == "Succeeded"));
        }
        let number = |name: &str| value["status"][name].as_i64().unwrap_or(0);
        assert_eq!((number("succeeded"), number("failed")), (self.succeeded, self.failed), "counted once");
        let completions = value["spec"]["completions"].as_i64();
        assert!(completions.is_none_or(|most| self.succeeded <= most), "more successes than were asked for");
        let active = running(model, "task").len();
        let parallelism = value["spec"]["parallelism"].as_u64().unwrap() as usize;
        assert!(active <= self.active || active <= parallelism, "{active} pods, {parallelism} at a time");
        self.active = active;
    }
}

fn happen(model: &mut Model, job: &Key, ledger: &mut Ledger, early: bool, event: &Event) {
    let nth = |model: &Model, which: usize| {
        let pods = model.pods().filter(|(_, pod)| !has_ended(pod) && pod["spec"]["nodeName"].is_string());
        pods.map(|(key, _)| key.clone()).nth(which)
    };
    match event {
        Event::End { which, code } => {
            if let Some(key) = nth(model, *which) {
                model.end(&key, *code);
            }
        }
        Event::Delete { which } => {
            let key = model.pods().map(|(key, _)| key.clone()).nth(*which);
            if let Some(key) = key {
                model.delete_pod(&key);
            }
        }
        Event::Agents => drop(model.agents()),
        Event::Commit { count } => {
            let snapshot = model.world().snapshot;
            for step in model.plan().steps.iter().take(*count) {
                let admitted = model.admit(&snapshot, step).expect("nothing of ours is refused");
                model.commit(&admitted);
                ledger.look(model, job, early);
            }
        }
        Event::Restart => model.restart(),
        Event::Wait { seconds } => model.now += SignedDuration::from_secs(*seconds),
        Event::Suspend { suspend } => model.change(job, |job| job["spec"]["suspend"] = (*suspend).into()),
        Event::Parallelism { count } => {
            model.change(job, |job| job["spec"]["parallelism"] = (*count).into());
        }
    }
    ledger.look(model, job, early);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 1_000, ..ProptestConfig::default() })]

    /// Whatever happens to the pods, and wherever the controller dies: each pod that ended is counted once, no more pods
    /// run than may, no more succeed than are wanted, and the job ends. What is written passes the rules of the API.
    #[test]
    fn every_pod_that_ends_is_counted_once(
        completions in proptest::option::of(1..6i64),
        indexed in any::<bool>(),
        early in any::<bool>(),
        limit in 0..4usize,
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut model = cluster();
        let backoff = [1_000_000, 1_000_000, 4, 0][limit];
        let mut spec = json!({"parallelism": 3, "backoffLimit": backoff});
        if let Some(completions) = completions {
            spec["completions"] = completions.into();
            spec["completionMode"] = if indexed { "Indexed" } else { "NonIndexed" }.into();
            if indexed && limit == 1 {
                spec["backoffLimitPerIndex"] = 1.into();
            }
        }
        spec["podReplacementPolicy"] = if early { "TerminatingOrFailed" } else { "Failed" }.into();
        let job = model.job("task", spec);
        let mut ledger = Ledger::default();
        for event in &events {
            happen(&mut model, &job, &mut ledger, early, event);
        }
        model.change(&job, |job| job["spec"]["suspend"] = false.into());
        let ended = |model: &Model| ["Complete", "Failed"].iter().any(|kind| holds(model.get(&job), kind));
        for _ in 0..20 {
            if ended(&model) {
                break;
            }
            for _ in 0..40 {
                happen(&mut model, &job, &mut ledger, early, &Event::Commit { count: 100 });
                happen(&mut model, &job, &mut ledger, early, &Event::Agents);
                happen(&mut model, &job, &mut ledger, early, &Event::Wait { seconds: 1 });
                if model.plan().steps.is_empty() && !model.agents() {
                    break;
                }
            }
            running(&model, "task").iter().for_each(|key| model.end(key, 0));
            ledger.look(&model, &job, early);
            model.now += SignedDuration::from_secs(400);
        }
        prop_assert!(ended(&model), "{}", model.get(&job)["status"]);
        prop_assert!(limit > 0 || holds(model.get(&job), "Complete"), "{}", model.get(&job)["status"]);
        model.settle();
        prop_assert!(model.pods().all(|(_, pod)| !is_tracked(pod)));
    }
}
