//! Which pods does a job that goes on need now, and which are too many?

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Case, TRACKING, backoff,
    indexes::Indexes,
    tally::{FAILURES, IGNORED, INDEX, Member, State, Tally},
};
use crate::{object, outcome::Outcome, pods, selector};

/// A pod that is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct New {
    index: Option<i64>,
    /// How often pods of its index have failed, and how often that was ignored, where indexes fail for themselves.
    failures: Option<(i64, i64)>,
}

/// What there is to do.
#[derive(Default)]
pub(super) struct Making<'t, 'a> {
    pub(super) excess: Vec<&'t Member<'a>>,
    pub(super) new: Vec<New>,
}

pub(super) fn of<'t, 'a>(case: &Case<'_>, tally: &'t Tally<'a>, outcome: &mut Outcome<'_>) -> Making<'t, 'a> {
    let (mut useful, mut excess) = sorted(case, tally);
    let wanted = wanted(case, tally, useful.len());
    // The newest go first, and those that have come least far.
    useful.sort_by_key(|member| {
        let since = std::cmp::Reverse(object::created_at(member.pod.object));
        (member.pod.node().is_some(), member.pod.ready(), since, member.pod.object.key.clone())
    });
    let surplus = useful.len().saturating_sub(wanted);
    excess.extend(useful.drain(..surplus));
    if !excess.is_empty() {
        return Making { excess, new: Vec::new() };
    }
    // What is on its way out and not counted yet holds its place.
    let holds = |member: &&Member<'_>| matches!(member.state, State::Leaving | State::Next);
    let held = tally.members.iter().filter(holds).count();
    let missing = wanted.saturating_sub(useful.len()).saturating_sub(held);
    Making { excess, new: new(case, tally, missing, outcome) }
}

/// Pods that run: those that are of use, and those whose index is taken, done with or none.
fn sorted<'t, 'a>(case: &Case<'_>, tally: &'t Tally<'a>) -> (Vec<&'t Member<'a>>, Vec<&'t Member<'a>>) {
    if !case.is_indexed() {
        return (tally.active().collect(), Vec::new());
    }
    let mut all: Vec<&Member<'_>> = tally.active().collect();
    all.sort_by_key(|member| (object::created_at(member.pod.object), member.pod.object.key.clone()));
    let completions = case.completions().unwrap_or(0);
    let mut seen = BTreeSet::new();
    all.into_iter().partition(|member| {
        member.index.is_some_and(|index| {
            index < completions
                && !tally.completed.contains(index)
                && !tally.failed_indexes.contains(index)
                && seen.insert(index)
        })
    })
}

/// How many pods should run.
fn wanted(case: &Case<'_>, tally: &Tally<'_>, active: usize) -> usize {
    let parallelism = usize::try_from(case.spec.parallelism.unwrap_or(1)).unwrap_or(0);
    match case.completions() {
        Some(completions) => {
            let done = tally.succeeded.saturating_add(tally.failed_indexes.count());
            usize::try_from(completions.saturating_sub(done)).unwrap_or(0).min(parallelism)
        }
        // One has found that there is no work left: what runs goes on.
        None if tally.succeeded > 0 => active,
        None => parallelism,
    }
}

/// As many as are missing, may be made already, and do not wait for a node in vain.
fn new(case: &Case<'_>, tally: &Tally<'_>, missing: usize, outcome: &mut Outcome<'_>) -> Vec<New> {
    let waiting = tally.active().filter(|member| member.pod.node().is_none()).count();
    let most = pods::most_waiting(case.job.object).saturating_sub(waiting);
    if missing == 0 || !selects_its_own(case, outcome) {
        return Vec::new();
    }
    if most == 0 {
        let message =
            format!("{waiting} pods wait for a node: the {missing} that are missing are made after them");
        outcome.problem(case.job.object.key.clone(), message);
    }
    // One is enough to learn whether pods are let in again.
    let refused = case.view.world.refused(&case.job.object.key, super::draft::PODS).is_some();
    let count = missing.min(most).min(if refused { 1 } else { usize::MAX });
    let mut may = |due: jiff::Timestamp| {
        // A pod that ended in the future was told to by another clock, and is not waited for.
        let waits = due > case.view.now && due <= object::later(case.view.now, backoff::LONGEST);
        if waits {
            outcome.wake(due);
        }
        !waits
    };
    if case.limit_per_index().is_none() && !backoff::due(tally.members.iter()).is_none_or(&mut may) {
        return Vec::new();
    }
    if !case.is_indexed() {
        return vec![New { index: None, failures: None }; count];
    }
    let free = free_indexes(case, tally);
    let free = free.missing(case.completions().unwrap_or(0)).filter_map(|index| {
        let Some(last) = tally.awaited.get(&index).map(|place| &tally.members[*place]) else {
            return Some(New { index: Some(index), failures: case.limit_per_index().map(|_| (0, 0)) });
        };
        let (failures, ignored) = last.failures_before();
        let ignore = i64::from(last.is_ignored());
        let failures = failures.saturating_add(1_i64.saturating_sub(ignore));
        let ignored = ignored.saturating_add(ignore);
        may(backoff::due_after(last, failures.saturating_add(ignored)))
            .then_some(New { index: Some(index), failures: Some((failures, ignored)) })
    });
    free.take(count).collect()
}

/// A pod that its own job would let go of at once is not made, again and again.
fn selects_its_own(case: &Case<'_>, outcome: &mut Outcome<'_>) -> bool {
    let none = selector::Labels::new();
    let labels = case.spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let selects = |wanted| selector::matches(wanted, labels.unwrap_or(&none));
    let good = case.spec.selector.as_ref().is_some_and(selects);
    if !good {
        let message = "spec.selector does not select the labels of spec.template: make the job anew";
        outcome.problem(case.job.object.key.clone(), message);
    }
    good
}

/// Indexes of which no pod is made.
fn free_indexes(case: &Case<'_>, tally: &Tally<'_>) -> Indexes {
    let completions = case.completions().unwrap_or(0);
    let holds = |member: &&Member<'_>| matches!(member.state, State::Active | State::Leaving | State::Next);
    let held = tally.members.iter().filter(holds).filter_map(|member| member.index);
    let held = held.filter(|index| *index < completions);
    tally.completed.clone().and(&tally.failed_indexes).with(held)
}

/// The pods that are to be made, by name.
pub(super) fn build(case: &Case<'_>, new: &[New]) -> Vec<(String, Value)> {
    let mut taken = BTreeSet::new();
    let mut made = Vec::new();
    let plain = pods::prefix(case.job.name());
    let template = pods::template(case.job.object);
    let mut plain_names = pods::new_names(case.view, case.job.object, &plain);
    for new in new {
        let prefix = new.index.map(|index| pods::prefix(&format!("{}-{index}", case.job.name())));
        let free = |name: &String| !taken.contains(name);
        let name = match &prefix {
            Some(prefix) => pods::new_names(case.view, case.job.object, prefix).find(free),
            None => plain_names.find(free),
        };
        let Some(name) = name else { break };
        let prefix = prefix.as_ref().unwrap_or(&plain);
        let mut pod = pods::new_pod(case.view, case.job.object, &template, prefix, &name);
        object::add_finalizer(&mut pod, TRACKING);
        complete(case, *new, &mut pod);
        taken.insert(name.clone());
        made.push((name, pod));
    }
    made
}

/// What a pod with an index has beside its template.
fn complete(case: &Case<'_>, new: New, pod: &mut Value) {
    let Some(index) = new.index else { return };
    let text = index.to_string();
    object::annotate(pod, INDEX, &text);
    object::object_at(pod, &["metadata", "labels"]).insert(INDEX.to_owned(), text.into());
    if let Some((failures, ignored)) = new.failures {
        object::annotate(pod, FAILURES, failures.to_string());
        if ignored > 0 {
            object::annotate(pod, IGNORED, ignored.to_string());
        }
    }
    let spec = object::object_at(pod, &["spec"]);
    spec.insert("hostname".into(), format!("{}-{index}", case.job.name()).into());
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let slot = object::object_at(container, &[]).entry("env").or_insert_with(|| json!([]));
            let Some(variables) = slot.as_array_mut() else { continue };
            if variables.iter().all(|variable| variable["name"] != VARIABLE) {
                let field = json!({"fieldRef": {"fieldPath": format!("metadata.annotations['{INDEX}']")}});
                variables.push(json!({"name": VARIABLE, "valueFrom": field}));
            }
        }
    }
}

/// The variable that tells a container its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";
